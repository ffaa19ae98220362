//! Write a Leveret plugin in Rust: an exchange type, an interceptor, or both.
//!
//! A plugin is a WebAssembly component that the broker loads, and replaces, while it runs. This crate is
//! what its author imports: implement a trait for a struct, name the struct in a macro, and build:
//!
//! ```text
//! rustup target add wasm32-wasip2               # once
//! cargo build --release --target wasm32-wasip2
//! ```
//!
//! The crate's `Cargo.toml` says `crate-type = ["cdylib", "rlib"]` below `[lib]`: the first makes the component,
//! the second lets `cargo test` have the code natively.
//!
//! An exchange type decides where the messages of an exchange go ([`ExchangeType`], [`export!`]):
//!
//! ```
//! use leveret_sdk::{Binding, BindingId, BindingIndex, Decision, Declaration, Description};
//! use leveret_sdk::{ExchangeType, Message, Reads, Refusal, Targets};
//!
//! /// To the bindings whose key is the routing key.
//! struct Exact(BindingIndex);
//!
//! impl ExchangeType for Exact {
//!     fn describe() -> Description {
//!         Description::new("x-exact", "To the bindings whose key is the routing key").pure().independent_bindings()
//!     }
//!     fn open(_: &Declaration) -> Result<Self, Refusal> {
//!         Ok(Self(BindingIndex::new()))
//!     }
//!     fn reads(&self) -> Reads {
//!         Reads::nothing().routing_key()
//!     }
//!     fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
//!         self.0.insert(binding.routing_key, binding.id);
//!         Ok(())
//!     }
//!     fn unbind(&mut self, id: BindingId) {
//!         self.0.remove(id);
//!     }
//!     fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
//!         to.extend_from_slice(self.0.get(message.routing_key()));
//!         Decision::Deliver
//!     }
//! }
//!
//! leveret_sdk::export!(Exact);
//! # fn main() {}
//! ```
//!
//! An interceptor looks at messages on their way and may change, drop or reject them ([`Interceptor`],
//! [`export_interceptors!`]):
//!
//! ```
//! use leveret_sdk::{Attachment, Interceptor, InterceptorDescription, Kind, Message, Patch, Point, Reads};
//! use leveret_sdk::{Refusal, Verdict, clock};
//!
//! /// Sets a header to the time when the message was published.
//! struct Stamp {
//!     header: String,
//! }
//!
//! impl Interceptor for Stamp {
//!     fn describe() -> InterceptorDescription {
//!         InterceptorDescription::new("stamp", "Says when a message was published", Point::Publish)
//!             .required_argument("header", Kind::Text, "the header that says so")
//!     }
//!     fn open(attachment: &Attachment) -> Result<Self, Refusal> {
//!         Ok(Self { header: attachment.arguments.required::<&str>("header")?.to_owned() })
//!     }
//!     fn reads(&self) -> Reads {
//!         Reads::nothing()
//!     }
//!     fn intercept(&mut self, _: &Message<'_>) -> Verdict {
//!         Patch::new().set_header(&self.header, clock::now()).into()
//!     }
//! }
//!
//! leveret_sdk::export_interceptors!(Stamp);
//! # fn main() {}
//! ```
//!
//! What reaches further than the call is a [`capability`]: time, chance, a log, values and messages that are
//! kept, timers, messages to queues and exchanges. A component imports those that its code calls, and the
//! operator grants them. What an exchange type can do beside routing is an optional trait ([`Marks`],
//! [`Events`], [`Timers`], [`Info`], [`Reconfigure`], [`Migrate`]), named in the macro: `export!(Mine: Events + Info)`.
//!
//! *Not here:* the broker, WebAssembly's runtime, any I/O. A plugin has none: WASI is an empty room.
//!
//! *In and out:* the broker's calls come in as `wit/0.2.0/exchange-type.wit` and `interceptor.wit` declare them
//! and are passed on to the struct of the exchange or attachment they concern; answers go out. Messages
//! arrive many at a time in the flat layout of `wit/CONTRACT.md`, "Batches"; [`Message`] reads from those
//! bytes without copying, so a type that looks only at the routing key allocates nothing.
//!
//! *Invariants:* one value of the struct per exchange and instance; a list of bindings is taken
//! whole or not at all; what [`ExchangeType::reads`] does not select is never there to be read.
//!
//! On other targets than WebAssembly the `testkit` module (there is none in a component) opens, binds, routes
//! and intercepts in a plain `cargo test`, through the very same bytes, and capabilities work in memory.
//!
//! Read [`exchange_type`] or [`interceptor`] first, then [`message`] and [`capability`]; [`component`] is the
//! inside.

