//! Requests of management over AMQP, as clients of RabbitMQ 4 speak it: "HTTP over AMQP", working draft 6.

use crate::{
    Value,
    composite::Composite,
    descriptor,
    management::{
        Binding, Call, Destination, ExchangeDeclaration, QueueDeclaration, Refused, Request, Status,
    },
    messaging::{MessageId, Properties},
    types::{ListBuilder, MapBuilder, Symbol, Timestamp, Uuid, write},
};
use alloc::{string::String, vec, vec::Vec};
use leveret_model::{Name, Table, Value as Owned};

pub(super) const ID: MessageId<'static> = MessageId::Uuid(Uuid([7; 16]));

pub(super) fn name(text: &'static str) -> Name {
    Name::from_static(text)
}

pub(super) fn queue(text: &'static str) -> Destination {
    Destination::Queue(name(text))
}

fn message(properties: &Properties<'_>, body: Option<Value<'_>>) -> Vec<u8> {
    let mut out = Vec::new();
    properties.encode(&mut out);
    write::put_descriptor(&mut out, descriptor::AMQP_VALUE);
    write::put(&mut out, body.unwrap_or(Value::Null));
    out
}

/// What is asked for by a method, a path and a body.
fn ask<T>(
    method: &str,
    path: &str,
    body: Value<'_>,
    check: impl FnOnce(Result<Request<'_>, Refused>) -> T,
) -> T {
    let properties = Properties {
        message_id: Some(ID),
        to: Some(path),
        subject: Some(method),
        reply_to: Some("$me"),
        ..Properties::default()
    };
    let bytes = message(&properties, Some(body));
    let call = Call::read(&bytes, "/").unwrap();
    assert_eq!(call.id, Some(ID));
    check(call.request)
}

pub(super) fn is(method: &str, path: &str, body: Value<'_>, expected: &Request<'_>) {
    ask(method, path, body, |found| assert_eq!(found.as_ref(), Ok(expected), "{method} {path}"));
}

fn refused(method: &str, path: &str, body: Value<'_>, status: Status, reason: &str) {
    ask(method, path, body, |found| {
        let refused = found.expect_err(path);
        assert_eq!((refused.status, refused.reason.as_str()), (status, reason), "{method} {path}");
    });
}

#[test]
fn names_in_paths_are_decoded() {
    for (path, expected) in [
        ("/queues/q", "q"),
        ("/queues/my%20queue", "my queue"),
        ("/queues/a%2Fb", "a/b"),
        ("/queues/a%2fb", "a/b"),
        ("/queues/%E2%9C%93", "✓"),
        ("/queues/a+b", "a+b"),
        ("/queues/a%25b", "a%b"),
        ("/queues/q?x=y", "q"),
        ("/queues/messages", "messages"),
        ("/queues/", ""),
    ] {
        is("GET", path, Value::Null, &Request::GetQueue(name(expected)));
    }
    is("GET", "/queues/amq.gen-1", Value::Null, &Request::GetQueue(name("amq.gen-1")));
    is("DELETE", "/queues/q", Value::Null, &Request::DeleteQueue(name("q")));
    is("DELETE", "/queues/q%2F1/messages", Value::Null, &Request::PurgeQueue(name("q/1")));
    is("DELETE", "/exchanges/x", Value::Null, &Request::DeleteExchange(name("x")));
}

#[test]
fn queues_are_declared_with_defaults() {
    let declared = QueueDeclaration {
        name: name("q"),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: Table::new(),
    };
    let mut body = MapBuilder::new();
    is("PUT", "/queues/q", body.view().into(), &Request::DeclareQueue(declared.clone()));
    let mut inner = MapBuilder::new();
    inner.push("x-max-length", 7_u64).push(Symbol::from_static("x-queue-type"), "quorum");
    inner.push("x-big", u64::MAX).push("x-time", Timestamp(5)).push("x-null", Value::Null);
    inner.push("x-list", ListBuilder::new().push(1_i8).push("a").view()).push("x-bytes", &b"\xff"[..]);
    inner.push("x-map", MapBuilder::new().push("k", 0.5_f32).view());
    body.push("durable", false).push("exclusive", true).push("auto_delete", true);
    body.push("arguments", inner.view());
    let arguments = [
        (name("x-max-length"), Owned::Integer(7)),
        (name("x-queue-type"), Owned::Text("quorum".into())),
        (name("x-big"), Owned::Unsigned(u64::MAX)),
        (name("x-time"), Owned::Timestamp(5)),
        (name("x-null"), Owned::Void),
        (name("x-list"), Owned::List(vec![Owned::Integer(1), Owned::Text("a".into())])),
        (name("x-bytes"), Owned::string(b"\xff")),
        (name("x-map"), Owned::Map(vec![(Owned::Text("k".into()), Owned::Real(0.5))])),
    ];
    let declared = QueueDeclaration {
        durable: false,
        exclusive: true,
        auto_delete: true,
        arguments: arguments.into_iter().collect(),
        ..declared
    };
    is("PUT", "/queues/q", body.view().into(), &Request::DeclareQueue(declared));
}

#[test]
fn exchanges_are_declared_with_defaults() {
    let declared = ExchangeDeclaration {
        name: name("x"),
        exchange_type: name("direct"),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    };
    let mut body = MapBuilder::new();
    is("PUT", "/exchanges/x", body.view().into(), &Request::DeclareExchange(declared.clone()));
    // One that is there already may be declared as it is, so it is not known here whether that is refused.
    let reserved = ExchangeDeclaration { name: name("amq.direct"), ..declared.clone() };
    is("PUT", "/exchanges/amq.direct", body.view().into(), &Request::DeclareExchange(reserved));
    body.push("type", "topic").push("durable", false).push("auto_delete", true).push("internal", true);
    body.push("arguments", MapBuilder::new().push("alternate-exchange", "other").view());
    let declared = ExchangeDeclaration {
        exchange_type: name("topic"),
        durable: false,
        auto_delete: true,
        internal: true,
        arguments: [(name("alternate-exchange"), Owned::Text("other".into()))].into_iter().collect(),
        ..declared
    };
    is("PUT", "/exchanges/x", body.view().into(), &Request::DeclareExchange(declared));
}

#[test]
fn bindings_are_named_in_bodies_queries_and_paths() {
    let mut body = MapBuilder::new();
    body.push("source", "x").push("binding_key", "k").push("destination_queue", "q");
    let bind = |destination, arguments| {
        Request::Bind(Binding { source: name("x"), destination, key: name("k"), arguments })
    };
    is("POST", "/bindings", body.view().into(), &bind(queue("q"), Table::new()));
    body.push("arguments", MapBuilder::new().push("x-match", "any").view());
    let arguments: Table = [(name("x-match"), Owned::Text("any".into()))].into_iter().collect();
    is("POST", "/bindings", body.view().into(), &bind(queue("q"), arguments));
    let mut body = MapBuilder::new();
    body.push("source", "x").push("binding_key", "k").push("destination_exchange", "y");
    is("POST", "/bindings", body.view().into(), &bind(Destination::Exchange(name("y")), Table::new()));

    let get =
        |source, destination, key| Request::GetBindings { source: name(source), destination, key: name(key) };
    for (path, expected) in [
        ("/bindings?src=x&dstq=q&key=k", get("x", queue("q"), "k")),
        ("/bindings?key=&dste=y&src=x", get("x", Destination::Exchange(name("y")), "")),
        ("/bindings?src=a%26b&dstq=my+q&key=%2B%23", get("a&b", queue("my q"), "+#")),
    ] {
        is("GET", path, Value::Null, &expected);
    }

    let unbind = |source, destination, key, arguments| Request::Unbind {
        source: name(source),
        destination,
        key: name(key),
        arguments,
    };
    for (path, expected) in [
        ("/bindings/src=x;dstq=q;key=k;args=", unbind("x", queue("q"), "k", "")),
        ("/bindings/src=x;dste=y;key=;args=a-_9", unbind("x", Destination::Exchange(name("y")), "", "a-_9")),
        ("/bindings/src=%3Bx;dstq=a%2Fb;key=%23;args=", unbind(";x", queue("a/b"), "#", "")),
    ] {
        is("DELETE", path, Value::Null, &expected);
    }
}

#[test]
fn a_token_is_bytes() {
    is("PUT", "/auth/tokens", Value::from(&b"ey.token"[..]), &Request::RenewToken(b"ey.token"));
    let reason = "expected a binary as the body, found string";
    refused("PUT", "/auth/tokens", "ey.token".into(), Status::BadRequest, reason);
}

#[test]
fn names_that_nobody_may_give_are_refused() {
    let empty = MapBuilder::new();
    let body = || Value::from(empty.view());
    let line = "Bad name 'a\nb': line feed and carriage return characters not allowed";
    let default = "operation not permitted on the default exchange";
    refused("PUT", "/queues/", body(), Status::BadRequest, "declare queue with empty name not allowed");
    refused("PUT", "/queues/a%0Ab", body(), Status::BadRequest, line);
    refused("DELETE", "/queues/a%0Ab", Value::Null, Status::BadRequest, line);
    let reserved = "queue 'amq.q' in vhost '/' starts with reserved prefix 'amq.'";
    refused("PUT", "/queues/amq.q", body(), Status::Forbidden, reserved);
    refused("PUT", "/exchanges/", body(), Status::Forbidden, default);
    refused("PUT", "/exchanges/a%0Ab", body(), Status::BadRequest, line);
    refused("DELETE", "/exchanges/", Value::Null, Status::Forbidden, default);
    let reserved = "exchange 'amq.x' in vhost '/' starts with reserved prefix 'amq.'";
    refused("DELETE", "/exchanges/amq.x", Value::Null, Status::Forbidden, reserved);
    for body in [
        MapBuilder::new().push("source", "").push("destination_queue", "q").push("binding_key", "k"),
        MapBuilder::new().push("source", "x").push("destination_exchange", "").push("binding_key", "k"),
    ] {
        refused("POST", "/bindings", body.view().into(), Status::Forbidden, default);
    }
    refused("GET", "/bindings?src=&dstq=q&key=k", Value::Null, Status::Forbidden, default);
    refused("GET", "/bindings?src=x&dstq=a%0Ab&key=k", Value::Null, Status::BadRequest, line);
    let long = String::from("/queues/") + &"q".repeat(Name::BYTES_MAX + 1);
    refused("GET", &long, Value::Null, Status::BadRequest, "queue of 256 bytes: there are at most 255");
}

#[test]
fn bodies_that_make_no_sense_are_refused() {
    let list = ListBuilder::new();
    let nested = MapBuilder::new();
    let mut uuid = MapBuilder::new();
    uuid.push("x", Uuid([0; 16]));
    for (path, field, value, reason) in [
        (
            "/queues/q",
            Value::from("colour"),
            Value::from(true),
            "bad queue property 'colour' of type boolean",
        ),
        ("/queues/q", "durable".into(), "yes".into(), "bad queue property 'durable' of type string"),
        (
            "/queues/q",
            Symbol::from_static("durable").into(),
            true.into(),
            "bad queue property 'durable' of type boolean",
        ),
        ("/queues/q", "arguments".into(), Value::Null, "bad queue property 'arguments' of type null"),
        ("/queues/q", "arguments".into(), uuid.view().into(), "unsupported argument 'x'"),
        (
            "/exchanges/x",
            "exclusive".into(),
            true.into(),
            "bad exchange property 'exclusive' of type boolean",
        ),
        ("/exchanges/x", "type".into(), 1_u8.into(), "bad exchange property 'type' of type ubyte"),
    ] {
        let mut body = MapBuilder::new();
        body.push(field, value);
        refused("PUT", path, body.view().into(), Status::BadRequest, reason);
    }
    for (body, found) in [(Value::Null, "null"), (list.view().into(), "list"), ("q".into(), "string")] {
        let reason = String::from("expected a map as the body, found ") + found;
        refused("PUT", "/queues/q", body, Status::BadRequest, &reason);
        refused("POST", "/bindings", body, Status::BadRequest, &reason);
    }
    for path in ["/queues/q", "/queues/q/messages", "/exchanges/x", "/bindings/src=x;dstq=q;key=k;args="] {
        refused("DELETE", path, nested.view().into(), Status::BadRequest, "expected a null body, found map");
    }
    for (missing, fields) in [
        ("missing binding field 'source'", ["destination_queue", "binding_key"]),
        ("missing binding field 'binding_key'", ["source", "destination_queue"]),
        ("missing binding field 'destination_queue' or 'destination_exchange'", ["source", "binding_key"]),
    ] {
        let mut body = MapBuilder::new();
        for field in fields {
            body.push(field, "v");
        }
        refused("POST", "/bindings", body.view().into(), Status::BadRequest, missing);
    }
    let mut both = MapBuilder::new();
    both.push("source", "x").push("binding_key", "k").push("destination_queue", "q");
    both.push("destination_exchange", "y");
    refused("POST", "/bindings", both.view().into(), Status::BadRequest, "a binding has one destination");
    let mut colour = MapBuilder::new();
    colour.push("source", "x").push("colour", "red");
    refused(
        "POST",
        "/bindings",
        colour.view().into(),
        Status::BadRequest,
        "bad binding field 'colour' of type string",
    );
}

#[test]
fn paths_and_methods_that_are_not_there_are_told_apart() {
    for path in ["/", "/queue/q", "/queues", "/queues/a/b", "/queues/q/messages/1", "/auth", "/bindings/a/b"]
    {
        let reason = alloc::format!("there is no '{path}'");
        refused("GET", path, Value::Null, Status::NotFound, &reason);
    }
    for (method, path) in [
        ("POST", "/queues/q"),
        ("GET", "/queues/q/messages"),
        ("GET", "/exchanges/x"),
        ("PUT", "/bindings"),
        ("GET", "/bindings/src=x;dstq=q;key=k;args="),
        ("GET", "/auth/tokens"),
        ("get", "/queues/q"),
    ] {
        let reason = alloc::format!("method '{method}' is not allowed for '{path}'");
        refused(method, path, Value::Null, Status::MethodNotAllowed, &reason);
    }
    for (path, why) in [
        ("queues/q", "it does not begin with a slash"),
        ("", "it does not begin with a slash"),
        ("/queues/%", "a percent sign is not followed by two hexadecimal digits"),
        ("/queues/%4", "a percent sign is not followed by two hexadecimal digits"),
        ("/queues/%+4", "a percent sign is not followed by two hexadecimal digits"),
        ("/queues/%é", "a percent sign is not followed by two hexadecimal digits"),
        ("/queues/%FF", "it is not UTF-8 when it is decoded"),
        ("/bindings?src=%&dstq=q&key=k", "a percent sign is not followed by two hexadecimal digits"),
    ] {
        let reason = alloc::format!("failed to normalize URI '{path}': {why}");
        refused("GET", path, Value::Null, Status::BadRequest, &reason);
    }
    for (query, missing) in
        [("", "src"), ("src=x&key=k", "dste' or 'dstq"), ("src=x&dstq=q", "key"), ("dstq=q&key=k", "src")]
    {
        let path = String::from("/bindings?") + query;
        let reason = alloc::format!("missing '{missing}' in query: '{query}'");
        refused("GET", &path, Value::Null, Status::BadRequest, &reason);
    }
    for segment in [
        "src=x;dstq=q;key=k",
        "src=x;dstq=q;key=k;args=;",
        "src=;dstq=q;key=k;args=",
        "src=x;dstq=;key=k;args=",
        "dstq=q;src=x;key=k;args=",
        "src=x;dstx=q;key=k;args=",
        "src=x;dstq=q;key=#;args=",
        "src=x;dstq=q;key=%;args=",
        "src=x;dstq=q;key=k;args=%20",
        "q",
    ] {
        let path = String::from("/bindings/") + segment;
        let reason = alloc::format!("bad binding path segment '{segment}'");
        refused("DELETE", &path, Value::Null, Status::BadRequest, &reason);
    }
}

#[test]
fn requests_that_lack_a_property_are_refused_too() {
    let whole = Properties {
        to: Some("/queues/q"),
        subject: Some("GET"),
        reply_to: Some("$me"),
        ..Properties::default()
    };
    for (properties, reason) in [
        (Properties { to: None, ..whole }, "the request has no path as its 'to'"),
        (Properties { subject: None, ..whole }, "the request has no method as its 'subject'"),
        (Properties { reply_to: None, ..whole }, "the request has no '$me' as its 'reply-to'"),
        (Properties { reply_to: Some("me"), ..whole }, "the request has no '$me' as its 'reply-to'"),
    ] {
        let bytes = message(&properties, None);
        let call = Call::read(&bytes, "/").unwrap();
        assert_eq!(call.id, None);
        assert_eq!(call.request, Err(Refused::new(Status::BadRequest, reason.into())));
    }
    // Without a body, and with one of another kind.
    let mut bytes = Vec::new();
    whole.encode(&mut bytes);
    let call = Call::read(&bytes, "/").unwrap();
    assert_eq!(call.request, Ok(Request::GetQueue(name("q"))));
    write::put_descriptor(&mut bytes, descriptor::DATA);
    write::put(&mut bytes, &b"data"[..]);
    let call = Call::read(&bytes, "/").unwrap();
    assert_eq!(
        call.request,
        Err(Refused::new(Status::BadRequest, "expected an amqp-value as the body".into()))
    );
}

#[test]
fn sections_come_in_any_order_and_nothing_else_is_a_message() {
    let properties = Properties {
        message_id: Some(ID),
        to: Some("/queues/q"),
        subject: Some("GET"),
        reply_to: Some("$me"),
        ..Properties::default()
    };
    let mut bytes = Vec::new();
    write::put_descriptor(&mut bytes, descriptor::AMQP_VALUE);
    write::put(&mut bytes, Value::Null);
    properties.encode(&mut bytes);
    let call = Call::read(&bytes, "/").unwrap();
    assert_eq!((call.id, call.request), (Some(ID), Ok(Request::GetQueue(name("q")))));
    let cut = bytes.len() - 1;
    assert!(Call::read(&bytes[..cut], "/").is_err());
    write::put(&mut bytes, true);
    assert!(Call::read(&bytes, "/").is_err());
}
