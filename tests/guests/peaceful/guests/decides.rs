//! `x-decides`: decides as the routing key says, `hold` or `delegate`; any other message goes to all bindings. It
//! imports nothing, so nothing of it needs a grant until it decides. With the argument `x-behind` there is a fanout
//! behind it.

use leveret_sdk::*;
use std::time::Duration;

const BEHIND: &str = "x-behind";

struct Decides {
    bindings: Vec<BindingId>,
    has_inner: bool,
}

impl ExchangeType for Decides {
    fn describe() -> Description {
        Description::new("x-decides", "Decides as the routing key says").argument(
            BEHIND,
            Kind::Boolean,
            "whether a fanout is behind it",
        )
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        let has_inner = declaration.arguments.optional::<bool>(BEHIND)?.unwrap_or_default();
        Ok(Self { bindings: Vec::new(), has_inner })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn inner(&self) -> Option<InnerType> {
        self.has_inner.then(|| InnerType::new("fanout"))
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.bindings.push(binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.bindings.retain(|bound| *bound != id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        match message.routing_key() {
            b"hold" => Decision::Hold(Duration::from_millis(1)),
            b"delegate" => Decision::Delegate,
            _ => {
                to.extend_from_slice(&self.bindings);
                Decision::Deliver
            }
        }
    }
}

export!(Decides);
