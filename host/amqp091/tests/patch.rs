//! Patches of encoded properties against a plain model, and against bytes that make no sense.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use leveret_amqp091::{FORM, patch::PROPERTIES_BYTES_MAX, properties, wire};
use leveret_model::{Change, MessageView, Name, Patch, PatchError, Property, Value, limits::VALUE_DEPTH_MAX};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// The place of the headers among the properties, in the order of their flags from 15 down.
const HEADERS_PLACE: usize = 2;

/// A message's properties with each part in its encoding.
#[derive(Clone, Debug, Default)]
struct Model {
    /// By their [`place`]; the one after them is cluster-id, which no patch touches.
    properties: [Option<Vec<u8>>; 14],
    /// Names and fields; `None` if there is no table at all.
    headers: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Model {
    fn encode(&self) -> Vec<u8> {
        let (mut flags, mut out) = (0_u16, vec![0, 0]);
        for place in 0..14 {
            if place == HEADERS_PLACE {
                if let Some(headers) = &self.headers {
                    flags |= 1 << 13;
                    let content: Vec<u8> = headers
                        .iter()
                        .flat_map(|(name, field)| [&[name.len() as u8], &name[..], &field[..]].concat())
                        .collect();
                    wire::put_longstr(&mut out, &content);
                }
            } else if let Some(bytes) = &self.properties[place] {
                flags |= 1 << (15 - place);
                out.extend(bytes);
            }
        }
        out[..2].copy_from_slice(&flags.to_be_bytes());
        out
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::SetHeader { name, value } | Change::SetHeaderExactly { name, value, .. } => {
                let mut field = Vec::new();
                wire::put_field(&mut field, value);
                let headers = self.headers.get_or_insert_default();
                let place = headers.iter().position(|(header, _)| **header == **name);
                let kept = place.unwrap_or(headers.len());
                headers.retain(|(header, _)| **header != **name);
                headers.insert(kept.min(headers.len()), (name.to_vec(), field));
            }
            Change::RemoveHeader { name } => {
                if let Some(headers) = &mut self.headers {
                    let before = headers.len();
                    headers.retain(|(header, _)| **header != **name);
                    if headers.is_empty() && before > 0 {
                        self.headers = None;
                    }
                }
            }
            Change::SetProperty { property, value } => {
                self.properties[place(*property)] = Some(match value {
                    Value::Integer(integer) => vec![*integer as u8],
                    Value::Timestamp(milliseconds) => (milliseconds / 1000).to_be_bytes().to_vec(),
                    Value::Text(text) => [&[text.len() as u8], text.as_bytes()].concat(),
                    other => panic!("not generated: {other:?}"),
                });
            }
            Change::RemoveProperty { property } => self.properties[place(*property)] = None,
            Change::SetRoutingKey(_) | Change::SetBody(_) => {}
        }
    }
}

fn place(property: Property) -> usize {
    let place = Property::ALL.iter().position(|other| *other == property).unwrap();
    place + usize::from(place >= HEADERS_PLACE)
}

fn names() -> impl Strategy<Value = &'static str> {
    select(vec!["", "a", "b", "c", "x-death", "a-rather-long-name-of-a-header"])
}

/// Fields in encodings that a patch would not choose.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    select(vec![
        b"I\0\0\0\x05".to_vec(),
        b"b\xff".to_vec(),
        b"s\0\x05".to_vec(),
        b"i\xff\xff\xff\xff".to_vec(),
        b"l\0\0\0\0\0\0\0\x05".to_vec(),
        b"f\x3f\xc0\0\0".to_vec(),
        b"S\0\0\0\x02\xff\xfe".to_vec(),
        b"A\0\0\0\x03Vt\0".to_vec(),
        b"F\0\0\0\x03\x01zV".to_vec(),
        b"D\x02\0\0\x01\0".to_vec(),
        b"T\0\0\0\0\0\0\0\x03".to_vec(),
        b"V".to_vec(),
    ])
}

fn originals() -> impl Strategy<Value = Model> {
    let strings = vec(option::of("[a-z]{0,6}"), 14);
    let headers = option::of(vec((names(), fields()), 0..6));
    (strings, headers, any::<[Option<u8>; 2]>(), any::<Option<u64>>()).prop_map(
        |(strings, headers, octets, timestamp)| {
            let mut model = Model {
                headers: headers.map(|headers| {
                    headers.into_iter().map(|(name, field)| (name.as_bytes().to_vec(), field)).collect()
                }),
                ..Model::default()
            };
            for (place, string) in strings.into_iter().enumerate() {
                model.properties[place] = string.map(|s| [&[s.len() as u8], s.as_bytes()].concat());
            }
            model.properties[2] = None;
            model.properties[3] = octets[0].map(|octet| vec![octet]);
            model.properties[4] = octets[1].map(|octet| vec![octet]);
            model.properties[9] = timestamp.map(|seconds| seconds.to_be_bytes().to_vec());
            model
        },
    )
}

