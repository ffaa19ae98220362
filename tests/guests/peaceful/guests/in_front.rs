//! `x-in-front`, which the argument `x-message-deduplication` puts in front of other types, as it does the type of that name
//! which comes with the broker: it drops what has the routing key `mine`, and leaves all else to the type behind.

use leveret_sdk::*;

struct InFront;

impl ExchangeType for InFront {
    fn describe() -> Description {
        Description::new("x-in-front", "In front of others").stage("x-message-deduplication", 1)
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, _: Binding) -> Result<(), Refusal> {
        Ok(())
    }

    fn unbind(&mut self, _: BindingId) {}

    fn route(&mut self, message: &Message<'_>, _: &mut Targets<'_>) -> Decision {
        if message.routing_key() == b"mine" { Decision::Drop("mine".into()) } else { Decision::Delegate }
    }
}

export!(InFront);
