//! One component with both kinds: an exchange type `x-all`, to every binding, and an interceptor `stamp`,
//! which on publish sets the header `stamp` to the broker's time, drops what has the routing key `drop` and
//! rejects what has `reject`.

use leveret_sdk::*;

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

struct Stamp;

impl Interceptor for Stamp {
    fn describe() -> InterceptorDescription {
        InterceptorDescription::new("stamp", "Says when a message was published", Point::Publish)
    }

    fn open(_: &Attachment) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn intercept(&mut self, message: &Message<'_>) -> Verdict {
        match message.routing_key() {
            b"drop" => Verdict::Drop("asked to".into()),
            b"reject" => Verdict::Reject("asked to".into()),
            _ => Patch::new().set_header("stamp", clock::now()).into(),
        }
    }
}

export!(All);
export_interceptors!(Stamp);
