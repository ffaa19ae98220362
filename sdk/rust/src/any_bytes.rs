//! That nothing which is read from bytes panics, whatever they are: in a plugin a panic costs an instance.

use crate::{
    Arguments, Binding, BindingId, Decision, Declaration, Description, ExchangeType, Refusal, Targets,
};
use crate::{
    Message, Property, Reads, Value,
    component::exchange_type::Open,
    patch::{Change, Changes},
    reads::Above,
    targets::Answer,
    value::Bytes,
};
use proptest::prelude::*;

fn reads() -> impl Strategy<Value = Reads> {
    (any::<[bool; 8]>(), 0_usize..4, 0_usize..3).prop_map(|(flags, properties, headers)| {
        let [routing_key, body, publisher, exchange, queue, reason, ..] = flags;
        let mut reads = Reads::nothing();
        (reads.routing_key, reads.publisher, reads.exchange) = (routing_key, publisher, exchange);
        (reads.queue, reads.reason) = (queue, reason);
        for property in Property::ALL.iter().take(properties) {
            reads = reads.property(*property);
        }
        if body {
            reads = reads.body(1_000, Above::Absent);
        }
        match headers {
            0 => reads,
            1 => reads.header("a").header("b"),
            _ => reads.all_headers(),
        }
    })
}

/// Bytes that are often tags and short lengths.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![3 => 0_u8..12, 1 => Just(0xff), 1 => any::<u8>()], 0..160)
}

/// Looks at everything that there is of a message.
fn look_at(message: &Message<'_>) {
    for field in message.headers() {
        let _ = (field.name(), format!("{:?}", field.value()));
        assert!(!field.flat().is_empty());
    }
    let _ = (message.routing_key(), message.header("a"), message.body(), message.publisher());
    let _ = (message.exchange(), message.queue(), message.reason());
    for property in Property::ALL {
        let _ = format!("{:?}", message.property(property));
    }
}

/// Looks at all that it gets.
struct Curious(Reads);

impl ExchangeType for Curious {
    fn describe() -> Description {
        Description::new("x-curious", "Looks at everything")
    }

    fn open(_: &Declaration) -> Result<Self, Refusal> {
        Ok(Self(Reads::nothing()))
    }

    fn reads(&self) -> Reads {
        self.0.clone()
    }

    fn bind(&mut self, _: Binding) -> Result<(), Refusal> {
        Ok(())
    }

    fn unbind(&mut self, _: BindingId) {}

    fn route(&mut self, message: &Message<'_>, _: &mut Targets<'_>) -> Decision {
        look_at(message);
        Decision::Deliver
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_message_is_read(reads in reads(), bytes in bytes()) {
        look_at(&Message::new(&reads, &bytes));
    }

    #[test]
    fn a_batch_is_answered_as_far_as_it_is_one(reads in reads(), batch in bytes()) {
        let mut open = Open::<Curious>::new(&Declaration::default()).map_err(|_| "it opens").unwrap();
        open.reads = reads;
        let mut words = Vec::new();
        open.route_batch(&batch, &mut words);
        // Each whole message has its decision, which is one word here.
        let mut rest = Bytes(&batch);
        let mut whole = 0;
        while rest.u32().and_then(|length| rest.take(length as usize)).is_some() {
            whole += 1;
        }
        prop_assert_eq!(words, vec![0; whole]);
    }

    #[test]
    fn a_value_is_read_and_as_long_when_it_is_written(bytes in bytes()) {
        if let Some(value) = Value::from_flat(&bytes) {
            let mut written = Vec::new();
            value.put_flat(&mut written);
            // Text that is none is written as binary, and so on.
            prop_assert_eq!(written.len(), bytes.len());
            let _ = Arguments::new().with("a", value).iter().count();
        }
    }

    #[test]
    fn changes_and_answers_are_read(bytes in bytes(), number: u16, words: Vec<u64>) {
        for change in Changes::read(Bytes(&bytes), number) {
            if let Change::SetHeader(field) = change {
                let _ = format!("{:?}", field.value());
            }
        }
        let mut left = words.as_slice();
        while let Some((_, rest)) = Answer::read(left) {
            prop_assert!(rest.len() < left.len());
            left = rest;
        }
    }
}
