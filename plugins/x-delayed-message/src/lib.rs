//! The exchange type `x-delayed-message`: holds a message for as long as its header `x-delay` says, then it
//! goes where another type decides.
//!
//! Arguments and header are those of RabbitMQ's plugin of this name: `x-delayed-type` names the type that
//! decides, any that there is, and gets all other arguments; `x-delay` is in milliseconds. As a stage in front
//! of an exchange of any type it is asked for with `x-delayed-exchange`, as in LavinMQ.
//!
//! *Not here:* the waiting messages and their clock, which are the broker's: it keeps them, lists, counts and
//! cancels them, and returns a mandatory one that has nowhere to go when it is published.
//!
//! *In and out:* reads the header `x-delay`; answers hold or delegate.
//!
//! *Invariants:* pure: the header alone decides. A header that is no number of milliseconds from 1 to
//! [`DELAY_MS_MAX`] delays nothing, as in RabbitMQ. The header stays as it is: who sends a message to such an
//! exchange once more, delays it once more.

use leveret_sdk::{
    Arguments, Decision, Declaration, Description, ExchangeType, InnerType, Kind, Message, Reads, Refusal,
    Targets, Value,
};
use std::time::Duration;

/// The longest delay in milliseconds, some 49 days. Above it a message is not delayed.
pub const DELAY_MS_MAX: u64 = 4_294_967_295;

/// By this argument an exchange of another type has it in front.
const STAGE: &str = "x-delayed-exchange";
/// By custom, stages that delay come after those that drop.
const STAGE_ORDER: u32 = 200;
const DELAYED_TYPE: &str = "x-delayed-type";
const DELAY: &str = "x-delay";

/// An exchange that delays.
#[derive(Debug)]
pub struct Delayed {
    /// None where it is put in front of another type.
    inner: Option<InnerType>,
}

impl ExchangeType for Delayed {
    fn describe() -> Description {
        Description::new("x-delayed-message", "Holds messages for the milliseconds of their header x-delay")
            // Required, but not of a stage; `open` knows which it is.
            .argument(DELAYED_TYPE, Kind::Text, "the type that decides where messages go (required)")
            .argument(STAGE, Kind::Boolean, "whether it stands in front of the type of an exchange")
            .pure()
            .stage(STAGE, STAGE_ORDER)
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        if declaration.in_front_of.is_some() {
            return Ok(Self { inner: None });
        }
        let inner_type: &str = declaration.arguments.required(DELAYED_TYPE)?;
        let others =
            declaration.arguments.iter().filter(|argument| argument.name() != DELAYED_TYPE.as_bytes());
        let arguments = others.fold(Arguments::new(), |arguments, argument| {
            arguments.with(argument.name(), argument.value().unwrap_or(Value::Void))
        });
        Ok(Self { inner: Some(InnerType::new(inner_type).with_arguments(arguments)) })
    }

    fn reads(&self) -> Reads {
        Reads::nothing().header(DELAY)
    }

    fn inner(&self) -> Option<InnerType> {
        self.inner.clone()
    }

    fn wants_bindings(&self) -> bool {
        false
    }

    fn route(&mut self, message: &Message<'_>, _: &mut Targets<'_>) -> Decision {
        match message.header(DELAY).and_then(delay) {
            Some(delay) => Decision::Hold(delay),
            None => Decision::Delegate,
        }
    }
}

/// The delay that a header's value asks for: an integer, a text that is one, or a number whose fraction is cut.
fn delay(value: Value<'_>) -> Option<Duration> {
    let delay_ms = match value {
        Value::Integer(integer) => u64::try_from(integer).ok()?,
        Value::Unsigned(integer) => integer,
        Value::Text(text) => text.parse().ok()?,
        // Out of range it is the nearest integer, and no number is 0.
        Value::Real(real) => real as u64,
        Value::Decimal { scale, unscaled } => {
            u64::try_from(unscaled).ok()? / 10_u64.checked_pow(u32::from(scale))?
        }
        _ => return None,
    };
    (1..=DELAY_MS_MAX).contains(&delay_ms).then(|| Duration::from_millis(delay_ms))
}

leveret_sdk::export!(Delayed);

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_sdk::testkit::{Exchange, Routed, TestMessage};

    fn open(inner: &str) -> Exchange<Delayed> {
        Exchange::open(Arguments::new().with(DELAYED_TYPE, inner)).unwrap()
    }

    fn routed<'v>(value: impl Into<Value<'v>>) -> Routed {
        open("direct").route_message(&TestMessage::new("k").header(DELAY, value))
    }

    fn held(delay_ms: u64) -> Routed {
        Routed::Hold(Duration::from_millis(delay_ms))
    }

    #[test]
    fn a_positive_delay_holds_in_whatever_form_it_comes() {
        assert_eq!(routed(1), held(1));
        assert_eq!(routed("5000"), held(5000));
        assert_eq!(routed(1500.9), held(1500));
        assert_eq!(routed(Value::Decimal { scale: 2, unscaled: 1250 }), held(12));
        assert_eq!(routed(Value::Unsigned(7)), held(7));
        assert_eq!(routed(4_294_967_295_i64), held(DELAY_MS_MAX));
    }

    #[test]
    fn anything_else_goes_on_at_once() {
        for value in [
            Value::Integer(0),
            Value::Integer(-1),
            Value::Integer(4_294_967_296),
            Value::Unsigned(u64::MAX),
            Value::Real(-3.0),
            Value::Real(0.9),
            Value::Real(f64::NAN),
            Value::Real(f64::INFINITY),
            Value::Decimal { scale: 200, unscaled: 1 },
            Value::Text("soon"),
            Value::Text(""),
            Value::Text("-5"),
            Value::Boolean(true),
            Value::Void,
        ] {
            assert_eq!(routed(value), Routed::Delegate, "{value:?}");
        }
        assert_eq!(open("direct").route("k"), Routed::Delegate);
    }

    #[test]
    fn the_inner_type_gets_all_other_arguments() {
        let arguments = Arguments::new().with("x-a", 1).with(DELAYED_TYPE, "x-any").with("x-b", "b");
        let exchange = Exchange::<Delayed>::open(arguments).unwrap();
        let rest = Arguments::new().with("x-a", 1).with("x-b", "b");
        assert_eq!(exchange.inner(), Some(InnerType::new("x-any").with_arguments(rest)));
    }

    #[test]
    fn the_inner_type_must_be_named() {
        let refusal = Exchange::<Delayed>::open(Arguments::new()).err();
        assert_eq!(refusal, Some(Refusal::missing_argument(DELAYED_TYPE)));
    }

    #[test]
    fn in_front_of_another_type_it_needs_no_argument() {
        let declaration = Declaration { in_front_of: Some("topic".into()), ..Declaration::default() };
        let mut exchange = Exchange::<Delayed>::declare(declaration).unwrap();
        assert_eq!(exchange.inner(), None);
        assert_eq!(exchange.route_message(&TestMessage::new("k").header(DELAY, 20)), held(20));
    }
}
