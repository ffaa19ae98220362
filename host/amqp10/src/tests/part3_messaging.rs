//! Part 3: messaging.

use super::{decode, described, encoded, hex, is};
use crate::{
    composite::{Annotations, ApplicationMap, Composite, Field, Fields, Symbols, Unfit},
    descriptor,
    messaging::{
        Accepted, COPY, DeliveryState, Header, LifetimePolicy, MOVE, MessageId, Modified, Outcome,
        Properties, Received, Rejected, Released, Source, Target, TerminusDurability, TerminusExpiryPolicy,
    },
    performatives::Error,
    transactions::TransactionalState,
    types::{DecodeError, ListBuilder, MapBuilder, Reader, Symbol, Timestamp, Uuid, Value},
};
use alloc::vec::Vec;

const A: Symbol<'static> = Symbol::from_static("x-a");

// 3.2.1 Header

#[test]
fn a_header_says_what_it_says_and_no_more() {
    is(&Header::default(), &hex("00 53 70 45"));
    let header = Header {
        durable: Some(true),
        priority: Some(9),
        ttl: Some(60_000),
        first_acquirer: Some(false),
        delivery_count: Some(0),
    };
    is(&header, &hex("00 53 70 c0 0b 05 41 50 09 70 0000ea60 42 43"));
    // What a publisher said is kept apart from what it left out.
    let header = Header { durable: Some(false), ..Header::default() };
    is(&header, &hex("00 53 70 c0 02 01 42"));
}

// 3.2.4 Properties, 3.2.11 to 3.2.15

#[test]
fn properties_come_back() {
    let ids = [
        MessageId::Ulong(7),
        MessageId::Uuid(Uuid([9; 16])),
        MessageId::Binary(b"\xff"),
        MessageId::String("id"),
    ];
    for id in ids {
        let properties = Properties {
            message_id: Some(id),
            user_id: Some(b"guest"),
            to: Some("/queues/q"),
            subject: Some("about"),
            reply_to: Some("/queues/r"),
            correlation_id: Some(id),
            content_type: Some(Symbol::from_static("text/plain")),
            content_encoding: Some(Symbol::from_static("gzip")),
            absolute_expiry_time: Some(Timestamp(1)),
            creation_time: Some(Timestamp(-1)),
            group_id: Some("group"),
            group_sequence: Some(3),
            reply_to_group_id: Some("other"),
        };
        let bytes = encoded(&properties);
        assert_eq!(decode(&bytes), Ok(properties));
    }
    // Numbers of other types are taken too, as by RabbitMQ.
    for number in [Value::Uint(7), Value::Ubyte(7), Value::Int(7), Value::Long(7)] {
        let bytes = described(descriptor::PROPERTIES, ListBuilder::new().push(number));
        let message_id = Some(MessageId::Ulong(7));
        assert_eq!(decode(&bytes), Ok(Properties { message_id, ..Properties::default() }), "{number:?}");
    }
    for other in [Value::Long(-7), Value::Boolean(true)] {
        let bytes = described(descriptor::PROPERTIES, ListBuilder::new().push(other));
        let error = DecodeError::FieldType { composite: "amqp:properties:list", field: "message_id" };
        assert_eq!(decode::<Properties<'_>>(&bytes), Err(error), "{other:?}");
    }
}

// 3.2.5 Application properties, 3.2.10 Annotations

#[test]
fn maps_have_keys_of_their_types() {
    let map = |key: Value<'static>| {
        let mut map = MapBuilder::new();
        map.push(key, 1_u32);
        map
    };
    let kinds = [Value::from(A), Value::from("text"), Value::from(1_u64), Value::from(1_u32), Value::Null];
    let fits = |is: fn(&MapBuilder) -> bool| kinds.map(|key| is(&map(key)));
    assert_eq!(fits(|map| Fields::new(map.view()).is_some()), [true, false, false, false, false]);
    assert_eq!(fits(|map| Annotations::new(map.view()).is_some()), [true, false, true, false, false]);
    assert_eq!(fits(|map| ApplicationMap::new(map.view()).is_some()), [false, true, false, false, false]);
    let list = ListBuilder::new();
    assert!(ApplicationMap::new(MapBuilder::new().push("k", list.view()).view()).is_none());
    assert!(Annotations::new(MapBuilder::new().push(A, list.view()).view()).is_some());
    let annotations = map(A.into());
    assert_eq!(Annotations::new(annotations.view()).unwrap().get("x-a"), Some(1_u32.into()));
    let application = map("text".into());
    assert_eq!(ApplicationMap::new(application.view()).unwrap().get("text"), Some(1_u32.into()));
}

// 3.4 Delivery state

