//! Part 2, sections 2.7 and 2.8: performatives and the types of their fields.

use super::{decode, described, encoded, hex, is};
use crate::{
    composite::{Composite, Fields, Symbols},
    condition::Condition,
    descriptor,
    messaging::{Accepted, DeliveryState, Received, Source, Target},
    performatives::{
        Attach, Begin, Close, DELIVERY_TAG_BYTES_MAX, DeliveryTag, Detach, Disposition, End, Error, Flow,
        Open, Performative, ReceiverSettleMode, Role, SenderSettleMode, Transfer, Unsettled,
    },
    transactions::{AnyTarget, Coordinator},
    types::{DecodeError, List, ListBuilder, MapBuilder, Reader, Symbol, Value, write},
};
use alloc::{string::ToString, vec::Vec};

const A: Symbol<'static> = Symbol::from_static("a");
const B: Symbol<'static> = Symbol::from_static("b");

/// What the list of fields gives.
fn read<'a, T: Composite<'a>>(list: &'a ListBuilder) -> Result<T, DecodeError> {
    T::from_list(list.view())
}

// 1.4 Composite type representation

#[test]
fn trailing_fields_that_say_nothing_are_not_written() {
    is(&Open { container_id: "x", ..Open::default() }, &hex("00 53 10 c0 04 01 a1 01 78"));
    let open = Open { container_id: "x", channel_max: 7, ..Open::default() };
    is(&open, &hex("00 53 10 c0 09 04 a1 01 78 40 40 60 0007"));
    is(&End::default(), &hex("00 53 17 45"));
    is(&Close::default(), &hex("00 53 18 45"));
    let end =
        End { error: Some(Error { condition: Condition::NotFound.symbol(), description: None, info: None }) };
    let symbol = [hex("a3 0e"), b"amqp:not-found".to_vec()].concat();
    is(&end, &[hex("00 53 17 c0 17 01 00 53 1d c0 11 01"), symbol].concat());
}

#[test]
fn absent_fields_may_be_written_and_defaults_too() {
    let open = Open { container_id: "x", ..Open::default() };
    let mut list = ListBuilder::new();
    list.push("x").push(Value::Null).push(u32::MAX).push(u16::MAX);
    (0..6).for_each(|_| {
        list.push(Value::Null);
    });
    assert_eq!(read(&list), Ok(open));
    let mut list = ListBuilder::new();
    list.push(7_u32).push(false).push(Value::Null);
    assert_eq!(read(&list), Ok(Detach { handle: 7, ..Detach::default() }));
}

