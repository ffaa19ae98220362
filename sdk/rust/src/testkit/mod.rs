//! Opens, binds, routes and intercepts in a plain `cargo test`, without a broker and without WebAssembly.
//!
//! Messages pass through the very bytes that the broker would lay out: what the type did not
//! declare to read is not there. A plugin that reads it all the same fails the test, with the declaration that is
//! missing.
//! Capabilities work: each exchange has a [`Host`] with a clock that stands still until it is moved, with
//! keys and values, timers, a log; and what a message does takes place only if it is accepted.
//!
//! ```
//! # use leveret_sdk::{Binding, BindingId, Decision, Declaration, Description, ExchangeType, Message, Reads, Refusal, Targets};
//! # struct Last(Option<BindingId>);
//! # impl ExchangeType for Last {
//! #     fn describe() -> Description { Description::new("x-last", "To the binding made last") }
//! #     fn open(_: &Declaration) -> Result<Self, Refusal> { Ok(Self(None)) }
//! #     fn reads(&self) -> Reads { Reads::nothing() }
//! #     fn bind(&mut self, binding: Binding) -> Result<(), Refusal> { self.0 = Some(binding.id); Ok(()) }
//! #     fn unbind(&mut self, _: BindingId) {}
//! #     fn route(&mut self, _: &Message<'_>, to: &mut Targets<'_>) -> Decision { to.extend(self.0); Decision::Deliver }
//! # }
//! use leveret_sdk::{Arguments, testkit::{Exchange, Routed, TestMessage}};
//!
//! let mut exchange = Exchange::<Last>::open(Arguments::new())?;
//! let first = exchange.bind("key", Arguments::new())?;
//! let last = exchange.bind("key", Arguments::new().with("x-weight", 3))?;
//! assert_eq!(exchange.route("key"), Routed::to([last]));
//! let message = TestMessage::new("key").header("kind", "report").body("text");
//! assert_ne!(exchange.route_message(&message), Routed::to([first]));
//! # Ok::<(), Refusal>(())
//! ```

mod attached;
mod exchange;
mod host;
pub(crate) mod imports;
mod message;
mod state;
mod topic;
pub(crate) mod undeclared;

pub use attached::{Attached, Judged};
pub use exchange::{Exchange, Routed};
pub use host::{Host, Undecided};
pub use message::TestMessage;
