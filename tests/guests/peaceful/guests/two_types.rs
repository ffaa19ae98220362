//! Two exchange types in one component: `x-all` to every binding, `x-nowhere` to none. The second
//! drops what has the routing key `drop`, and rejects what has `reject`.

use leveret_sdk::{
    Binding, BindingId, BindingIndex, Decision, Declaration, Description, ExchangeType, Message, Reads,
    Refusal, Targets,
};

struct All(BindingIndex<()>);

impl ExchangeType for All {
    fn describe() -> Description {
        Description::new("x-all", "To every binding").pure().independent_bindings()
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self(BindingIndex::default()))
    }

    fn reads(&self) -> Reads {
        Reads::nothing()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.0.insert((), binding.id);
        Ok(())
    }

    fn unbind(&mut self, id: BindingId) {
        self.0.remove(id);
    }

    fn route(&mut self, _: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        to.extend_from_slice(self.0.get(&()));
        Decision::Deliver
    }
}

struct Nowhere;

impl ExchangeType for Nowhere {
    fn describe() -> Description {
        Description::new("x-nowhere", "To no binding").pure()
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        match declaration.arguments.optional::<&str>("x-refuse")? {
            Some(reason) => Err(reason.into()),
            None => Ok(Self),
        }
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        match binding.arguments.optional::<&str>("x-refuse")? {
            Some(reason) => Err(reason.into()),
            None => Ok(()),
        }
    }

    fn unbind(&mut self, _: BindingId) {}

    fn route(&mut self, message: &Message<'_>, _: &mut Targets<'_>) -> Decision {
        match message.routing_key() {
            b"drop" => Decision::Drop("".into()),
            b"reject" => Decision::Reject("rejected, since the routing key says so".into()),
            _ => Decision::Deliver,
        }
    }
}

leveret_sdk::export!(All, Nowhere);