#[test]
fn delivery_states_come_back() {
    let mut map = MapBuilder::new();
    map.push(A, "value");
    let error = Error { condition: A, description: None, info: None };
    let modified = Modified {
        delivery_failed: Some(true),
        undeliverable_here: Some(false),
        message_annotations: Fields::new(map.view()),
    };
    assert_eq!(modified.annotations().get("x-a"), Some("value".into()));
    let transactional = TransactionalState { txn_id: b"t", outcome: Some(Accepted {}.into()) };
    let states: [DeliveryState<'_>; 8] = [
        Received { section_number: 0, section_offset: 300 }.into(),
        Accepted {}.into(),
        Rejected::default().into(),
        Rejected { error: Some(error) }.into(),
        Released {}.into(),
        Modified::default().into(),
        modified.into(),
        transactional.into(),
    ];
    for state in states {
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(DeliveryState::decode(&mut reader), Ok(state));
        assert_eq!(DeliveryState::from_value(Reader::new(&bytes).value().unwrap()), Ok(state));
        let is_outcome = !matches!(state, DeliveryState::Received(_) | DeliveryState::Transactional(_));
        assert_eq!(state.outcome().is_some(), is_outcome, "{state:?}");
        assert_eq!(state.outcome().map_or(state, DeliveryState::from), state);
        assert_eq!(Outcome::from_value(Reader::new(&bytes).value().unwrap()).is_ok(), is_outcome);
    }
    is(&Accepted {}, &hex("00 53 24 45"));
    is(&Released {}, &hex("00 53 26 45"));
    // Some write an empty list that is not the smallest.
    assert_eq!(decode(&hex("00 53 24 c0 01 00")), Ok(Accepted {}));
}

#[test]
fn a_received_state_needs_its_fields() {
    let bytes = described(descriptor::RECEIVED, ListBuilder::new().push(1_u32));
    let error = DecodeError::Missing { composite: "amqp:received:list", field: "section_offset" };
    assert_eq!(decode::<Received>(&bytes), Err(error));
}

// 3.5 Sources and targets

#[test]
fn a_source_and_a_target_come_back() {
    let mut map = MapBuilder::new();
    map.push(A, 1_u32);
    let some = Fields::new(map.view());
    let source = Source {
        address: Some("/queues/q"),
        durable: TerminusDurability::UnsettledState,
        expiry_policy: TerminusExpiryPolicy::Never,
        timeout: 60,
        dynamic: true,
        dynamic_node_properties: some,
        distribution_mode: Some(COPY),
        filter: some,
        default_outcome: Some(Released {}.into()),
        outcomes: Symbols::Slice(&[A]),
        capabilities: Symbols::Slice(&[A]),
    };
    assert_eq!(decode(&encoded(&source)), Ok(source));
    let target = Target {
        address: None,
        durable: TerminusDurability::Configuration,
        expiry_policy: TerminusExpiryPolicy::LinkDetach,
        timeout: 1,
        dynamic: false,
        dynamic_node_properties: some,
        capabilities: Symbols::Slice(&[A]),
    };
    assert_eq!(decode(&encoded(&target)), Ok(target));
    is(&Source::default(), &hex("00 53 28 45"));
    is(&Target::default(), &hex("00 53 29 45"));
    assert_eq!((MOVE.as_str(), COPY.as_str()), ("move", "copy"));
}

// 3.5.5 Terminus durability, 3.5.6 Terminus expiry policy

#[test]
fn a_terminus_lasts_and_expires_in_these_ways_alone() {
    let source = |durable: Value<'_>, expiry: Value<'_>| {
        let mut list = ListBuilder::new();
        list.push(Value::Null).push(durable).push(expiry);
        Source::from_list(list.view()).map(|source| (source.durable, source.expiry_policy))
    };
    let durabilities =
        [TerminusDurability::None, TerminusDurability::Configuration, TerminusDurability::UnsettledState];
    for (number, durability) in (0_u32..).zip(durabilities) {
        let expected = Ok((durability, TerminusExpiryPolicy::SessionEnd));
        assert_eq!(source(number.into(), Value::Null), expected);
    }
    let policies = [
        ("link-detach", TerminusExpiryPolicy::LinkDetach),
        ("session-end", TerminusExpiryPolicy::SessionEnd),
        ("connection-close", TerminusExpiryPolicy::ConnectionClose),
        ("never", TerminusExpiryPolicy::Never),
    ];
    for (name, policy) in policies {
        let expected = Ok((TerminusDurability::None, policy));
        assert_eq!(source(Value::Null, Symbol::from_static(name).into()), expected);
    }
    let bad = |field| DecodeError::FieldValue { composite: "amqp:source:list", field };
    assert_eq!(source(3_u32.into(), Value::Null), Err(bad("durable")));
    assert_eq!(source(Value::Null, Symbol::from_static("soon").into()), Err(bad("expiry_policy")));
}

// 3.5.9 Node properties, 3.5.10 to 3.5.13 lifetime policies

#[test]
fn a_lifetime_policy_is_one_of_four() {
    let policies = [
        (LifetimePolicy::DeleteOnClose, "00 53 2b 45"),
        (LifetimePolicy::DeleteOnNoLinks, "00 53 2c 45"),
        (LifetimePolicy::DeleteOnNoMessages, "00 53 2d 45"),
        (LifetimePolicy::DeleteOnNoLinksOrMessages, "00 53 2e 45"),
    ];
    for (policy, bytes) in policies {
        let bytes = hex(bytes);
        let mut written = Vec::new();
        policy.put(&mut written);
        assert_eq!(written, bytes);
        assert_eq!(LifetimePolicy::from_value(Reader::new(&bytes).value().unwrap()), Ok(policy));
    }
    for (bytes, unfit) in
        [("00 53 2a 45", Unfit::Type), ("45", Unfit::Type), ("00 53 2b c0 02 01 41", Unfit::Value)]
    {
        let bytes = hex(bytes);
        assert_eq!(LifetimePolicy::from_value(Reader::new(&bytes).value().unwrap()), Err(unfit));
    }
}
