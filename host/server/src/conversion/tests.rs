//! RabbitMQ's tables of conversions, row by row.

use super::*;
use leveret_amqp10::{
    Value as Value10,
    composite::Composite,
    form::{FORM as FORM10, Giving, Head, Kept, give},
    message::{Body, Message},
    messaging::{Header, MessageId, Properties as Properties10},
    types::{ListBuilder, MapBuilder, Symbol, Timestamp, Uuid, write},
};
use leveret_amqp091::{form::FORM as FORM091, properties::MessageProperties};
use leveret_model::Table;

const ID: [u8; 16] =
    [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
const URN: &str = "urn:uuid:00112233-4455-6677-8899-aabbccddeeff";

fn view<'a>(form: &'static dyn Form, properties: &'a [u8], body: &'a [u8]) -> MessageView<'a> {
    MessageView { exchange: b"", routing_key: b"q", form, properties, body, publisher: None }
}

fn sym(text: &'static str) -> Symbol<'static> {
    Symbol::from_static(text)
}

fn encoded<'a>(composite: &impl Composite<'a>) -> Vec<u8> {
    let mut out = Vec::new();
    composite.encode(&mut out);
    out
}

fn section<'a>(descriptor: u64, value: impl Into<Value10<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    write::put_descriptor(&mut out, descriptor);
    write::put(&mut out, value);
    out
}

fn data(body: &[u8]) -> Vec<u8> {
    section(0x75, body)
}

/// A message of 1.0 as one of 0-9-1: its properties in the broker's words, its headers, its body.
fn to_091(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let kept = Kept::of(message).unwrap();
    let (properties, body) = to_amqp091(&view(FORM10, kept.properties(message), kept.body(message)));
    leveret_amqp091::properties::check(&properties).unwrap();
    (properties.into_owned(), body.into_owned())
}

/// A message of 0-9-1 as its receiver gets it by 1.0.
fn to_10(properties: &MessageProperties<'_>, body: &[u8]) -> Vec<u8> {
    let properties = properties.encode();
    let (properties, body) = to_amqp10(&view(FORM091, &properties, body));
    give(&properties, &body, &Giving::default(), &mut Head::default()).concat()
}

fn header(properties: &[u8], name: &str) -> Option<Value> {
    view(FORM091, properties, b"").header(&Name::new(name.as_bytes()).unwrap())
}

fn property(properties: &[u8], property: Property) -> Option<Value> {
    view(FORM091, properties, b"").property(property)
}

fn text(text: &str) -> Option<Value> {
    Some(Value::Text(text.to_owned()))
}

#[test]
fn amqp10_to_091_row_by_row() {
    let annotations = {
        let mut map = MapBuilder::new();
        map.push(sym("x-note"), 7u8).push(sym("other"), 1u8).push(sym("x-basic-type"), "ty");
        map.push(sym("x-cc"), ListBuilder::new().push("k2").view());
        map.push(sym("x-opt-rabbitmq-received-time"), Timestamp(9));
        section(0x72, map.view())
    };
    let fields = Properties10 {
        message_id: Some(MessageId::Uuid(Uuid(ID))),
        user_id: Some(b"guest"),
        to: Some("/queues/q"),
        subject: Some("dropped"),
        reply_to: Some("/queues/r%20q"),
        correlation_id: Some(MessageId::Ulong(42)),
        content_type: Some(sym("text/plain")),
        content_encoding: Some(sym("gzip")),
        absolute_expiry_time: Some(Timestamp(1)),
        creation_time: Some(Timestamp(2999)),
        group_id: Some("group"),
        group_sequence: Some(1),
        reply_to_group_id: Some("dropped"),
    };
    let application = {
        let mut map = MapBuilder::new();
        map.push("string", "s").push("ulong", 5u64).push("null", Value10::Null).push("uuid", Uuid(ID));
        map.push("decimal", Value10::Decimal64([0; 8])).push("nan", f64::NAN).push("double", 2.5f64);
        map.push("huge", u64::MAX).push("binary", &b"\x01"[..]);
        section(0x74, map.view())
    };
    let header10 = Header { durable: Some(true), priority: Some(9), ttl: Some(1234), ..Header::default() };
    let message = [encoded(&header10), annotations, encoded(&fields), application, data(b"body")].concat();
    let (properties, body) = to_091(&message);
    assert_eq!(body, b"body");
    let rows = [
        (Property::DeliveryMode, Some(Value::Integer(2))),
        (Property::Priority, Some(Value::Integer(9))),
        (Property::Expiration, text("1234")),
        (Property::MessageId, text(URN)),
        (Property::CorrelationId, text("42")),
        (Property::UserId, text("guest")),
        (Property::ReplyTo, text("r q")),
        (Property::ContentType, text("text/plain")),
        (Property::ContentEncoding, text("gzip")),
        (Property::Timestamp, Some(Value::Timestamp(2000))),
        (Property::AppId, text("group")),
        (Property::MessageType, text("ty")),
    ];
    for (name, value) in rows {
        assert_eq!(property(&properties, name), value, "{name:?}");
    }
    let rows = [
        ("string", text("s")),
        ("ulong", Some(Value::Integer(5))),
        ("null", Some(Value::Void)),
        ("uuid", text(URN)),
        ("decimal", None),
        ("nan", None),
        ("double", Some(Value::Real(2.5))),
        ("huge", None),
        ("binary", Some(Value::Binary(vec![1].into()))),
        ("x-note", Some(Value::Integer(7))),
        ("other", None),
        ("CC", Some(Value::List(vec![Value::Text("k2".into())]))),
        ("timestamp_in_ms", Some(Value::Integer(9))),
    ];
    for (name, value) in rows {
        assert_eq!(header(&properties, name), value, "{name}");
    }
}

