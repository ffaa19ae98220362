//! An interceptor `once`, which keeps state: it drops what has a routing key that it let pass before.

use leveret_sdk::*;

struct Once;

impl Interceptor for Once {
    fn describe() -> InterceptorDescription {
        InterceptorDescription::new("once", "Lets each routing key pass once", Point::Publish)
            .at(Point::Deliver)
            .at(Point::DeadLetter)
    }

    fn open(_: &Attachment) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn intercept(&mut self, message: &Message<'_>) -> Verdict {
        match key_value::Space::Memory.put_if_absent(message.routing_key(), b"seen", None) {
            Ok(true) => Verdict::Pass,
            Ok(false) => Verdict::Drop("seen before".into()),
            Err(_) => Verdict::Reject("the store is full".into()),
        }
    }
}

export_interceptors!(Once);
