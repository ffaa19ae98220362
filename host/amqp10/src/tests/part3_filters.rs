//! Section 3.5.8, and the filters of "AMQP Filter Expressions Version 1.0" and of Apache's registry.

use super::hex;
use crate::{
    Condition, Value,
    composite::{Composite, Fields},
    descriptor,
    filter::{FILTERS_MAX, FilterError, FilterSet, Queued, compile},
    message::Message,
    messaging::{Header, MessageId, Properties},
    types::{ListBuilder, MapBuilder, Reader, Symbol, Timestamp, Uuid, write},
};
use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use leveret_model::{Form, HeaderSelection, MessageView, Patch, PatchError, Property, flat};

const NOW_MS: i64 = 1_795_977_000_000;

/// A described value, encoded.
fn described<'a>(descriptor: impl Into<Value<'a>>, value: impl Into<Value<'a>>) -> Vec<u8> {
    let mut out = vec![0];
    write::put(&mut out, descriptor);
    write::put(&mut out, value);
    out
}

fn value(bytes: &[u8]) -> Value<'_> {
    Reader::new(bytes).value().unwrap()
}

fn symbol(text: &str) -> Symbol<'_> {
    Symbol::new(text).unwrap()
}

fn section(code: u64, map: &MapBuilder) -> Vec<u8> {
    let mut out = Vec::new();
    write::put_descriptor(&mut out, code);
    write::put(&mut out, map.view());
    out
}

/// A message with a field in every section.
fn message() -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header {
        durable: Some(true),
        priority: Some(9),
        ttl: Some(60_000),
        first_acquirer: Some(true),
        delivery_count: Some(2),
    };
    header.encode(&mut out);
    out.extend(section(descriptor::DELIVERY_ANNOTATIONS, MapBuilder::new().push(symbol("d"), true)));
    let mut annotations = MapBuilder::new();
    annotations.push(symbol("x-opt-m"), "m").push(7_u64, "by number");
    out.extend(section(descriptor::MESSAGE_ANNOTATIONS, &annotations));
    Properties {
        message_id: Some(MessageId::Ulong(17)),
        user_id: Some(b"guest"),
        to: Some("/queues/q"),
        subject: Some("created"),
        reply_to: Some("/queues/r"),
        correlation_id: Some(MessageId::Uuid(Uuid([0xab; 16]))),
        content_type: Some(symbol("text/plain")),
        content_encoding: Some(symbol("gzip")),
        absolute_expiry_time: Some(Timestamp(NOW_MS + 1)),
        creation_time: Some(Timestamp(NOW_MS - 1)),
        group_id: Some("g"),
        group_sequence: Some(3),
        reply_to_group_id: Some("r"),
    }
    .encode(&mut out);
    let mut application = MapBuilder::new();
    application.push("country", symbol("UK")).push("nothing", Value::Null).push("letter", 'x');
    application.push("ubyte", 1_u8).push("short", -2_i16).push("ulong", u64::MAX).push("float", 0.5_f32);
    application.push("time", Timestamp(5)).push("bytes", &b"\xff"[..]).push("uuid", Uuid([1; 16]));
    application.push("decimal", Value::Decimal32([0x32, 0x00, 0x00, 0x0f]));
    out.extend(section(descriptor::APPLICATION_PROPERTIES, &application));
    write::put_descriptor(&mut out, descriptor::AMQP_VALUE);
    write::put(&mut out, "body");
    out.extend(section(descriptor::FOOTER, MapBuilder::new().push(symbol("f"), 1.5_f64)));
    out
}

fn matches(filter: &[u8]) -> bool {
    let bytes = message();
    compile(value(filter)).unwrap().matches(&Message::new(&bytes).unwrap(), NOW_MS)
}