/// Values that come back as they were written.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Void),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        (-1e9..1e9).prop_map(Value::Real),
        (any::<u8>(), any::<u32>())
            .prop_map(|(scale, unscaled)| Value::Decimal { scale, unscaled: i64::from(unscaled) }),
        ".{0,12}".prop_map(Value::Text),
        vec(any::<u8>(), 0..8).prop_map(|bytes| Value::Binary(Bytes::from(bytes))),
        (0..1_i64 << 40).prop_map(|seconds| Value::Timestamp(seconds * 1000)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::List),
            vec(("[a-z]{0,4}".prop_map(Value::Text), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

fn properties_that_can_change() -> impl Strategy<Value = Property> {
    select(Property::ALL.to_vec())
}

fn changes() -> impl Strategy<Value = Change> {
    let property = properties_that_can_change().prop_flat_map(|property| {
        let value = match property {
            Property::DeliveryMode | Property::Priority => {
                any::<u8>().prop_map(|octet| Value::Integer(i64::from(octet))).boxed()
            }
            Property::Timestamp => (0..1_i64 << 40).prop_map(|s| Value::Timestamp(s * 1000)).boxed(),
            _ => "[a-zäöü]{0,9}".prop_map(Value::Text).boxed(),
        };
        value.prop_map(move |value| Change::SetProperty { property, value })
    });
    prop_oneof![
        4 => (names(), values())
            .prop_map(|(name, value)| Change::SetHeader { name: Name::from_static(name), value }),
        3 => names().prop_map(|name| Change::RemoveHeader { name: Name::from_static(name) }),
        2 => property,
        1 => properties_that_can_change().prop_map(|property| Change::RemoveProperty { property }),
        1 => names().prop_map(|key| Change::SetRoutingKey(Name::from_static(key))),
        1 => vec(any::<u8>(), 0..9).prop_map(|body| Change::SetBody(Bytes::from(body))),
    ]
}

fn patched(properties: &[u8], changes: &[Change]) -> Result<Vec<u8>, PatchError> {
    let patch: Patch = changes.iter().cloned().collect();
    let mut out = Vec::new();
    FORM.patch(properties, &patch, &mut out).map(|()| out)
}

fn view<'a>(properties: &'a [u8]) -> MessageView<'a> {
    MessageView { exchange: b"e", routing_key: b"k", form: FORM, properties, body: b"b", publisher: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The bytes are the model's: so what is not touched is where and what it was.
    #[test]
    fn a_patch_is_its_changes_one_after_the_other(
        original in originals(),
        changes in vec(changes(), 0..12),
    ) {
        let encoded = original.encode();
        prop_assert_eq!(properties::check(&encoded), Ok(()));
        let mut model = original;
        changes.iter().for_each(|change| model.change(change));
        let out = patched(&encoded, &changes).unwrap();
        let table_was_there = encoded[0] & 0x20 != 0;
        // An empty table that was there and stays empty is left alone.
        if table_was_there && model.headers.is_none() && out != model.encode() {
            model.headers = Some(Vec::new());
        }
        prop_assert_eq!(&out, &model.encode());
        prop_assert_eq!(properties::check(&out), Ok(()));
    }

    /// What was set last is what is read.
    #[test]
    fn what_is_set_is_read_back(original in originals(), changes in vec(changes(), 0..12)) {
        let encoded = original.encode();
        let patch: Patch = changes.iter().cloned().collect();
        let mut arena = b"before".to_vec();
        let before = view(&encoded);
        let after = before.patched(&patch, &mut arena).unwrap();
        for change in patch.headers() {
            prop_assert_eq!(after.header(&change.name), change.value.clone());
        }
        for property in Property::ALL {
            let expected = match patch.property(property) {
                Some(change) => change.cloned(),
                None => before.property(property),
            };
            prop_assert_eq!(after.property(property), expected);
        }
        prop_assert_eq!(after.routing_key, patch.routing_key().map_or(&b"k"[..], |key| key));
        prop_assert_eq!(after.body, patch.body().map_or(&b"b"[..], |body| body));
        prop_assert_eq!(after.exchange, b"e");
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in vec(any::<u8>(), 0..80),
        changes in vec(changes(), 0..6),
    ) {
        let _ = patched(&bytes, &changes);
        let patch: Patch = changes.into_iter().collect();
        let _ = view(&bytes).patched(&patch, &mut Vec::new());
    }

    /// Bytes of valid properties, one of them wrong or all cut short.
    #[test]
    fn no_damage_makes_it_panic(
        original in originals(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
        changes in vec(changes(), 1..6),
    ) {
        let mut encoded = original.encode();
        let at = at.index(encoded.len());
        if cut { encoded.truncate(at) } else { encoded[at] = byte }
        let _ = patched(&encoded, &changes);
    }
}

fn set_header(value: Value) -> Change {
    Change::SetHeader { name: Name::from_static("h"), value }
}

fn set_property(property: Property, value: Value) -> Change {
    Change::SetProperty { property, value }
}

#[test]
fn a_class_that_does_not_fit_names_the_property() {
    let text = || Value::Text("high".into());
    for (property, value) in [
        (Property::Priority, text()),
        (Property::DeliveryMode, Value::Boolean(true)),
        (Property::Timestamp, Value::Integer(5)),
        (Property::MessageId, Value::Integer(5)),
        (Property::Expiration, Value::Void),
    ] {
        let class = value.class();
        let error = patched(properties::NONE, &[set_property(property, value)]);
        assert_eq!(error, Err(PatchError::PropertyClass { property, class }));
    }
    for (property, value) in [
        (Property::Priority, Value::Integer(256)),
        (Property::DeliveryMode, Value::Integer(-1)),
        (Property::Timestamp, Value::Timestamp(-1)),
        (Property::MessageId, Value::Text("x".repeat(256))),
        (Property::AppId, Value::Binary(Bytes::from(vec![0xff; 256]))),
    ] {
        let error = patched(properties::NONE, &[set_property(property, value)]).unwrap_err();
        assert!(matches!(error, PatchError::PropertyValue { property: named, .. } if named == property));
    }
    let longest = patched(properties::NONE, &[set_property(Property::AppId, Value::Text("x".repeat(255)))]);
    assert_eq!(longest.map(|bytes| bytes.len()), Ok(2 + 256));
}

#[test]
fn a_header_that_has_no_encoding_is_named() {
    let nested = |depth: usize| (0..depth).fold(Value::Void, |value, _| Value::List(vec![value]));
    let map = |key: Value| Value::Map(vec![(key, Value::Void)]);
    for value in [
        Value::Unsigned(u64::MAX),
        Value::Decimal { scale: 0, unscaled: -1 },
        Value::Timestamp(-1),
        map(Value::Integer(1)),
        map(Value::Text("x".repeat(256))),
        Value::List(vec![Value::Unsigned(u64::MAX)]),
        nested(VALUE_DEPTH_MAX + 1),
    ] {
        let error = patched(properties::NONE, &[set_header(value)]).unwrap_err();
        assert!(matches!(error, PatchError::Header { name, .. } if name.as_bytes() == b"h"));
    }
    let deepest = patched(properties::NONE, &[set_header(nested(VALUE_DEPTH_MAX))]).unwrap();
    assert_eq!(properties::check(&deepest), Ok(()));
}

#[test]
fn properties_have_a_largest_size() {
    // Flags, the length of the table, a name of one byte, a tag, the length of the string.
    let most = PROPERTIES_BYTES_MAX - (2 + 4 + 2 + 1 + 4);
    let most_fits = patched(properties::NONE, &[set_header(Value::Text("x".repeat(most)))]).unwrap();
    assert_eq!(most_fits.len(), PROPERTIES_BYTES_MAX);
    let error = patched(properties::NONE, &[set_header(Value::Text("x".repeat(most + 1)))]);
    let (bytes, bytes_max) = (PROPERTIES_BYTES_MAX + 1, PROPERTIES_BYTES_MAX);
    assert_eq!(error, Err(PatchError::TooLarge { bytes, bytes_max }));
}

#[test]
fn the_last_header_takes_its_property_with_it() {
    let changes = [Change::RemoveHeader { name: Name::from_static("h") }];
    assert_eq!(patched(b"\x20\0\0\0\0\x04\x01ht\x01", &changes), Ok(vec![0, 0]));
    assert_eq!(patched(b"\x20\0\0\0\0\0", &changes), Ok(b"\x20\0\0\0\0\0".to_vec()), "empty before");
}

#[test]
fn a_failed_patch_leaves_the_arena_as_it_was() {
    let patch: Patch = [set_property(Property::Priority, Value::Void)].into_iter().collect();
    let mut arena = b"before".to_vec();
    assert!(view(properties::NONE).patched(&patch, &mut arena).is_err());
    assert_eq!(arena, b"before");
}
