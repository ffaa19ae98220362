//! Write a Leveret exchange type in Rust.
//!
//! An exchange type decides where the messages of an exchange go. It is a WebAssembly component
//! that the broker loads, and replaces, while it runs. This crate is what its author imports:
//! implement [`ExchangeType`] for a struct, name it in [`export!`], and build:
//!
//! ```text
//! cargo build --release --target wasm32-wasip2
//! ```
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
//! *Not here:* the broker, WebAssembly's runtime, any I/O. A plugin has none: WASI is an empty room.
//!
//! *In and out:* the broker's calls come in as `wit/0.1.0/exchange-type.wit` declares them and are passed
//! on to the struct of the exchange they concern; answers go out as binding ids. Messages arrive
//! many at a time in the flat layout of `wit/CONTRACT.md`, "Batches"; [`Message`] reads from those
//! bytes without copying, so a type that looks only at the routing key allocates nothing.
//!
//! *Invariants:* one value of the struct per exchange and instance; a list of bindings is taken
//! whole or not at all; what [`ExchangeType::reads`] does not select is never there to be read.
//!
//! On other targets than WebAssembly the `testkit` module (there is none in a component) opens, binds and
//! routes in a plain `cargo test`, through the very same bytes.
//!
//! Read [`exchange_type`] first, then [`message`]; [`component`] is the inside.

pub mod arguments;
pub mod binding_index;
pub mod component;
mod contract;
pub mod exchange_type;
pub mod message;
pub mod reads;
pub mod targets;
#[cfg(not(target_family = "wasm"))]
pub mod testkit;
pub mod value;

#[doc(hidden)]
#[allow(missing_docs, unreachable_pub, unsafe_op_in_unsafe_fn, clippy::all)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "generated")]
pub mod generated {
    include!("../generated/exchange_type_plugin.rs");

    /// The encoded type of the world `exchange-type-batch-plugin`, which every component carries.
    pub const WORLD: &[u8] = include_bytes!("../generated/exchange-type-batch-plugin.bin");
    /// The encoded type of the world `exchange-type-plugin`, for a component without the batch form.
    pub const PLAIN_WORLD: &[u8] = include_bytes!("../generated/exchange-type-plugin.bin");
}

/// Where the generated code finds its runtime.
use wit_bindgen::rt as wit_bindgen_rt;

pub use arguments::Arguments;
pub use binding_index::{BindingIndex, KeyMap};
pub use exchange_type::{Binding, BindingId, Decision, Declaration, Description, ExchangeType, Refusal};
pub use message::Message;
pub use reads::{Property, Reads};
pub use targets::Targets;
pub use value::Value;

/// Makes a component of one or more exchange types.
///
/// ```text
/// leveret_sdk::export!(Prefix);
/// leveret_sdk::export!(Prefix, Suffix);
/// leveret_sdk::export!(version = "2.1.0", Prefix, Suffix);
/// ```
/// The version is for people to read; it is the crate's unless given. Once in a crate, at its top
/// level; the crate needs `crate-type = ["cdylib"]`, and `"rlib"` as well if it has tests elsewhere.
#[macro_export]
macro_rules! export {
    (version = $version:expr, $($exchange_type:ty),+ $(,)?) => {
        const _: () = {
            struct Plugin;
            impl $crate::component::Plugin for Plugin {
                const VERSION: &'static str = $version;
                const EXCHANGE_TYPES: &'static [$crate::component::Registration] =
                    &[$($crate::component::Registration::of::<$exchange_type>()),+];
            }
            $crate::__export_component!(Plugin);
        };
    };
    ($($exchange_type:ty),+ $(,)?) => {
        $crate::export!(version = env!("CARGO_PKG_VERSION"), $($exchange_type),+);
    };
}

/// Defines the functions that the component exports, and the section that describes them.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_component {
    ($plugin:ident) => {
        $crate::__export_component!($plugin, $crate::component::route_batch);
    };
    ($plugin:ident, $route_batch:path) => {
        $crate::__export_plain_functions!($plugin);
        $crate::__export_world!($crate::generated::WORLD);

        #[unsafe(export_name = "leveret:routing/exchange-type-batch@0.1.0#route-batch")]
        unsafe extern "C" fn export_route_batch(
            exchange: u32,
            messages: *mut u8,
            length_bytes: usize,
        ) -> *const usize {
            unsafe { $route_batch(exchange, messages, length_bytes) }
        }
    };
}

/// The same for a component without the batch form.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_plain_component {
    ($plugin:ident) => {
        $crate::__export_plain_functions!($plugin);
        $crate::__export_world!($crate::generated::PLAIN_WORLD);
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_plain_functions {
    ($plugin:ident) => {
        $crate::generated::exports::leveret::routing::exchange_type::__export_leveret_routing_exchange_type_0_1_0_cabi!(
            $plugin with_types_in $crate::generated::exports::leveret::routing::exchange_type
        );
    };
}

/// Puts the encoded type of a world where the linker looks for it.
#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export_world {
    ($world:path) => {
        const _: () = {
            #[unsafe(link_section = "component-type:leveret-exchange-type")]
            pub static WORLD: [u8; $world.len()] = {
                let mut bytes = [0; $world.len()];
                bytes.copy_from_slice($world);
                bytes
            };
        };
    };
}

/// On other targets nothing calls a plugin from outside; this only keeps its registration in use.
#[doc(hidden)]
#[macro_export]
#[cfg(not(target_family = "wasm"))]
macro_rules! __export_component {
    ($plugin:ident) => {
        const _: &[$crate::component::Registration] = <$plugin as $crate::component::Plugin>::EXCHANGE_TYPES;
    };
}
