//! What is kept of a message, what is seen of it, what changes of it, and what its receiver gets.

mod deaths;

use super::*;
use crate::{
    composite::{Annotations, ApplicationMap},
    descriptor,
    messaging::{Header, MessageId, Properties},
    types::{ListBuilder, MapBuilder, Symbol, Timestamp, Uuid, write},
};
use alloc::{string::ToString, vec};
use leveret_model::{Change, Exact, MessageView, Value as Model, flat};

fn section<'a>(descriptor: u64, value: impl Into<Value<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    write::put_descriptor(&mut out, descriptor);
    write::put(&mut out, value);
    out
}

fn encoded<'a>(composite: &impl crate::composite::Composite<'a>) -> Vec<u8> {
    let mut out = Vec::new();
    composite.encode(&mut out);
    out
}

fn annotations(fill: impl FnOnce(&mut MapBuilder)) -> Vec<u8> {
    let mut map = MapBuilder::new();
    fill(&mut map);
    section(descriptor::MESSAGE_ANNOTATIONS, map.view())
}

fn application(fill: impl FnOnce(&mut MapBuilder)) -> Vec<u8> {
    let mut map = MapBuilder::new();
    fill(&mut map);
    section(descriptor::APPLICATION_PROPERTIES, map.view())
}

fn data(bytes: &[u8]) -> Vec<u8> {
    section(descriptor::DATA, bytes)
}

