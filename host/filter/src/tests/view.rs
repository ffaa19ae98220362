//! Messages that came by AMQP 0-9-1 have the fields that they would have in AMQP 1.0.

use super::outcome;
use crate::{Dialect, Message, Truth};
use alloc::vec::Vec;
use leveret_amqp091::{FORM, properties::MessageProperties};
use leveret_model::{MessageView, Name, Value};

fn with_view(properties: &MessageProperties<'_>, check: impl FnOnce(&dyn Message)) {
    let properties = properties.encode();
    check(&MessageView {
        exchange: b"orders",
        routing_key: b"order.eu",
        form: FORM,
        properties: &properties,
        body: b"",
        publisher: None,
    });
}

#[test]
fn properties_and_headers_are_where_a_conversion_puts_them() {
    let headers = [
        (Name::from_static("country"), Value::Text("UK".into())),
        (Name::from_static("weight"), Value::Integer(5)),
        (Name::from_static("price"), Value::Decimal { scale: 2, unscaled: 1050 }),
        (Name::from_static("nothing"), Value::Void),
        (Name::from_static("list"), Value::List(Vec::new())),
        (Name::from_static("x-tag"), Value::Text("red".into())),
        (Name::from_static("x-list"), Value::List(Vec::new())),
    ];
    let properties = MessageProperties {
        content_type: Some(b"text/plain"),
        content_encoding: Some(b"gzip"),
        headers: Some(headers.into_iter().collect()),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: Some(b"c-1"),
        reply_to: Some(b"my queue/1"),
        expiration: Some(b"60000"),
        message_id: Some(b"m-1"),
        timestamp: Some(1_795_977_000),
        message_type: Some(b"kind"),
        user_id: Some(b"guest"),
        app_id: Some(b"shop"),
    };
    with_view(&properties, |view| {
        for expression in [
            "h.durable AND h.priority = 9 AND h.ttl = 60000 AND h.delivery_count = 0",
            "p.content_type = 'text/plain' AND p.content_encoding = 'gzip'",
            "p.message_id = 'm-1' AND p.correlation_id = 'c-1' AND p.user_id = 'guest'",
            "p.reply_to = '/queues/my%20queue%2F1' AND p.group_id = 'shop'",
            "p.creation_time = 1795977000000",
            "p.to IS NULL AND p.subject IS NULL AND p.group_sequence IS NULL",
            "country = 'UK' AND weight = 5 AND price = 10.5",
            "nothing IS NULL AND list IS NULL AND [x-tag] IS NULL",
            "m.[x-tag] = 'red' AND m.[x-basic-type] = 'kind' AND EXISTS(m.[x-list])",
            "m.[x-exchange] = 'orders' AND m.[x-routing-key] = 'order.eu'",
            "m.country IS NULL AND d.country IS NULL AND f.country IS NULL",
        ] {
            assert_eq!(outcome(expression, Dialect::AmqpSql, view), Truth::True, "{expression}");
        }
        let selector = "JMSPriority = 9 AND JMSDeliveryMode = 'PERSISTENT' AND country LIKE 'U_'";
        assert_eq!(outcome(selector, Dialect::JmsSelector, view), Truth::True);
    });
}

#[test]
fn a_message_without_properties_has_the_defaults() {
    with_view(&MessageProperties::default(), |view| {
        let expression = "h.priority = 4 AND NOT h.durable AND h.ttl IS NULL AND p.message_id IS NULL";
        assert_eq!(outcome(expression, Dialect::AmqpSql, view), Truth::True);
    });
}