#[test]
fn an_expression_reads_every_section() {
    for expression in [
        "h.durable AND h.priority = 9 AND h.ttl = 60000 AND h.first_acquirer AND h.delivery_count = 2",
        "d.d AND m.[x-opt-m] = 'm' AND f.f = 1.5",
        "p.message_id = 17 AND p.user_id = 'guest' AND p.to = '/queues/q' AND p.subject = 'created'",
        "p.reply_to = '/queues/r' AND p.correlation_id = 0xABABABABABABABABABABABABABABABAB",
        "p.content_type = 'text/plain' AND p.content_encoding = 'gzip'",
        "p.absolute_expiry_time > UTC() AND p.creation_time < UTC()",
        "p.group_id = 'g' AND p.group_sequence = 3 AND p.reply_to_group_id = 'r'",
        "country = 'UK' AND nothing IS NULL AND letter = 'x'",
        "ubyte = 1 AND short = -2 AND ulong = 18446744073709551615 AND float = 0.5",
        "time = 5 AND bytes = 0xFF AND uuid = 0x01010101010101010101010101010101 AND decimal = 1.5",
    ] {
        assert!(matches(&described(0x120_u64, expression)), "{expression}");
        assert!(!matches(&described(0x120_u64, format!("NOT ({expression})").as_str())), "{expression}");
    }
    assert!(matches(&described(symbol("amqp:sql-filter"), "country = 'UK'")));
}

#[test]
fn a_message_of_one_section_has_no_other_fields() {
    let mut bytes = Vec::new();
    write::put_descriptor(&mut bytes, descriptor::AMQP_VALUE);
    write::put(&mut bytes, "body");
    let message = Message::new(&bytes).unwrap();
    for (expression, expected) in [
        ("h.priority = 4 AND NOT h.durable AND h.ttl IS NULL", true),
        ("p.subject IS NULL AND country IS NULL AND m.m IS NULL AND d.d IS NULL AND f.f IS NULL", true),
        ("country = 'UK'", false),
        ("country <> 'UK'", false),
    ] {
        let filter = described(0x120_u64, expression);
        assert_eq!(compile(value(&filter)).unwrap().matches(&message, NOW_MS), expected, "{expression}");
    }
}

#[test]
fn a_selector_has_the_descriptor_of_apache() {
    for filter in [
        described(0x468c_0000_0004_u64, "JMSPriority = 9 AND country LIKE 'U%'"),
        described(symbol("apache.org:selector-filter:string"), "JMSType = 'created' AND ubyte / 2 = 0"),
    ] {
        assert!(matches(&filter));
    }
    assert!(!matches(&described(0x468c_0000_0004_u64, "JMSPriority = 8")));
}

#[test]
fn property_filters_are_maps() {
    for (code, name) in [(0x173_u64, "amqp:properties-filter"), (0x174, "amqp:application-properties-filter")]
    {
        let is_properties = code == 0x173;
        for (key, reference, expected) in [
            ("subject", Value::from("&p:cre"), is_properties),
            ("message-id", Value::from(17_u64), is_properties),
            ("content-type", symbol("text/plain").into(), is_properties),
            ("country", Value::from("&s:K"), !is_properties),
            ("ubyte", Value::from(1.0_f64), !is_properties),
            ("country", Value::from("FR"), false),
        ] {
            let mut map = MapBuilder::new();
            if is_properties {
                map.push(symbol(key), reference)
            } else {
                map.push(key, reference)
            };
            for filter in [described(code, map.view()), described(symbol(name), map.view())] {
                let found = compile(value(&filter));
                let bytes = message();
                let message = Message::new(&bytes).unwrap();
                assert_eq!(found.is_ok_and(|filter| filter.matches(&message, 0)), expected, "{name} {key}");
            }
        }
    }
}

#[test]
fn what_is_no_filter_is_refused_with_a_reason() {
    let (mut strings, mut symbols) = (MapBuilder::new(), MapBuilder::new());
    strings.push("subject", "x");
    symbols.push(symbol("k"), "x");
    for (filter, condition, reason) in [
        (
            described(0x120_u64, "a ="),
            Condition::InvalidField,
            "at character 4: expected a value, found the end",
        ),
        (
            described(0x120_u64, symbol("a")),
            Condition::InvalidField,
            "a filter with that descriptor is a string",
        ),
        (described(0x120_u64, 7_u32), Condition::InvalidField, "a filter with that descriptor is a string"),
        (described(0x173_u64, "a"), Condition::InvalidField, "a filter with that descriptor is a map"),
        (
            described(0x173_u64, strings.view()),
            Condition::InvalidField,
            "a filter with that descriptor is a map whose keys are symbols",
        ),
        (
            described(0x174_u64, symbols.view()),
            Condition::InvalidField,
            "a filter with that descriptor is a map whose keys are strings",
        ),
        (
            described(0x174_u64, MapBuilder::new().view()),
            Condition::InvalidField,
            "a property filter has at least one field",
        ),
        (
            described(0x468c_0000_0004_u64, "JMSColour = 1"),
            Condition::InvalidField,
            "at character 1: there is no field JMSColour",
        ),
        (
            described(symbol("rabbitmq:stream-offset-spec"), "first"),
            Condition::NotImplemented,
            "there is no filter with that descriptor",
        ),
        (described(0x121_u64, "a"), Condition::NotImplemented, "there is no filter with that descriptor"),
        (
            described("amqp:sql-filter", "a"),
            Condition::NotImplemented,
            "there is no filter with that descriptor",
        ),
    ] {
        let error = compile(value(&filter)).unwrap_err();
        assert_eq!((error.condition(), error.to_string().as_str()), (condition, reason));
    }
    assert_eq!(compile("a = 1".into()).unwrap_err(), FilterError::NotDescribed);
    let list = ListBuilder::new();
    assert_eq!(compile(list.view().into()).unwrap_err().condition(), Condition::InvalidField);
}