#[test]
fn ids_that_are_no_short_texts_become_headers() {
    let long = "i".repeat(256);
    let fields = Properties10 {
        message_id: Some(MessageId::String(&long)),
        correlation_id: Some(MessageId::Binary(b"\xff")),
        ..Properties10::default()
    };
    let (properties, _) = to_091(&[encoded(&fields), data(b"")].concat());
    assert_eq!(property(&properties, Property::MessageId), None);
    assert_eq!(header(&properties, "x-message-id"), text(&long));
    assert_eq!(header(&properties, "x-correlation-id"), Some(Value::Binary(vec![0xff].into())));
}

#[test]
fn several_data_sections_are_one_body() {
    let encoded_body = [data(b"a"), data(b""), data(&[b'b'; 300])].concat();
    let (properties, body) = to_091(&encoded_body);
    assert_eq!(body, [&b"a"[..], &[b'b'; 300]].concat());
    assert_eq!(property(&properties, Property::MessageType), None);
    let mut annotations = MapBuilder::new();
    annotations.push(sym("x-basic-type"), "own");
    let (properties, _) = to_091(&[section(0x72, annotations.view()), encoded_body].concat());
    assert_eq!(property(&properties, Property::MessageType), text("own"));
}

#[test]
fn a_body_that_is_not_data_stays_encoded_both_ways() {
    let bodies = [
        section(0x77, "text"),
        section(0x76, ListBuilder::new().push(1u8).view()),
        section(0x77, Value10::Null),
    ];
    for encoded_body in bodies {
        let (properties, body) = to_091(&encoded_body);
        assert_eq!((property(&properties, Property::MessageType), &body), (text("amqp-1.0"), &encoded_body));
        let said = MessageProperties { message_type: Some(b"amqp-1.0"), ..MessageProperties::default() };
        let back = to_10(&said, &body);
        let read = Message::new(&back).unwrap();
        assert_eq!(read.layout().body.unwrap().span.of(&back), encoded_body);
        assert!(read.message_annotations().get("x-basic-type").is_none());
    }
    // Nor does a type of its own hide that.
    let mut annotations = MapBuilder::new();
    annotations.push(sym("x-basic-type"), "own");
    let (properties, _) = to_091(&[section(0x72, annotations.view()), section(0x77, "text")].concat());
    assert_eq!(property(&properties, Property::MessageType), text("amqp-1.0"));
    // Who only says so is not believed.
    let said = MessageProperties { message_type: Some(b"amqp-1.0"), ..MessageProperties::default() };
    let back = to_10(&said, b"plain");
    let Body::Data(bodies) = Message::new(&back).unwrap().body() else { panic!("no data") };
    assert_eq!(bodies.data().collect::<Vec<_>>(), [b"plain"]);
}

