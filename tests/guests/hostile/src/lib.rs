//! Components that misbehave, for the tests of what the broker does then.
//!
//! ```text
//! cargo build --release --target wasm32-wasip2 -p leveret-guests-hostile --examples
//! ```
//! makes `<target>/wasm32-wasip2/release/examples/<name>.wasm` of each file in `guests/`. Each is an
//! exchange type `x-<name>`, with `-` for `_`, that works like direct until it is asked to misbehave;
//! the file's header says how. Here is what they share.

use leveret_sdk::{Binding, BindingIndex, Message, Targets};

/// What a guest is while it behaves: a direct exchange.
#[derive(Debug, Default)]
pub struct Exact(pub BindingIndex);

impl Exact {
    /// Takes a binding.
    pub fn insert(&mut self, binding: Binding) {
        self.0.insert(binding.routing_key, binding.id);
    }

    /// Names the bindings of the message's key.
    pub fn route(&self, message: &Message<'_>, to: &mut Targets<'_>) {
        to.extend_from_slice(self.0.get(message.routing_key()));
    }
}

/// Implements [`leveret_sdk::ExchangeType`] for a struct with a field of [`Exact`], and exports it.
///
/// Given are the type's name and what to do before a message is routed; optionally what to do
/// before the other calls.
#[macro_export]
macro_rules! misbehaving {
    (
        $name:literal,
        route($message:ident, $to:ident) $route:block
        $(, describe $describe:block)?
        $(, open($declaration:ident) $open:block)?
        $(, bind($binding:ident) $bind:block)?
    ) => {
        struct Guest($crate::Exact);

        impl leveret_sdk::ExchangeType for Guest {
            fn describe() -> leveret_sdk::Description {
                $($describe)?
                leveret_sdk::Description::new($name, "Misbehaves").pure().independent_bindings()
            }

            fn open(declaration: &leveret_sdk::Declaration) -> Result<Self, leveret_sdk::Refusal> {
                $(let $declaration = declaration; $open)?
                let _ = declaration;
                Ok(Self(Default::default()))
            }

            fn reads(&self) -> leveret_sdk::Reads {
                leveret_sdk::Reads::nothing().routing_key()
            }

            fn bind(&mut self, binding: leveret_sdk::Binding) -> Result<(), leveret_sdk::Refusal> {
                $(let $binding = &binding; $bind)?
                self.0.insert(binding);
                Ok(())
            }

            fn unbind(&mut self, id: leveret_sdk::BindingId) {
                self.0.0.remove(id);
            }

            fn route(
                &mut self,
                $message: &leveret_sdk::Message<'_>,
                $to: &mut leveret_sdk::Targets<'_>,
            ) -> leveret_sdk::Decision {
                $route
                self.0.route($message, $to);
                leveret_sdk::Decision::Deliver
            }
        }
    };
}
