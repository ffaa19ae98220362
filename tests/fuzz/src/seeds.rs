//! Inputs that real clients could send, made by our own encoders: what fuzzing begins with.

use leveret_amqp091::frame::{self, put_content, put_method};
use leveret_amqp091::properties::MessageProperties;
use leveret_amqp091::{Method, client, wire};
use leveret_model::{Name, Table, Value};
use leveret_store::record::frame::{BatchHeader, SegmentHeader};
use leveret_store::record::key::Key;

/// Target, name and bytes of each.
#[must_use]
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (number, method) in methods().iter().enumerate() {
        let mut payload = Vec::new();
        method.encode(&mut payload);
        seeds.push(("method", format!("{number:02}-{}", method.info().name), payload));
    }
    seeds.push(("frames", "conversation".into(), conversation()));
    seeds.push(("frames", "every-method".into(), every_method()));
    let mut table = Vec::new();
    wire::put_table(&mut table, &arguments());
    seeds.push(("table", "arguments".into(), table[4..].to_vec()));
    seeds.push(("table", "every-type".into(), every_type()));
    seeds.push(("content", "all-properties".into(), properties().encode()));
    seeds.push(("content", "none".into(), vec![0, 0]));
    seeds.push(("session", "conversation".into(), [&[0, 6, 40, 0], conversation().as_slice()].concat()));
    seeds.push(("session", "after-handshake".into(), [&[1, 0, 8, 99], publishes().as_slice()].concat()));
    seeds.push(("session", "refused".into(), [&[1, 30, 2, 7], refused().as_slice()].concat()));
    let key = Key::default();
    let segment = SegmentHeader { number: 7, bytes: 1 << 26, key };
    seeds.push(("journal", "segment".into(), segment.encode()[..32].to_vec()));
    let batch = BatchHeader { bytes: 64, number: 3, synced: 2, segment: 1, groups: 1 };
    seeds.push(("journal", "batch".into(), batch.encode(key).to_vec()));
    // The kinds of operations, with arguments that are all the same byte.
    for kind in 0..16 {
        seeds.push(("journal", format!("operation-{kind:02}"), [&[kind], [1; 40].as_slice()].concat()));
    }
    seeds.extend(crate::amqp10::seeds());
    seeds.extend(crate::filter::seeds());
    seeds
}

/// A client's words up to connection.open, and channel 1.
pub fn put_handshake(out: &mut Vec<u8>) {
    let capabilities = Value::Map(vec![
        (Value::Text("authentication_failure_close".into()), Value::Boolean(true)),
        (Value::Text("consumer_cancel_notify".into()), Value::Boolean(true)),
    ]);
    let properties = [
        (Name::from_static("product"), Value::Text("seed".into())),
        (Name::from_static("capabilities"), capabilities),
    ];
    client::put_protocol_header(out);
    client::put_start_ok(out, b"guest", b"guest", properties.into_iter().collect());
    put_method(out, 0, &Method::ConnectionTuneOk { channel_max: 10, frame_max: 8192, heartbeat: 7 });
    put_method(out, 0, &Method::ConnectionOpen { virtual_host: b"/" });
    put_method(out, 1, &Method::ChannelOpen {});
}

fn arguments() -> Table {
    [
        (Name::from_static("x-queue-type"), Value::Text("quorum".into())),
        (Name::from_static("x-message-ttl"), Value::Integer(60_000)),
        (Name::from_static("x-dead-letter-exchange"), Value::Text("".into())),
        (Name::from_static("list"), Value::List(vec![Value::Void, Value::Real(0.5), Value::Integer(-1)])),
        (Name::from_static("map"), Value::Map(vec![(Value::Text("inner".into()), Value::Boolean(false))])),
    ]
    .into_iter()
    .collect()
}

/// A field of each type that the wire knows, by its letter.
fn every_type() -> Vec<u8> {
    b"\x01tt\x01\x01bb\xff\x01BB\xff\x01ss\xff\xfe\x01uu\0\x09\x01II\0\0\0\x07\x01ii\xff\xff\xff\xff\
      \x01ll\0\0\0\0\0\0\0\x01\x01LL\0\0\0\0\0\0\0\x02\x01ff\x3f\0\0\0\x01dd\x3f\xe0\0\0\0\0\0\0\
      \x01DD\x02\0\0\0\x7d\x01SS\0\0\0\x02hi\x01xx\0\0\0\x02\0\xff\x01VV\x01TT\0\0\0\0\x65\x53\xf1\0\
      \x01AA\0\0\0\x03t\x01V\x01FF\0\0\0\x04\x01iVt"
        .split_last()
        .map(|(_, all_but_the_last)| all_but_the_last.to_vec())
        .unwrap_or_default()
}