#[test]
fn amqp091_to_10_row_by_row() {
    let long = "l".repeat(256);
    let headers: Table = [
        ("x-note", Value::Integer(7)),
        ("x-list", Value::List(vec![Value::Boolean(true)])),
        ("CC", Value::List(vec![Value::Text("k2".into())])),
        ("text", Value::Text("t".into())),
        ("long", Value::Text(long.clone())),
        ("bytes", Value::Binary(vec![0xff].into())),
        ("array", Value::List(vec![])),
        ("table", Value::Map(vec![])),
        ("void", Value::Void),
        ("time", Value::Timestamp(5000)),
        ("real", Value::Real(0.5)),
        ("decimal", Value::Decimal { scale: 1, unscaled: 2 }),
    ]
    .into_iter()
    .map(|(name, value)| (Name::from_static(name), value))
    .collect();
    let said = MessageProperties {
        content_type: Some(b"text/plain"),
        content_encoding: Some(b"gzip"),
        headers: Some(headers),
        delivery_mode: Some(2),
        priority: Some(3),
        correlation_id: Some(b"cor"),
        reply_to: Some(b"r q"),
        expiration: Some(b"60000"),
        message_id: Some(URN.as_bytes()),
        timestamp: Some(2),
        message_type: Some(b"ty"),
        user_id: Some(b"guest"),
        app_id: Some(b"app"),
    };
    let message = to_10(&said, b"body");
    let read = Message::new(&message).unwrap();
    let came = read.header();
    assert_eq!((came.durable, came.priority, came.ttl), (Some(true), Some(3), Some(60_000)));
    let expected = Properties10 {
        message_id: Some(MessageId::Uuid(Uuid(ID))),
        user_id: Some(b"guest"),
        reply_to: Some("/queues/r%20q"),
        correlation_id: Some(MessageId::String("cor")),
        content_type: Some(sym("text/plain")),
        content_encoding: Some(sym("gzip")),
        creation_time: Some(Timestamp(2000)),
        group_id: Some("app"),
        ..Properties10::default()
    };
    assert_eq!(read.properties(), expected);
    let annotations = read.message_annotations();
    assert_eq!(annotations.get("x-note"), Some(Value10::Long(7)));
    assert!(matches!(annotations.get("x-list"), Some(Value10::List(_))));
    assert_eq!(annotations.get("x-basic-type"), Some(Value10::String("ty")));
    let mut keys = ListBuilder::new();
    assert_eq!(annotations.get("x-cc"), Some(Value10::List(keys.push("k2").view())));
    let application = read.application_properties();
    let rows = [
        ("text", Some(Value10::String("t"))),
        ("long", Some(Value10::String(&long))),
        ("bytes", Some(Value10::Binary(b"\xff"))),
        ("array", None),
        ("table", None),
        ("void", Some(Value10::Null)),
        ("time", Some(Value10::Timestamp(Timestamp(5000)))),
        ("real", Some(Value10::Double(0.5))),
        ("decimal", None),
    ];
    for (name, value) in rows {
        assert_eq!(application.get(name), value, "{name}");
    }
    let Body::Data(bodies) = read.body() else { panic!("no data") };
    assert_eq!(bodies.data().collect::<Vec<_>>(), [b"body"]);
}

#[test]
fn a_message_that_says_nothing_says_nothing_in_the_other_protocol() {
    let message = to_10(&MessageProperties::default(), b"");
    let read = Message::new(&message).unwrap();
    assert_eq!(read.properties(), Properties10::default());
    assert!(read.application_properties().map().is_empty());
    let came = read.header();
    assert_eq!((came.durable, came.priority, came.ttl), (None, None, None));
    let (properties, body) = to_091(&data(b""));
    let mode = MessageProperties { delivery_mode: Some(1), ..MessageProperties::default() };
    assert_eq!((properties, body), (mode.encode(), Vec::new()));
    // An expiration that is no number, which the broker never takes, and a type that is no text.
    let odd =
        MessageProperties { expiration: Some(b"soon"), content_type: Some(b"\xff"), ..Default::default() };
    let message = to_10(&odd, b"");
    assert_eq!(Message::new(&message).unwrap().properties(), Properties10::default());
}

#[test]
fn forms_are_told_apart() {
    assert!(is_of(FORM10, FORM10) && is_of(FORM091, FORM091));
    assert!(!is_of(FORM10, FORM091) && !is_of(FORM091, FORM10));
}

#[test]
fn of_very_many_headers_those_go_that_cannot_be_said() {
    const COUNT: usize = 50_000;
    let mut map = MapBuilder::new();
    for number in 0..COUNT {
        // 0-9-1 has no unsigned integers of this size.
        map.push(format!("n{number}").as_str(), u64::MAX);
    }
    map.push("kept", "t");
    let mut message = section(0x74, map.view());
    message.extend(data(b""));
    let (properties, _) = to_091(&message);
    assert_eq!(header(&properties, "kept"), Some(Value::Text("t".to_owned())));
    assert_eq!(header(&properties, "n1"), None);
}

/// Whatever receivers speak, they do not see who else was sent a message, and all else as it was sent.
#[test]
fn hidden_keys_are_seen_in_neither_protocol() {
    let list = |key: &str| Value::List(vec![Value::Text(key.to_owned())]);
    let encode = |headers: &[(&'static str, Value)]| {
        let headers: Table =
            headers.iter().map(|(name, value)| (Name::from_static(name), value.clone())).collect();
        MessageProperties { headers: Some(headers), priority: Some(3), ..MessageProperties::default() }
            .encode()
    };
    let sent = encode(&[("CC", list("told")), ("BCC", list("hidden")), ("n", Value::Integer(5))]);
    let hiding = view(leveret_amqp091::form::HIDING, &sent, b"body");
    let (properties, body) = to_amqp091(&hiding);
    assert_eq!(properties, encode(&[("CC", list("told")), ("n", Value::Integer(5))]));
    assert_eq!(body, &b"body"[..]);
    let (properties, body) = to_amqp10(&hiding);
    let given = give(&properties, &body, &Giving::default(), &mut Head::default()).concat();
    let holds = |text: &[u8]| given.windows(text.len()).any(|window| window == text);
    assert!(holds(b"told") && holds(b"body"));
    assert!(!holds(b"hidden") && !holds(b"BCC"));
}