#[cfg(test)]
mod any_bytes;
pub mod arguments;
pub mod binding_index;
pub mod capability;
pub mod component;
mod contract;
mod dense_table;
pub mod description;
pub mod exchange_type;
mod export;
mod extendible_map;
pub mod interceptor;
pub mod mark;
pub mod message;
pub mod patch;
mod projection;
pub mod quick_hash;
pub mod reads;
pub mod refusal;
mod segmented_vec;
pub mod targets;
#[cfg(not(target_family = "wasm"))]
pub mod testkit;
pub mod value;

#[doc(hidden)]
#[allow(missing_docs, unreachable_pub, unsafe_op_in_unsafe_fn, clippy::all)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "generated")]
pub mod generated {
    include!("../generated/plugin.rs");

    /// The encoded types of worlds that export one interface each; a component carries those of the
    /// interfaces it exports.
    pub const EXCHANGE_TYPE: &[u8] = include_bytes!("../generated/exchange-type.bin");
    pub const EXCHANGE_TYPE_BATCH: &[u8] = include_bytes!("../generated/exchange-type-batch.bin");
    pub const EXCHANGE_TYPE_MARKS: &[u8] = include_bytes!("../generated/exchange-type-marks.bin");
    pub const EXCHANGE_TYPE_EVENTS: &[u8] = include_bytes!("../generated/exchange-type-events.bin");
    pub const EXCHANGE_TYPE_TIMERS: &[u8] = include_bytes!("../generated/exchange-type-timers.bin");
    pub const EXCHANGE_TYPE_INFO: &[u8] = include_bytes!("../generated/exchange-type-info.bin");
    pub const EXCHANGE_TYPE_RECONFIGURE: &[u8] = include_bytes!("../generated/exchange-type-reconfigure.bin");
    pub const EXCHANGE_TYPE_MIGRATE: &[u8] = include_bytes!("../generated/exchange-type-migrate.bin");
    pub const INTERCEPTOR: &[u8] = include_bytes!("../generated/interceptor.bin");
    pub const INTERCEPTOR_BATCH: &[u8] = include_bytes!("../generated/interceptor-batch.bin");
}

/// Where the generated code finds its runtime.
use wit_bindgen::rt as wit_bindgen_rt;

pub use arguments::Arguments;
pub use binding_index::{BindingIndex, KeyMap};
pub use capability::OutgoingMessage;
#[doc(no_inline)]
pub use capability::{
    clock, effects, emit, enqueue, holds, key_value, log, message_store, metric, queue_info, random, timers,
};
pub use description::{Description, InterceptorDescription, Kind, Point};
pub use exchange_type::{
    Binding, BindingId, Decision, Declaration, Destination, Events, ExchangeType, Info, InnerType, Marks,
    Migrate, Reconfigure, StoredId, Timers,
};
pub use extendible_map::ExtendibleMap;
pub use interceptor::{Attachment, Interceptor, Verdict};
pub use mark::Mark;
pub use message::{Message, Publisher};
pub use patch::Patch;
pub use reads::{Above, Property, Reads};
pub use refusal::Refusal;
pub use segmented_vec::SegmentedVec;
pub use targets::{Few, Targets};
pub use value::Value;
