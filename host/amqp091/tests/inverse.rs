//! Encoding and decoding are each other's inverse: for any table, any properties, and methods with any arguments.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use leveret_amqp091::properties::{self, MessageProperties, Properties};
use leveret_amqp091::wire::{self, Field, Reader};
use leveret_amqp091::{Method, frame};
use leveret_model::{Name, Property, Table, Value};
use proptest::{collection::vec, option, prelude::*};

/// Values that the wire can say as they are.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Void),
        any::<bool>().prop_map(Value::Boolean),
        any::<i64>().prop_map(Value::Integer),
        proptest::num::f64::NORMAL.prop_map(Value::Real),
        (any::<u8>(), any::<u32>())
            .prop_map(|(scale, unscaled)| Value::Decimal { scale, unscaled: unscaled.into() }),
        ".{0,20}".prop_map(Value::Text),
        (0..i64::MAX / 1000).prop_map(|seconds| Value::Timestamp(seconds * 1000)),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::List),
            vec(("[a-z]{0,9}".prop_map(Value::Text), inner), 0..6).prop_map(Value::Map),
        ]
    })
}

fn table() -> impl Strategy<Value = Table> {
    vec((short().prop_map(|name| Name::new(&name).unwrap()), value()), 0..8)
        .prop_map(|fields| fields.into_iter().collect())
}

fn short() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=255)
}

/// What a name may be in a request: text.
fn text() -> impl Strategy<Value = Vec<u8>> {
    ".{0,63}".prop_map(String::into_bytes)
}

/// The method comes back from the frame that was written, and nothing is left of that.
fn comes_back(method: &Method<'_>) -> Result<(), TestCaseError> {
    let mut out = Vec::new();
    frame::put_method(&mut out, 3, method);
    let header = frame::FrameHeader::read(&out).unwrap();
    let whole = header.frame(&out).unwrap();
    prop_assert_eq!((whole.kind, whole.channel, whole.length_bytes), (frame::METHOD, 3, out.len()));
    let (class, id) = method.ids();
    let decoded = Method::decode(class, id, &whole.payload[4..]);
    prop_assert_eq!(decoded.as_ref(), Ok(method));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_table_comes_back(table in table()) {
        let mut out = Vec::new();
        wire::put_table(&mut out, &table);
        let mut reader = Reader::new(&out);
        prop_assert_eq!(reader.table().unwrap(), table);
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn methods_come_back(
        strings in [text(), text(), text()],
        long in vec(any::<u8>(), 0..600),
        bits in any::<[bool; 5]>(),
        numbers in any::<(u64, u32, u16, u16)>(),
        arguments in table(),
    ) {
        let [one, two, three] = &strings;
        let [a, b, c, d, e] = bits;
        let (longlong, number, short, other) = numbers;
        comes_back(&Method::ConnectionStartOk {
            client_properties: arguments.clone(), mechanism: one, response: &long, locale: two,
        })?;
        comes_back(&Method::ConnectionTune { channel_max: short, frame_max: number, heartbeat: other })?;
        comes_back(&Method::ConnectionClose { reply_code: short, reply_text: one, class_id: other, method_id: short })?;
        comes_back(&Method::ExchangeDeclare {
            exchange: one, type_name: two, passive: a, durable: b, auto_delete: c, internal: d, nowait: e,
            arguments: arguments.clone(),
        })?;
        comes_back(&Method::QueueDeclare {
            queue: one, passive: a, durable: b, exclusive: c, auto_delete: d, nowait: e, arguments: arguments.clone(),
        })?;
        comes_back(&Method::QueueDeclareOk { queue: one, message_count: number, consumer_count: number })?;
        comes_back(&Method::QueueBind {
            queue: one, exchange: two, routing_key: three, nowait: a, arguments: arguments.clone(),
        })?;
        comes_back(&Method::BasicQos { prefetch_size: number, prefetch_count: short, global: a })?;
        comes_back(&Method::BasicConsume {
            queue: one, consumer_tag: two, no_local: a, no_ack: b, exclusive: c, nowait: d, arguments,
        })?;
        comes_back(&Method::BasicPublish { exchange: one, routing_key: two, mandatory: a, immediate: b })?;
        comes_back(&Method::BasicReturn { reply_code: short, reply_text: one, exchange: two, routing_key: three })?;
        comes_back(&Method::BasicDeliver {
            consumer_tag: one, delivery_tag: longlong, redelivered: a, exchange: two, routing_key: three,
        })?;
        comes_back(&Method::BasicAck { delivery_tag: longlong, multiple: a })?;
        comes_back(&Method::BasicNack { delivery_tag: longlong, multiple: a, requeue: b })?;
    }

    #[test]
    fn properties_come_back(
        strings in vec(option::of(short()), 9),
        headers in option::of(table()),
        octets in any::<[Option<u8>; 2]>(),
        timestamp in option::of(0..u64::MAX / 2000),
    ) {
        let string = |at: usize| strings[at].as_deref();
        let written = MessageProperties {
            content_type: string(0), content_encoding: string(1), headers: headers.clone(),
            delivery_mode: octets[0], priority: octets[1], correlation_id: string(2), reply_to: string(3),
            expiration: string(4), message_id: string(5), timestamp, message_type: string(6), user_id: string(7),
            app_id: string(8),
        };
        let bytes = written.encode();
        let read = Properties::new(&bytes);
        let properties = [
            Property::ContentType, Property::ContentEncoding, Property::CorrelationId, Property::ReplyTo,
            Property::Expiration, Property::MessageId, Property::MessageType, Property::UserId, Property::AppId,
        ];
        for (at, property) in properties.into_iter().enumerate() {
            prop_assert_eq!(read.string(property), string(at), "{:?}", property);
        }
        let octet = |octet: Option<u8>| octet.map(|octet| Field::Integer(octet.into()));
        prop_assert_eq!(read.get(Property::DeliveryMode), octet(octets[0]));
        prop_assert_eq!(read.get(Property::Priority), octet(octets[1]));
        let milliseconds = timestamp.map(|seconds| Field::Timestamp(i64::try_from(seconds * 1000).unwrap_or(i64::MAX)));
        prop_assert_eq!(read.get(Property::Timestamp), milliseconds);
        let found: Table = read
            .headers()
            .map(|(name, field)| (Name::new(name).unwrap(), field.to_value()))
            .collect();
        prop_assert_eq!(found, headers.unwrap_or_default());
        // An expiration may be any bytes here, which the check does not take.
        if written.expiration.is_none() {
            prop_assert_eq!(properties::check(&bytes), Ok(()));
        }
    }
}
