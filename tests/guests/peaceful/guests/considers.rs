//! `consider`, an interceptor for every point: it goes round as often as its argument `rounds` says for
//! routing keys that begin with `slow`, and sets the header `considered`.

use leveret_guests_peaceful::busy::be_busy;
use leveret_sdk::*;

struct Consider(u64);

impl Interceptor for Consider {
    fn describe() -> InterceptorDescription {
        InterceptorDescription::new("consider", "Takes its time", Point::Publish)
            .at(Point::Deliver)
            .at(Point::DeadLetter)
            .required_argument("rounds", Kind::Integer, "how often to go round")
    }

    fn open(attachment: &Attachment) -> Result<Self, Refusal> {
        let rounds: i64 = attachment.arguments.required("rounds")?;
        Ok(Self(rounds.unsigned_abs()))
    }

    fn reads(&self) -> Reads {
        Reads::nothing().routing_key()
    }

    fn intercept(&mut self, message: &Message<'_>) -> Verdict {
        if message.routing_key().starts_with(b"slow") {
            be_busy(self.0);
        }
        Patch::new().set_header("considered", "yes").into()
    }
}

export_interceptors!(Consider);