/// "A message will pass through a filter-set if and only if it passes through each of the named filters."
#[test]
fn a_set_keeps_what_is_in_force_and_says_what_is_not() {
    let (good, other, bad) = (
        described(0x120_u64, "country = 'UK'"),
        described(0x468c_0000_0004_u64, "JMSPriority = 9"),
        described(0x120_u64, "country ="),
    );
    let mut map = MapBuilder::new();
    map.push(symbol("sql-filter"), value(&good)).push(symbol("broken"), value(&bad));
    map.push(symbol("nothing"), Value::Null).push(symbol("jms-selector"), value(&other));
    map.push(symbol("plain"), "country = 'UK'");
    let set = FilterSet::of(Fields::new(map.view()).unwrap());
    let in_force = set.in_force();
    let names: Vec<&str> =
        in_force.view().iter().map(|(name, _)| name.as_symbol().unwrap().as_str()).collect();
    assert_eq!(names, ["sql-filter", "jms-selector"]);
    assert_eq!(set.in_force().view().symbol("sql-filter"), Some(value(&good)));
    let refused: Vec<String> = set.refused().map(|(name, error)| format!("{name}: {error}")).collect();
    assert_eq!(
        refused,
        ["broken: at character 10: expected a value, found the end", "plain: a filter has a descriptor",]
    );
    let bytes = message();
    let message = Message::new(&bytes).unwrap();
    assert!(set.filter().matches(&message, 0));
    let stricter = described(0x120_u64, "p.subject = 'other'");
    map.push(symbol("one-more"), value(&stricter));
    let set = FilterSet::of(Fields::new(map.view()).unwrap());
    assert!(!set.filter().matches(&message, 0));
    assert!(FilterSet::of(Fields::EMPTY).filter().is_empty());
}

#[test]
fn a_set_has_a_largest_number_of_filters() {
    let names: Vec<String> = (0..=FILTERS_MAX).map(|number| format!("f{number}")).collect();
    let filter = described(0x120_u64, "a = 1");
    let mut map = MapBuilder::new();
    for name in &names {
        map.push(symbol(name), value(&filter));
    }
    let set = FilterSet::of(Fields::new(map.view()).unwrap());
    let refused: Vec<(Symbol<'_>, &FilterError)> = set.refused().collect();
    assert_eq!(refused, [(symbol(&names[FILTERS_MAX]), &FilterError::TooMany)]);
    assert_eq!(set.iter().count(), FILTERS_MAX + 1);
}

/// A form of messages, with one header and without properties where they are asked for by name.
struct Kept(&'static str);

impl Form for Kept {
    fn protocol(&self) -> &'static str {
        self.0
    }
    fn put_headers(&self, _: &[u8], _: &HeaderSelection, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\x01\0\x07country");
        flat::put_string(out, b"FR");
    }
    fn put_property(&self, _: &[u8], _: Property, out: &mut Vec<u8>) {
        out.push(flat::ABSENT);
    }
    fn is_persistent(&self, _: &[u8]) -> bool {
        true
    }
    fn empty(&self) -> &'static [u8] {
        b""
    }
    fn patch(&self, _: &[u8], _: &Patch, _: &mut Vec<u8>) -> Result<(), PatchError> {
        Ok(())
    }
}