#[test]
fn more_fields_than_there_are_and_other_things_than_lists_are_refused() {
    let mut list = ListBuilder::new();
    list.push(Value::Null).push(Value::Null);
    assert_eq!(read::<Close<'_>>(&list), Err(DecodeError::TooManyFields("amqp:close:list")));
    let cases = [
        ("00 53 18 c1 01 00", DecodeError::Content("amqp:close:list")),
        ("00 53 18 40", DecodeError::Content("amqp:close:list")),
        ("00 53 19 45", DecodeError::Descriptor(0x19)),
        ("00 53 24 45", DecodeError::Descriptor(0x24)),
        ("00 a3 01 78 45", DecodeError::Descriptor(0)),
        ("00 52 18 45", DecodeError::Descriptor(0)),
        ("45", DecodeError::NotDescribed),
        ("", DecodeError::Truncated),
        ("00 53 18", DecodeError::Truncated),
        ("00 53 18 c0 02 01 50", DecodeError::Count),
        ("00 53 18 c0 03 01 40 40", DecodeError::Count),
        ("00 53 18 c0 02 02 40", DecodeError::Count),
        ("00 53 18 45 40", DecodeError::Trailing("amqp:close:list")),
    ];
    for (bytes, error) in cases {
        assert_eq!(Performative::from_body(&hex(bytes)), Err(error), "{bytes}");
        assert_eq!(error.condition(), Condition::DecodeError);
    }
}

#[test]
fn a_descriptor_may_come_by_its_name() {
    for (code, name) in descriptor::ALL {
        assert_eq!(descriptor::name(*code), Some(*name));
        assert_eq!(descriptor::code(&Value::Symbol(Symbol::from_static(name))), Some(*code));
    }
    let mut bytes = hex("00");
    write::put(&mut bytes, Symbol::from_static("amqp:close:list"));
    write::put(&mut bytes, List::EMPTY);
    assert_eq!(Performative::from_body(&bytes), Ok((Close::default().into(), &[][..])));
}

#[test]
fn a_mandatory_field_is_missed_and_named() {
    fn missing<'a, T: Composite<'a>>(list: &'a ListBuilder, field: &str) {
        match T::from_list(list.view()) {
            Err(error @ DecodeError::Missing { composite, field: missed }) => {
                assert_eq!((composite, missed), (T::NAME, field));
                assert_eq!(error.condition(), Condition::DecodeError);
                let text = error.to_string();
                assert_eq!(text, alloc::format!("{composite} has no {}", field.replace('_', "-")));
            }
            other => panic!("{}: {field}: {:?}", T::NAME, other.err()),
        }
    }
    let empty = ListBuilder::new();
    let (mut null, mut one, mut two, mut three) =
        (ListBuilder::new(), empty.clone(), empty.clone(), empty.clone());
    null.push(Value::Null);
    for list in [&empty, &null] {
        missing::<Open<'_>>(list, "container_id");
        missing::<Begin<'_>>(list, "next_outgoing_id");
        missing::<Attach<'_>>(list, "name");
        missing::<Flow<'_>>(list, "incoming_window");
        missing::<Transfer<'_>>(list, "handle");
        missing::<Disposition<'_>>(list, "role");
        missing::<Detach<'_>>(list, "handle");
        missing::<Error<'_>>(list, "condition");
    }
    one.push(Value::Null).push(1_u32);
    missing::<Begin<'_>>(&one, "incoming_window");
    missing::<Flow<'_>>(&one, "next_outgoing_id");
    two.push(Value::Null).push(1_u32).push(2_u32);
    missing::<Begin<'_>>(&two, "outgoing_window");
    missing::<Flow<'_>>(&two, "outgoing_window");
    three.push("name");
    missing::<Attach<'_>>(&three, "handle");
    three.push(1_u32);
    missing::<Attach<'_>>(&three, "role");
    let mut role = ListBuilder::new();
    role.push(true);
    missing::<Disposition<'_>>(&role, "first");
}

#[test]
fn a_field_of_another_type_is_refused_and_named() {
    let wrong = |list: &ListBuilder, field| {
        let error = DecodeError::FieldType { composite: "amqp:open:list", field };
        assert_eq!(read::<Open<'_>>(list), Err(error));
        assert_eq!(error.condition(), Condition::DecodeError);
    };
    let mut list = ListBuilder::new();
    wrong(ListBuilder::new().push(A), "container_id");
    wrong(ListBuilder::new().push(&b"x"[..]), "container_id");
    list.push("x");
    wrong(list.clone().push(1_u32), "hostname");
    list.push("h");
    wrong(list.clone().push(1_u64), "max_frame_size");
    wrong(list.clone().push(1_i32), "max_frame_size");
    list.push(1024_u32);
    wrong(list.clone().push(1_u32), "channel_max");
    list.push(Value::Null).push(Value::Null);
    wrong(list.clone().push("en"), "outgoing_locales");
    list.push(A).push(A).push(A).push(A);
    wrong(list.clone().push(ListBuilder::new().view()), "properties");
    let mut strings = MapBuilder::new();
    strings.push("a string", 1_u32);
    wrong(list.clone().push(strings.view()), "properties");
}

// 1.4 "multiple", 2.8.16 ietf-language-tag

#[test]
fn several_symbols_are_one_or_an_array() {
    let written =
        Open { container_id: "x", offered_capabilities: Symbols::Slice(&[A, B]), ..Open::default() };
    is(&written, &hex("00 53 10 c0 12 08 a1 01 78 40 40 40 40 40 40 e0 06 02 a3 01 61 01 62"));
    let one = Open { container_id: "x", offered_capabilities: Symbols::Slice(&[A]), ..Open::default() };
    is(&one, &hex("00 53 10 c0 10 08 a1 01 78 40 40 40 40 40 40 e0 04 01 a3 01 61"));
    let bytes = hex("00 53 10 c0 0d 08 a1 01 78 40 40 40 40 40 40 a3 01 61");
    assert_eq!(decode(&bytes), Ok(one), "one without an array");
    is(&decode::<Open<'_>>(&bytes).unwrap(), &bytes);
    let bytes = hex("00 53 10 c0 0e 08 a1 01 78 40 40 40 40 40 40 e0 02 00 a3");
    assert_eq!(decode(&bytes), Ok(Open { container_id: "x", ..Open::default() }), "an array of none");
    let bytes = hex("00 53 10 c0 10 08 a1 01 78 40 40 40 40 40 40 e0 04 01 a1 01 61");
    let error = DecodeError::FieldType { composite: "amqp:open:list", field: "offered_capabilities" };
    assert_eq!(decode::<Open<'_>>(&bytes), Err(error), "of strings");
    assert!(written.offered_capabilities.contains("b") && !written.offered_capabilities.contains("c"));
    assert!(Symbols::None.is_empty() && !Symbols::One(A).is_empty());
}

// 2.7 Performatives, each with all its fields

/// It comes back from its bytes, and from fewer of them it does not.
fn comes_back(performative: &Performative<'_>) {
    let mut bytes = Vec::new();
    performative.encode(&mut bytes);
    assert_eq!(Performative::from_body(&bytes), Ok((*performative, &[][..])));
    for end in 0..bytes.len() {
        let error = Performative::from_body(&bytes[..end]).err();
        assert_eq!(error, Some(DecodeError::Truncated), "{} cut at {end}", performative.name());
    }
}

#[test]
fn open_begin_and_attach_come_back_with_all_their_fields() {
    let mut fields = MapBuilder::new();
    fields.push(A, "value").push(B, 7_u64);
    let properties = Fields::new(fields.view());
    let mut tags = MapBuilder::new();
    tags.push(&b"t1"[..], Value::Null);
    let state = described(descriptor::RECEIVED, ListBuilder::new().push(1_u32).push(2_u64));
    tags.push(&b"t2"[..], Reader::new(&state).value().unwrap());
    let all: [Performative<'_>; 4] = [
        Open {
            container_id: "id",
            hostname: Some("host"),
            max_frame_size: 512,
            channel_max: 0,
            idle_time_out: Some(30_000),
            outgoing_locales: Symbols::Slice(&[A]),
            incoming_locales: Symbols::Slice(&[A, B]),
            offered_capabilities: Symbols::Slice(&[B]),
            desired_capabilities: Symbols::Slice(&[B, A]),
            properties,
        }
        .into(),
        Begin {
            remote_channel: Some(1),
            next_outgoing_id: u32::MAX,
            incoming_window: 400,
            outgoing_window: 1,
            handle_max: 255,
            offered_capabilities: Symbols::Slice(&[A]),
            desired_capabilities: Symbols::Slice(&[B]),
            properties,
        }
        .into(),
        Attach {
            name: "link",
            handle: 0,
            role: Role::Receiver,
            snd_settle_mode: SenderSettleMode::Settled,
            rcv_settle_mode: ReceiverSettleMode::Second,
            source: Some(Source { address: Some("/queues/q"), ..Source::default() }),
            target: Some(AnyTarget::Node(Target::default())),
            unsettled: Some(Unsettled::new(tags.view()).unwrap()),
            incomplete_unsettled: true,
            initial_delivery_count: Some(0),
            max_message_size: Some(u64::MAX),
            offered_capabilities: Symbols::Slice(&[A]),
            desired_capabilities: Symbols::Slice(&[B]),
            properties,
        }
        .into(),
        Attach { name: "", target: Some(Coordinator::default().into()), ..Attach::default() }.into(),
    ];
    all.iter().for_each(comes_back);
}

#[test]
fn all_others_come_back_with_all_their_fields() {
    let mut fields = MapBuilder::new();
    fields.push(A, "value").push(B, 7_u64);
    let properties = Fields::new(fields.view());
    let error = Error { condition: A, description: Some("why"), info: properties };
    let all: [Performative<'_>; 7] = [
        Flow {
            next_incoming_id: Some(1),
            incoming_window: 2,
            next_outgoing_id: 3,
            outgoing_window: 4,
            handle: Some(5),
            delivery_count: Some(6),
            link_credit: Some(7),
            available: Some(8),
            drain: true,
            echo: true,
            properties,
        }
        .into(),
        Transfer {
            handle: 1,
            delivery_id: Some(2),
            delivery_tag: DeliveryTag::new(b"tag"),
            message_format: Some(0),
            settled: Some(false),
            more: true,
            rcv_settle_mode: Some(ReceiverSettleMode::Second),
            state: Some(Received { section_number: 1, section_offset: 2 }.into()),
            resume: true,
            aborted: true,
            batchable: true,
        }
        .into(),
        Disposition {
            role: Role::Receiver,
            first: 1,
            last: Some(2),
            settled: true,
            state: Some(Accepted {}.into()),
            batchable: true,
        }
        .into(),
        Detach { handle: 1, closed: true, error: Some(error) }.into(),
        End { error: Some(error) }.into(),
        Close { error: Some(error) }.into(),
        Close { error: Some(Error::new(Condition::ConnectionForced, "bye")) }.into(),
    ];
    all.iter().for_each(comes_back);
}

// 2.7.3 Attach: unsettled

#[test]
fn unsettled_deliveries_are_tags_with_states() {
    let state = encoded(&Accepted {});
    let accepted = Reader::new(&state).value().unwrap();
    let mut map = MapBuilder::new();
    map.push(&b"1"[..], accepted).push(&b"2"[..], Value::Null);
    let unsettled = Unsettled::new(map.view()).unwrap();
    let states: Vec<_> = unsettled.iter().map(|(tag, state)| (tag.bytes(), state)).collect();
    assert_eq!(states, [(&b"1"[..], Some(DeliveryState::Accepted(Accepted {}))), (&b"2"[..], None)]);
    assert_eq!((unsettled.len(), unsettled.is_empty()), (2, false));
    let long = [0; DELIVERY_TAG_BYTES_MAX + 1];
    for (key, value) in [(Value::from("1"), Value::Null), (Value::Binary(&long), Value::Null)] {
        assert!(Unsettled::new(MapBuilder::new().push(key, value).view()).is_err(), "{key:?}");
    }
    assert!(Unsettled::new(MapBuilder::new().push(&b"1"[..], 1_u32).view()).is_err());
}

// 2.7.5 Transfer

#[test]
fn a_transfer_is_followed_by_its_payload() {
    let bytes = hex("00 53 14 c0 0a 05 52 03 52 07 a0 01 09 43 41  00 53 77 a1 01 78");
    let transfer = Transfer {
        handle: 3,
        delivery_id: Some(7),
        delivery_tag: DeliveryTag::new(&[9]),
        message_format: Some(0),
        settled: Some(true),
        ..Transfer::default()
    };
    assert_eq!(Performative::from_body(&bytes), Ok((transfer.into(), &bytes[15..])));
    assert_eq!(encoded(&transfer), bytes[..15]);
}

// 2.8.1 role, 2.8.2 and 2.8.3 settle modes, 2.8.7 delivery-tag

#[test]
fn restricted_types_have_no_other_values() {
    let attach = |snd: Value<'_>, rcv: Value<'_>| {
        let mut list = ListBuilder::new();
        list.push("link").push(0_u32).push(false).push(snd).push(rcv);
        read::<Attach<'_>>(&list).map(|attach| (attach.snd_settle_mode, attach.rcv_settle_mode))
    };
    let modes = [SenderSettleMode::Unsettled, SenderSettleMode::Settled, SenderSettleMode::Mixed];
    for (number, mode) in (0_u8..).zip(modes) {
        assert_eq!(attach(number.into(), Value::Null), Ok((mode, ReceiverSettleMode::First)));
    }
    assert_eq!(attach(Value::Null, 1_u8.into()), Ok((SenderSettleMode::Mixed, ReceiverSettleMode::Second)));
    let bad = |field| DecodeError::FieldValue { composite: "amqp:attach:list", field };
    assert_eq!(attach(3_u8.into(), Value::Null), Err(bad("snd_settle_mode")));
    assert_eq!(attach(Value::Null, 2_u8.into()), Err(bad("rcv_settle_mode")));
    assert_eq!(bad("rcv_settle_mode").condition(), Condition::InvalidField);
    let tag = |length: usize| {
        let bytes = [7; 40];
        let mut list = ListBuilder::new();
        list.push(1_u32).push(1_u32).push(&bytes[..length]);
        read::<Transfer<'_>>(&list).map(|transfer| transfer.delivery_tag.map(|tag| tag.bytes().len()))
    };
    assert_eq!(tag(DELIVERY_TAG_BYTES_MAX), Ok(Some(DELIVERY_TAG_BYTES_MAX)));
    let error = DecodeError::FieldValue { composite: "amqp:transfer:list", field: "delivery_tag" };
    assert_eq!(tag(DELIVERY_TAG_BYTES_MAX + 1), Err(error));
}

// 2.8.15 to 2.8.18 and 4.5.8: error conditions

#[test]
fn conditions_have_names_of_their_own() {
    let mut names: Vec<&str> = Condition::ALL.iter().map(|condition| condition.symbol().as_str()).collect();
    assert!(names.iter().all(|name| name.starts_with("amqp:")));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Condition::ALL.len());
}

#[test]
fn what_is_wrong_within_a_field_is_said_as_such() {
    let mut list = ListBuilder::new();
    list.push("link").push(0_u32).push(true).push(Value::Null).push(Value::Null);
    let source = described(descriptor::SOURCE, ListBuilder::new().push("/queues/q").push(3_u32));
    list.push(Reader::new(&source).value().unwrap());
    let error = DecodeError::FieldValue { composite: "amqp:source:list", field: "durable" };
    assert_eq!(read::<Attach<'_>>(&list), Err(error));
    let mut list = ListBuilder::new();
    let wrong = encoded(&Accepted {});
    list.push(1_u32).push(Value::Null).push(Reader::new(&wrong).value().unwrap());
    let error = DecodeError::FieldType { composite: "amqp:detach:list", field: "error" };
    assert_eq!(read::<Detach<'_>>(&list), Err(error));
}