fn properties() -> MessageProperties<'static> {
    MessageProperties {
        content_type: Some(b"application/json"),
        content_encoding: Some(b"gzip"),
        headers: Some(arguments()),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: Some(b"correlation"),
        reply_to: Some(b"reply"),
        expiration: Some(b"60000"),
        message_id: Some(b"message"),
        timestamp: Some(1_700_000_000),
        message_type: Some(b"type"),
        user_id: Some(b"guest"),
        app_id: Some(b"app"),
    }
}

/// What clients say most, and what has the most kinds of arguments.
fn methods() -> Vec<Method<'static>> {
    vec![
        Method::ConnectionStartOk {
            client_properties: arguments(),
            mechanism: b"PLAIN",
            response: b"\0guest\0guest",
            locale: b"en_US",
        },
        Method::ConnectionClose { reply_code: 200, reply_text: b"bye", class_id: 0, method_id: 0 },
        Method::ChannelOpen {},
        Method::ExchangeDeclare {
            exchange: b"exchange",
            type_name: b"topic",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: true,
            nowait: false,
            arguments: arguments(),
        },
        Method::QueueDeclare {
            queue: b"queue",
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: true,
            nowait: false,
            arguments: arguments(),
        },
        Method::QueueBind {
            queue: b"queue",
            exchange: b"exchange",
            routing_key: b"a.*.#",
            nowait: false,
            arguments: arguments(),
        },
        Method::BasicQos { prefetch_size: 0, prefetch_count: 10, global: true },
        Method::BasicConsume {
            queue: b"queue",
            consumer_tag: b"tag",
            no_local: false,
            no_ack: true,
            exclusive: false,
            nowait: false,
            arguments: arguments(),
        },
        Method::BasicAck { delivery_tag: 7, multiple: true },
        Method::BasicNack { delivery_tag: 8, multiple: false, requeue: true },
        Method::ConfirmSelect { nowait: false },
    ]
}

fn every_method() -> Vec<u8> {
    let mut out = Vec::new();
    for method in methods() {
        put_method(&mut out, 1, &method);
    }
    put_content(&mut out, 1, &properties().encode(), b"a body in pieces", 16);
    out.extend_from_slice(&frame::HEARTBEAT_FRAME);
    out
}

fn publishes() -> Vec<u8> {
    let mut out = Vec::new();
    put_method(&mut out, 1, &Method::ConfirmSelect { nowait: false });
    client::put_publish(&mut out, 1, b"", b"queue", &[0, 0], b"whole", 8192);
    client::put_publish(&mut out, 1, b"exchange", b"a.b", &properties().encode(), &[b'p'; 60], 20);
    out.extend_from_slice(&frame::HEARTBEAT_FRAME);
    put_method(&mut out, 1, &Method::BasicAck { delivery_tag: 1, multiple: false });
    out
}

fn refused() -> Vec<u8> {
    let mut out = Vec::new();
    client::put_publish(&mut out, 1, b"nope", b"queue", &[0, 0], b"refused", 8192);
    client::put_publish(&mut out, 1, b"nope", b"queue", &[0, 0], b"dropped", 12);
    put_method(&mut out, 1, &Method::ChannelCloseOk {});
    put_method(&mut out, 1, &Method::ChannelOpen {});
    client::put_publish(&mut out, 1, b"", b"queue", &[0, 0], &[0; 101], 8192);
    out
}

fn conversation() -> Vec<u8> {
    let mut out = Vec::new();
    put_handshake(&mut out);
    for method in methods().split_off(3) {
        put_method(&mut out, 1, &method);
    }
    out.extend(publishes());
    put_method(
        &mut out,
        0,
        &Method::ConnectionClose { reply_code: 200, reply_text: b"", class_id: 0, method_id: 0 },
    );
    out
}