fn view<'a>(form: &'static dyn Form, properties: &'a [u8]) -> MessageView<'a> {
    MessageView { exchange: b"orders", routing_key: b"a.b", form, properties, body: b"", publisher: None }
}

#[test]
fn a_message_in_a_queue_has_the_fields_that_it_came_with() {
    let bytes = message();
    let came = Message::new(&bytes).unwrap();
    let layout = came.layout();
    let part = |span| came.part(span).unwrap();
    for data_head in
        ["", "00 53 75 a0 ff", "00 53 75 b0 00000100", "00 a3 10 616d71703a646174613a62696e617279 a0 00"]
    {
        let kept = [
            part(layout.header),
            part(layout.message_annotations),
            part(layout.properties),
            part(layout.application_properties),
            &hex(data_head),
            part(layout.footer),
        ]
        .concat();
        let view = view(&Kept(crate::form::PROTOCOL), &kept);
        for (expression, is_redelivered) in [
            ("h.durable AND h.priority = 9 AND h.ttl = 60000 AND NOT h.first_acquirer", true),
            ("h.first_acquirer AND h.delivery_count = 0", false),
            (
                "p.message_id = 17 AND p.user_id = 'guest' AND p.to = '/queues/q' AND p.subject = 'created'",
                false,
            ),
            ("p.correlation_id = 0xABABABABABABABABABABABABABABABAB AND p.reply_to_group_id = 'r'", false),
            (
                "country = 'UK' AND nothing IS NULL AND decimal = 1.5 AND f.f = 1.5 AND m.[x-opt-m] = 'm'",
                false,
            ),
            ("m.[x-exchange] = 'orders' AND m.[x-routing-key] = 'a.b' AND d.d IS NULL", false),
        ] {
            let filter = compile(value(&described(0x120_u64, expression))).unwrap();
            assert!(filter.matches(&Queued::new(view, is_redelivered), NOW_MS), "{expression}");
        }
    }
    let failed =
        section(descriptor::MESSAGE_ANNOTATIONS, MapBuilder::new().push(symbol("x-delivery-count"), 3_i64));
    let filter = compile(value(&described(0x468c_0000_0004_u64, "JMSXDeliveryCount = 4"))).unwrap();
    assert!(filter.matches(&Queued::new(view(&Kept(crate::form::PROTOCOL), &failed), true), NOW_MS));
}

#[test]
fn a_message_of_another_protocol_has_the_fields_of_its_conversion() {
    let view = view(&Kept("other"), b"");
    let expression = "h.durable AND country = 'FR' AND m.[x-exchange] = 'orders' AND NOT h.first_acquirer";
    let filter = compile(value(&described(0x120_u64, expression))).unwrap();
    assert!(filter.matches(&Queued::new(view, true), NOW_MS));
    assert!(!filter.matches(&Queued::new(view, false), NOW_MS));
}

/// Section 1.6.13 to 1.6.15: IEEE 754-2008, binary integer decimal.
#[test]
fn decimals_are_numbers() {
    for (decimal, expression) in [
        (Value::Decimal32([0x32, 0x80, 0x00, 0x2a]), "k = 42"),
        (Value::Decimal32([0xb2, 0x80, 0x00, 0x2a]), "k = -42"),
        (Value::Decimal32([0x33, 0x80, 0x00, 0x05]), "k = 500"),
        // 9,999,999 begins with 100 and has the exponent beside it.
        (Value::Decimal32([0x6c, 0xb8, 0x96, 0x7f]), "k = 9999999"),
        (Value::Decimal32([0x78, 0, 0, 0]), "k = INF"),
        (Value::Decimal32([0xf8, 0, 0, 0]), "k = -INF"),
        (Value::Decimal32([0x7c, 0, 0, 0]), "k <> k"),
        (Value::Decimal64([0x31, 0xa0, 0, 0, 0, 0, 0, 0x7d]), "k = 12.5"),
        (Value::Decimal128([0x30, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]), "k = 7"),
        (Value::Decimal128([0x6c, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]), "k = 0"),
    ] {
        let mut bytes = section(descriptor::APPLICATION_PROPERTIES, MapBuilder::new().push("k", decimal));
        bytes.extend(hex("00 53 77 40"));
        let message = Message::new(&bytes).unwrap();
        let filter = described(0x120_u64, expression);
        assert!(compile(value(&filter)).unwrap().matches(&message, 0), "{decimal:?} {expression}");
    }
}
