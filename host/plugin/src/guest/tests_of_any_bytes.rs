//! That what is read from bytes of a guest, or of a file, is read or refused, whatever they are.

use super::{
    lift::{self, ValuesLeft},
    lower::PlainMessage,
    narrow,
};
use crate::{artifact, bindings::v0_2::leveret::routing::types as wit};
use leveret_model::{BodyReading, HeaderSelection, Name, Property, Reads, flat};
use proptest::prelude::*;

fn reads() -> impl Strategy<Value = Reads> {
    (any::<[bool; 6]>(), 0_usize..3, 0_usize..3).prop_map(|(flags, properties, headers)| {
        let [routing_key, body, publisher, exchange, queue, reason] = flags;
        let properties = [Property::AppId, Property::Priority].into_iter().take(properties).collect();
        let named = |names: &[&'static str]| names.iter().map(|name| Name::from_static(name)).collect();
        let headers = match headers {
            0 => HeaderSelection::None,
            1 => HeaderSelection::Named(named(&["a", "b"])),
            _ => HeaderSelection::All,
        };
        let body = body.then_some(BodyReading { bytes_max: 10, rejects_above: false });
        Reads { routing_key, headers, properties, body, publisher, exchange, queue, reason }
    })
}

/// Bytes that are often tags and short lengths.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![3 => 0_u8..12, 1 => Just(flat::ABSENT), 1 => any::<u8>()], 0..160)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn projections(reads in reads(), bytes in bytes()) {
        if let Some(message) = PlainMessage::from_projection(&bytes, &reads) {
            prop_assert_eq!(message.properties.len(), reads.properties.len());
        }
        let mut out = Vec::new();
        let fewer = Reads { headers: HeaderSelection::Named(vec![Name::from_static("a")]), ..reads.clone() };
        let narrowed = narrow(&bytes, &reads, &fewer, &mut out);
        prop_assert!(narrowed.is_none() || out.len() <= bytes.len());
    }

    #[test]
    fn values(bytes in bytes()) {
        let left = &mut ValuesLeft::default();
        match lift::value(wit::ValueResult::Encoded(bytes.clone()), left) {
            Ok(value) => {
                let mut written = Vec::new();
                flat::put_value(&mut written, &value);
                prop_assert!(written.len() <= bytes.len());
            }
            Err(error) => prop_assert!(error.contains("encoded value"), "{}", error),
        }
    }

    #[test]
    fn files(bytes in bytes(), component: bool) {
        let bytes = if component { [b"\0asm\x0d\0\x01\0", bytes.as_slice()].concat() } else { bytes };
        if let Err(error) = artifact::check(&bytes) {
            prop_assert!(error.to_string().starts_with("the file "), "{}", error);
        }
    }
}