fn sym(text: &'static str) -> Symbol<'static> {
    Symbol::from_static(text)
}

/// Properties and body as they are kept.
fn kept(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let kept = Kept::of(message).unwrap();
    (kept.properties(message).to_vec(), kept.body(message).to_vec())
}

fn given(properties: &[u8], body: &[u8], redelivered: bool) -> Vec<u8> {
    let giving = Giving { exchange: b"x", routing_key: b"k", redelivered };
    give(properties, body, &giving, &mut Head::default()).concat()
}

/// 3.2.1: what was not delivered before has not failed, whatever its publisher says, and a dead letter has been acquired.
#[test]
fn a_first_delivery_has_not_failed_and_a_dead_letter_was_acquired() {
    let of = |name: &'static str, value: Value<'_>| {
        let front = annotations(|map| {
            map.push(sym(name), value);
        });
        kept(&[front, data(b"body")].concat())
    };
    let told = |(properties, body): &(Vec<u8>, Vec<u8>), redelivered| {
        let whole = given(properties, body, redelivered);
        let header = Message::new(&whole).unwrap().header();
        (header.first_acquirer.unwrap(), header.delivery_count.unwrap())
    };
    let counted = of("x-delivery-count", Value::Long(7));
    assert_eq!((told(&counted, false), told(&counted, true)), ((true, 0), (false, 7)));
    for forged in [-1, 1 << 40] {
        assert_eq!(told(&of("x-delivery-count", Value::Long(forged)), true), (false, 0));
    }
    assert_eq!(told(&of("x-opt-deaths", Value::Null), false), (false, 0));
}

/// What is remembered of the last message is never told of one that needs something else.
#[test]
fn a_head_that_was_used_before_gives_what_a_new_one_gives() {
    let header = encoded(&Header { durable: Some(true), ..Header::default() });
    let of = |name: &'static str, value: Value<'_>| {
        annotations(|map| {
            map.push(sym(name), value);
        })
    };
    let failed = of("x-delivery-count", 3_i64.into());
    let (text, long) = ("t".repeat(20), "l".repeat(2000));
    let fronts = [
        vec![],
        header.clone(),
        failed.clone(),
        [header, failed].concat(),
        of("x-t", (&*text).into()),
        of("x-l", (&*long).into()),
    ];
    let mut cases = Vec::new();
    for front in &fronts {
        let (properties, _) = kept(&[&front[..], &data(b"as it came")].concat());
        for (exchange, routing_key) in [("", "k"), ("k", ""), ("kk", "k"), ("k", "kk")] {
            for (redelivered, body) in [(false, "as it came"), (true, "as it came"), (false, "another")] {
                let giving = Giving {
                    exchange: exchange.as_bytes(),
                    routing_key: routing_key.as_bytes(),
                    redelivered,
                };
                cases.push((properties.clone(), body.as_bytes(), giving));
            }
        }
    }
    let anew = |(properties, body, giving): &(Vec<u8>, &[u8], Giving<'_>)| {
        give(properties, body, giving, &mut Head::default()).concat()
    };
    let told: Vec<_> = cases.iter().map(anew).collect();
    let mut head = Head::default();
    // Each of them behind each.
    for before in &cases {
        for ((properties, body, giving), told) in cases.iter().zip(&told) {
            give(&before.0, before.1, &before.2, &mut head);
            assert_eq!(give(properties, body, giving, &mut head).concat(), *told);
        }
    }
    let mut different = told;
    different.sort();
    different.dedup();
    assert_eq!(different.len(), cases.len());
}

fn view<'a>(properties: &'a [u8], body: &'a [u8]) -> MessageView<'a> {
    MessageView { exchange: b"", routing_key: b"q", form: FORM, properties, body, publisher: None }
}

fn property(properties: &[u8], property: Property) -> Option<Model> {
    view(properties, b"").property(property)
}

/// All headers, by name.
fn headers(properties: &[u8]) -> Vec<(String, Model)> {
    let mut list = Vec::new();
    FORM.put_headers(properties, &HeaderSelection::All, &mut list);
    let mut rest = &list[2..];
    let mut headers = Vec::new();
    while let Some((length, after)) = rest.split_first() {
        let (name, value) = after.split_at(usize::from(*length));
        rest = value;
        headers.push((String::from_utf8(name.to_vec()).unwrap(), flat::take_value(&mut rest).unwrap()));
    }
    assert_eq!(headers.len(), usize::from(u16::from_le_bytes([list[0], list[1]])));
    headers
}

fn text(text: &str) -> Model {
    Model::Text(text.to_string())
}

#[test]
fn of_a_plain_message_nothing_is_moved_and_the_body_is_the_content_of_its_data() {
    let bare = [encoded(&Properties { subject: Some("s"), ..Properties::default() }), data(b"body")].concat();
    let header = encoded(&Header { durable: Some(true), ..Header::default() });
    let message = [header, bare].concat();
    let (properties, body) = kept(&message);
    assert_eq!(body, b"body");
    assert_eq!([properties, body].concat(), message);
}

#[test]
fn the_bare_message_stays_byte_for_byte_whatever_its_body_is() {
    // Encodings that nothing here would write.
    let wide = b"\x00\x80\0\0\0\0\0\0\0\x73\xd0\0\0\0\x06\0\0\0\x02\x40\x40".to_vec();
    let long_data = b"\x00\x53\x75\xb0\0\0\0\x02hi".to_vec();
    let bodies = [
        data(b""),
        data(&[7; 300]),
        long_data,
        [data(b"a"), data(b"b")].concat(),
        section(descriptor::AMQP_VALUE, "text"),
        section(descriptor::AMQP_SEQUENCE, ListBuilder::new().view()).repeat(2),
        Vec::new(),
    ];
    let footer = section(descriptor::FOOTER, MapBuilder::new().push(sym("sig"), 1u8).view());
    let delivery = section(descriptor::DELIVERY_ANNOTATIONS, MapBuilder::new().push(sym("hop"), 1u8).view());
    for body in bodies {
        for (before, after) in [(&b""[..], &b""[..]), (&delivery, &footer), (&b""[..], &footer)] {
            let bare = [
                wide.clone(),
                application(|map| {
                    map.push("k", 1i64);
                }),
                body.clone(),
            ]
            .concat();
            let message = [before, &bare, after].concat();
            let (properties, body) = kept(&message);
            for redelivered in [false, true] {
                let given = given(&properties, &body, redelivered);
                let read = Message::new(&given).unwrap();
                assert_eq!(read.bare(), bare);
                assert!(read.layout().delivery_annotations.is_none(), "they are for one hop");
                assert!(given.ends_with(after));
                assert_eq!(read.header().first_acquirer, Some(!redelivered));
            }
        }
    }
}

#[test]
fn a_receiver_is_told_where_a_message_was_published_and_how_often_it_failed() {
    let message = [
        encoded(&Header { priority: Some(7), ttl: Some(9), ..Header::default() }),
        annotations(|map| {
            map.push(sym("x-exchange"), "made up").push(sym("x-own"), true);
            map.push(sym("x-delivery-count"), 3i64);
        }),
        data(b"b"),
    ]
    .concat();
    let (properties, body) = kept(&message);
    let given = given(&properties, &body, true);
    let read = Message::new(&given).unwrap();
    let expected = Header {
        priority: Some(7),
        ttl: Some(9),
        first_acquirer: Some(false),
        delivery_count: Some(3),
        ..Header::default()
    };
    assert_eq!(read.header(), expected);
    let annotations = read.message_annotations();
    assert_eq!(annotations.map().len(), 4);
    assert_eq!(annotations.get("x-exchange"), Some(Value::String("x")));
    assert_eq!(annotations.get("x-routing-key"), Some(Value::String("k")));
    assert_eq!(annotations.get("x-own"), Some(Value::Boolean(true)));
}

#[test]
fn a_body_that_was_changed_has_a_head_of_its_length() {
    for message in [data(b"old"), section(descriptor::AMQP_VALUE, "old"), [data(b"a"), data(b"b")].concat()] {
        let (properties, body) = kept(&message);
        let patch: Patch = [Change::SetBody(vec![b'n'; 300].into())].into_iter().collect();
        let mut arena = Vec::new();
        let patched = view(&properties, &body).patched(&patch, &mut arena).unwrap();
        let given = given(patched.properties, patched.body, false);
        assert_eq!(Message::new(&given).unwrap().bare(), data(&[b'n'; 300]));
    }
}

#[test]
fn properties_are_seen_as_those_of_the_other_protocol() {
    let uuid =
        Uuid([0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
    let message = [
        encoded(&Header { durable: Some(true), priority: Some(3), ttl: Some(60), ..Header::default() }),
        annotations(|map| {
            map.push(sym("x-basic-type"), "ty");
        }),
        encoded(&Properties {
            message_id: Some(MessageId::Uuid(uuid)),
            correlation_id: Some(MessageId::Ulong(42)),
            user_id: Some(b"u"),
            to: Some("/queues/q"),
            subject: Some("s"),
            reply_to: Some("/queues/a%20b"),
            content_type: Some(sym("text/plain")),
            content_encoding: Some(sym("gzip")),
            creation_time: Some(Timestamp(1500)),
            group_id: Some("g"),
            ..Properties::default()
        }),
        data(b""),
    ]
    .concat();
    let (properties, _) = kept(&message);
    let expected = [
        (Property::MessageId, text("urn:uuid:00112233-4455-6677-8899-aabbccddeeff")),
        (Property::CorrelationId, text("42")),
        (Property::UserId, text("u")),
        (Property::ReplyTo, text("a b")),
        (Property::ContentType, text("text/plain")),
        (Property::ContentEncoding, text("gzip")),
        (Property::Timestamp, Model::Timestamp(1500)),
        (Property::AppId, text("g")),
        (Property::DeliveryMode, Model::Integer(2)),
        (Property::Priority, Model::Integer(3)),
        (Property::Expiration, text("60")),
        (Property::MessageType, text("ty")),
    ];
    for (name, value) in expected {
        assert_eq!(property(&properties, name), Some(value), "{name:?}");
    }
    assert!(FORM.is_persistent(&properties));
    assert_eq!((FORM.ttl_ms(&properties), FORM.priority(&properties)), (Ok(Some(60)), Some(3)));
    // What is not said.
    for name in [
        Property::MessageId,
        Property::Priority,
        Property::Expiration,
        Property::MessageType,
        Property::AppId,
    ] {
        assert_eq!(property(NONE, name), None, "{name:?}");
    }
    assert_eq!(property(NONE, Property::DeliveryMode), Some(Model::Integer(1)));
    let (value, _) = kept(&section(descriptor::AMQP_VALUE, "v"));
    assert_eq!(property(&value, Property::MessageType), Some(text("amqp-1.0")));
    let address = encoded(&Properties { reply_to: Some("/exchanges/x/k"), ..Properties::default() });
    assert_eq!(property(&address, Property::ReplyTo), Some(text("/exchanges/x/k")));
}

#[test]
fn headers_are_application_properties_and_annotations_that_begin_with_x() {
    let long = "l".repeat(256);
    let message = [
        annotations(|map| {
            map.push(sym("x-note"), 1u8).push(sym("opt"), 2u8).push(sym("x-a"), "annotation");
            map.push(sym("x-cc"), ListBuilder::new().push("k1").push("k2").view());
            map.push(sym("x-exchange"), "e").push(sym("x-basic-type"), "t");
            map.push(sym("x-opt-rabbitmq-received-time"), Timestamp(5));
        }),
        encoded(&Properties { message_id: Some(MessageId::Binary(b"\x01")), ..Properties::default() }),
        application(|map| {
            map.push("t", "text").push("x-a", "property").push("n", Value::Null).push("u", u64::MAX);
            map.push("d", Value::Decimal32([0; 4])).push("nan", f64::NAN).push("inf", f32::INFINITY);
            map.push("f", 1.5f32).push(long.as_str(), 1u8).push("b", &b"\xff"[..]).push("c", 'c');
            map.push("at", Timestamp(7)).push("i", -1i8).push("bool", true);
        }),
        data(b""),
    ]
    .concat();
    let (properties, _) = kept(&message);
    let expected = vec![
        ("x-message-id", Model::Binary(vec![1].into())),
        ("x-note", Model::Integer(1)),
        ("x-a", text("annotation")),
        ("CC", Model::List(vec![text("k1"), text("k2")])),
        ("timestamp_in_ms", Model::Integer(5)),
        ("t", text("text")),
        ("n", Model::Void),
        ("u", Model::Unsigned(u64::MAX)),
        ("f", Model::Real(1.5)),
        ("b", Model::Binary(vec![0xff].into())),
        ("c", text("c")),
        ("at", Model::Timestamp(7)),
        ("i", Model::Integer(-1)),
        ("bool", Model::Boolean(true)),
    ];
    let seen = headers(&properties);
    let seen: Vec<(&str, Model)> = seen.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    assert_eq!(seen, expected);
    let view = view(&properties, b"");
    assert_eq!(view.header(&Name::from_static("x-a")), Some(text("annotation")));
    assert_eq!(view.header(&Name::from_static("x-note")), Some(Model::Integer(1)));
    assert_eq!(view.header(&Name::from_static("opt")), None);
    let more = FORM.more_keys(&properties).unwrap().unwrap();
    assert_eq!(more.keys, [Box::from(&b"k1"[..]), Box::from(&b"k2"[..])]);
    let wrong = annotations(|map| {
        map.push(sym("x-cc"), "k");
    });
    assert!(FORM.more_keys(&wrong).is_err());
    assert_eq!(FORM.more_keys(NONE), Ok(None));
}

#[test]
fn changes_are_made_where_the_fields_are_and_leave_the_rest_alone() {
    let message = [
        annotations(|map| {
            map.push(sym("opt"), 2u8).push(sym("x-gone"), 1u8);
        }),
        application(|map| {
            map.push("keep", 300u16).push("x-own", 1u8).push("gone", 1u8);
        }),
        data(b"body"),
    ]
    .concat();
    let (properties, body) = kept(&message);
    let set = |name, value| Change::SetHeader { name: Name::from_static(name), value };
    let patch: Patch = [
        set("x-new", Model::Integer(5)),
        set("x-own", text("changed")),
        set("plain", Model::Boolean(true)),
        Change::RemoveHeader { name: Name::from_static("gone") },
        Change::RemoveHeader { name: Name::from_static("x-gone") },
        Change::SetProperty { property: Property::Expiration, value: text("77") },
        Change::SetProperty { property: Property::DeliveryMode, value: Model::Integer(2) },
        Change::SetProperty { property: Property::ReplyTo, value: text("a/b") },
        Change::SetProperty {
            property: Property::MessageId,
            value: text("urn:uuid:00000000-0000-0000-0000-0000000000ff"),
        },
        Change::SetProperty { property: Property::MessageType, value: text("ty") },
    ]
    .into_iter()
    .collect();
    let mut arena = Vec::new();
    let patched = view(&properties, &body).patched(&patch, &mut arena).unwrap();
    let whole = [patched.properties, patched.body].concat();
    let read = Message::new(&whole).unwrap();
    assert_eq!(read.header(), Header { durable: Some(true), ttl: Some(77), ..Header::default() });
    assert_eq!(read.properties().reply_to, Some("/queues/a%2Fb"));
    let mut id = [0; 16];
    id[15] = 0xff;
    assert_eq!(read.properties().message_id, Some(MessageId::Uuid(Uuid(id))));
    let expected = annotations(|map| {
        map.push(sym("opt"), 2u8).push(sym("x-new"), 5i64).push(sym("x-basic-type"), "ty");
    });
    assert_eq!(read.layout().message_annotations.unwrap().of(&whole), expected);
    let expected = application(|map| {
        map.push("keep", 300u16).push("x-own", "changed").push("plain", true);
    });
    assert_eq!(read.layout().application_properties.unwrap().of(&whole), expected);
    assert_eq!(patched.body, b"body");
}

/// What an interceptor stamps is what receivers see, also where the publisher has an application property of that name.
#[test]
fn of_an_annotation_and_a_property_of_one_name_the_annotation_is_the_header() {
    let own = application(|map| {
        map.push("x-stamp", "forged");
    });
    let front = annotations(|map| {
        map.push(sym("x-stamp"), "forged too");
    });
    let (properties, body) = kept(&[front, own.clone(), data(b"body")].concat());
    let name = Name::from_static("x-stamp");
    let patch: Patch =
        [Change::SetHeader { name: name.clone(), value: text("stamped") }].into_iter().collect();
    let mut arena = Vec::new();
    let patched = view(&properties, &body).patched(&patch, &mut arena).unwrap();
    assert_eq!(patched.header(&name), Some(text("stamped")));
    let whole = [patched.properties, patched.body].concat();
    let read = Message::new(&whole).unwrap();
    assert_eq!(read.message_annotations().get("x-stamp"), Some(Value::String("stamped")));
    assert_eq!(
        read.layout().application_properties.unwrap().of(&whole),
        own,
        "the bare message is its sender's"
    );
    assert!(!FORM.touches_signed(&properties, &patch));
}

#[test]
fn what_is_said_exactly_is_an_annotation_of_that_type() {
    let own = application(|map| {
        map.push("x-own", 1u8);
    });
    let (properties, body) = kept(&[own.clone(), data(b"body")].concat());
    let exactly = |name, value: Value<'_>| {
        let mut bytes = Vec::new();
        write::put(&mut bytes, value);
        let exact = Exact { protocol: FORM.protocol(), bytes: bytes.into() };
        Change::SetHeaderExactly { name: Name::from_static(name), value: model_value(&value), exact }
    };
    let patch: Patch =
        [exactly("x-own", Value::Int(5)), exactly("x-id", Value::Uuid(Uuid([7; 16])))].into_iter().collect();
    assert!(!FORM.touches_signed(&properties, &patch));
    let mut arena = Vec::new();
    let patched = view(&properties, &body).patched(&patch, &mut arena).unwrap();
    let whole = [patched.properties, patched.body].concat();
    let read = Message::new(&whole).unwrap();
    assert_eq!(read.message_annotations().get("x-own"), Some(Value::Int(5)));
    assert_eq!(read.message_annotations().get("x-id"), Some(Value::Uuid(Uuid([7; 16]))));
    assert_eq!(read.layout().application_properties.unwrap().of(&whole), own);
}

#[test]
fn what_the_sender_may_have_signed_is_told_apart_and_a_change_of_it_takes_the_footer_away() {
    let properties = Properties { message_id: Some(MessageId::String("m")), ..Properties::default() };
    let own = application(|map| {
        map.push("own", 1u8).push("x-own", 1u8);
    });
    let footer = section(descriptor::FOOTER, MapBuilder::new().push(sym("sig"), 1u8).view());
    let message = [encoded(&properties), own, data(b"body"), footer.clone()].concat();
    let (properties, body) = kept(&message);
    let (header, value) = (Name::from_static, Model::Integer(5));
    let set = |property, value| Change::SetProperty { property, value };
    let remove = |name| Change::RemoveHeader { name: header(name) };
    for (change, is_signed) in [
        (Change::SetHeader { name: header("new"), value: value.clone() }, true),
        (Change::SetHeader { name: header("x-own"), value: value.clone() }, true),
        (Change::SetHeader { name: header("x-new"), value: value.clone() }, false),
        (remove("own"), true),
        (remove("other"), false),
        (remove("x-other"), false),
        (set(Property::AppId, text("a")), true),
        (Change::RemoveProperty { property: Property::MessageId }, true),
        (Change::RemoveProperty { property: Property::CorrelationId }, false),
        (set(Property::Priority, value.clone()), false),
        (set(Property::Expiration, text("5")), false),
        (set(Property::MessageType, text("t")), false),
        (Change::SetRoutingKey(header("k")), false),
        (Change::SetBody(b"other".to_vec().into()), true),
    ] {
        let patch: Patch = [change.clone()].into_iter().collect();
        assert_eq!(FORM.touches_signed(&properties, &patch), is_signed, "{change:?}");
        let mut arena = Vec::new();
        let patched = view(&properties, &body).patched(&patch, &mut arena).unwrap();
        let whole = given(patched.properties, patched.body, false);
        assert_eq!(whole.ends_with(&footer), !is_signed, "{change:?}");
        let is_as_sent = Message::new(&whole).unwrap().bare() == Message::new(&message).unwrap().bare();
        assert_eq!(is_as_sent, !is_signed, "{change:?}");
    }
}

#[test]
fn what_cannot_be_said_is_an_error() {
    let refused = |change| {
        let patch: Patch = [change].into_iter().collect();
        FORM.patch(NONE, &patch, &mut Vec::new()).unwrap_err()
    };
    let set = |property, value| Change::SetProperty { property, value };
    let header = |name: &[u8], value| Change::SetHeader { name: Name::new(name).unwrap(), value };
    let class = |property| matches!(property, PatchError::PropertyClass { .. });
    let value = |property| matches!(property, PatchError::PropertyValue { .. });
    let of_header = |error| matches!(error, PatchError::Header { .. });
    assert!(class(refused(set(Property::Priority, text("1")))));
    assert!(value(refused(set(Property::Priority, Model::Integer(256)))));
    assert!(value(refused(set(Property::Expiration, text("soon")))));
    assert!(value(refused(set(Property::ContentType, text("\u{e9}")))));
    assert!(class(refused(set(Property::Timestamp, Model::Integer(1)))));
    assert!(of_header(refused(header(b"\xff", Model::Void))));
    assert!(of_header(refused(header("x-\u{e9}".as_bytes(), Model::Void))));
    assert!(of_header(refused(header(b"list", Model::List(vec![])))));
    assert!(of_header(refused(header(b"x-d", Model::Decimal { scale: 1, unscaled: 1 }))));
    let long = Model::Binary(vec![0; PROPERTIES_BYTES_MAX].into());
    assert!(matches!(refused(header(b"long", long)), PatchError::TooLarge { .. }));
}

#[test]
fn what_is_no_message_is_not_kept_and_no_bytes_break_the_reading() {
    for wrong in [&b"\x00\x53\x75\xa0\x05hi"[..], b"x", b"\x00\x53\x70\x45\x00\x53\x70\x45"] {
        assert!(Kept::of(wrong).is_err());
    }
    for end in 0..NONE.len() {
        let cut = &NONE[..end];
        assert_eq!(property(cut, Property::MessageId), None);
        let _ = given(cut, b"b", false);
    }
    assert!(is_body(&section(descriptor::AMQP_VALUE, "v")) && is_body(&data(b"x")));
    assert!(!is_body(b"plain") && !is_body(b"") && !is_body(&encoded(&Header::default())));
    let _: (Annotations<'_>, ApplicationMap<'_>) = Default::default();
}
