//! Responses of management over AMQP, and RabbitMQ's codes for what the broker refuses.

use super::management::{ID, is, name, queue};
use crate::{
    Value,
    management::{
        Binding, BindingInfo, Destination, Kind, QueueDeclaration, QueueInfo, Refused, Request, Response,
        Status, arguments_key,
    },
    message::{Body, Message},
    types::{ListBuilder, MapBuilder, Reader, Timestamp},
};
use alloc::{
    string::{String, ToString},
    vec,
    vec::Vec,
};
use leveret_model::{Refusal, Table, Value as Owned, refusal::Resource};

/// A response as a client reads it: its subject, and its body to be looked at.
fn response(response: &Response<'_>, check: impl FnOnce(Value<'_>)) -> String {
    let mut bytes = Vec::new();
    response.encode(Some(ID), &mut bytes);
    let message = Message::new(&bytes).unwrap();
    let properties = message.properties();
    assert_eq!(properties.correlation_id, Some(ID));
    assert_eq!(message.application_properties().get("http:response"), Some("1.1".into()));
    let Body::Value(content) = message.body() else { panic!("{message:?}") };
    check(Reader::new(content).value().unwrap());
    properties.subject.unwrap().into()
}

#[test]
fn refusals_of_the_broker_have_the_codes_of_rabbitmq() {
    let (q, vhost) = (name("q"), name("/"));
    let binding = Request::Bind(Binding {
        source: name("x"),
        destination: queue("q"),
        key: name("k"),
        arguments: Table::new(),
    });
    let absent = Refusal::NotFound { resource: Resource::Queue, name: q.clone(), vhost: vhost.clone() };
    let inequivalent = |argument: &str| Refusal::Inequivalent {
        argument: argument.into(),
        resource: Resource::Queue,
        name: q.clone(),
        vhost: vhost.clone(),
        received: "'true'".into(),
        current: "'false'".into(),
    };
    let declare = |queue_type: &str, durable, exclusive| {
        let arguments = [(name("x-queue-type"), Owned::Text(queue_type.into()))].into_iter().collect();
        let declaration =
            QueueDeclaration { name: q.clone(), durable, exclusive, auto_delete: false, arguments };
        Request::DeclareQueue(declaration)
    };
    for (refusal, request, status) in [
        (absent.clone(), Request::GetQueue(q.clone()), Status::NotFound),
        (absent.clone(), binding, Status::BadRequest),
        (inequivalent("durable"), Request::GetQueue(q.clone()), Status::Conflict),
        (inequivalent("exclusive"), Request::GetQueue(q.clone()), Status::BadRequest),
        (
            Refusal::Locked { queue: q.clone(), vhost: vhost.clone() },
            Request::DeleteQueue(q.clone()),
            Status::BadRequest,
        ),
        (Refusal::InvalidArgument { text: "x".into() }, declare("quorum", true, false), Status::Conflict),
        (Refusal::InvalidArgument { text: "x".into() }, declare("quorum", true, true), Status::BadRequest),
        (Refusal::InvalidArgument { text: "x".into() }, declare("quorum", false, false), Status::BadRequest),
        (Refusal::InvalidArgument { text: "x".into() }, declare("classic", false, true), Status::Conflict),
        (
            Refusal::ReservedName { resource: Resource::Exchange, name: name("amq.x") },
            Request::GetQueue(q.clone()),
            Status::Forbidden,
        ),
        (
            Refusal::UnknownExchangeType { type_name: name("t") },
            Request::GetQueue(q.clone()),
            Status::BadRequest,
        ),
        (
            Refusal::NotKept { what: "queue 'q'".into(), vhost: vhost.clone(), why: "full".into() },
            Request::GetQueue(q.clone()),
            Status::Unavailable,
        ),
    ] {
        assert_eq!(Refused::of(&refusal, &request).status, status, "{refusal}");
    }
    let refused = Refused::of(&absent, &Request::PurgeQueue(q.clone()));
    assert_eq!(refused.reason, "queue 'q' in vhost '/' not found");
    let refused = Refused::of(&inequivalent("durable"), &Request::GetQueue(q.clone()));
    assert_eq!(refused.reason, inequivalent("durable").to_string());
}

#[test]
fn a_queue_is_a_map() {
    let arguments: Table = [
        (name("x-queue-type"), Owned::Text("quorum".into())),
        (name("x-max-length"), Owned::Integer(7)),
        (name("x-list"), Owned::List(vec![Owned::Void, Owned::Boolean(true), Owned::Unsigned(u64::MAX)])),
        (name("x-map"), Owned::Map(vec![(Owned::Text("k".into()), Owned::Timestamp(5))])),
        (name("x-decimal"), Owned::Decimal { scale: 2, unscaled: 105 }),
    ]
    .into_iter()
    .collect();
    let info = QueueInfo {
        name: "q",
        virtual_host: "/",
        durable: true,
        auto_delete: false,
        exclusive: true,
        queue_type: "quorum",
        arguments: &arguments,
        message_count: 3,
        consumer_count: 2,
        leader: Some("a"),
        replicas: &["a", "b"],
    };
    let check = |value: Value<'_>| {
        let Value::Map(map) = value else { panic!("{value:?}") };
        for (field, expected) in [
            ("name", Value::from("q")),
            ("vhost", "/".into()),
            ("durable", true.into()),
            ("auto_delete", false.into()),
            ("exclusive", true.into()),
            ("type", "quorum".into()),
            ("message_count", 3_u64.into()),
            ("consumer_count", 2_u32.into()),
            ("leader", "a".into()),
        ] {
            assert_eq!(map.get(&field.into()), Some(expected), "{field}");
        }
        let Some(Value::Array(replicas)) = map.get(&"replicas".into()) else { panic!("{map:?}") };
        assert!(replicas.iter().eq([Value::from("a"), Value::from("b")]));
        let Some(Value::Map(arguments)) = map.get(&"arguments".into()) else { panic!("{map:?}") };
        let mut list = ListBuilder::new();
        list.push(Value::Null).push(true).push(u64::MAX);
        let mut inner = MapBuilder::new();
        inner.push("k", Timestamp(5));
        for (argument, expected) in [
            ("x-queue-type", Value::from("quorum")),
            ("x-max-length", 7_i64.into()),
            ("x-list", list.view().into()),
            ("x-map", inner.view().into()),
            ("x-decimal", "105E-2".into()),
        ] {
            assert_eq!(arguments.get(&argument.into()), Some(expected), "{argument}");
        }
    };
    assert_eq!(response(&Response::Queue { is_new: true, queue: info }, check), "201");
    assert_eq!(response(&Response::Queue { is_new: false, queue: info }, check), "200");
    let alone = QueueInfo { leader: None, replicas: &[], ..info };
    let status = response(&Response::Queue { is_new: false, queue: alone }, |value| {
        let Value::Map(map) = value else { panic!("{value:?}") };
        assert_eq!(map.get(&"leader".into()), None);
        assert!(
            matches!(map.get(&"replicas".into()), Some(Value::Array(nodes)) if nodes.iter().count() == 0)
        );
    });
    assert_eq!(status, "200");
}

#[test]
fn the_other_responses_are_counts_nothing_and_reasons() {
    let status = response(&Response::Messages(9), |value| {
        let mut map = MapBuilder::new();
        map.push("message_count", 9_u64);
        assert_eq!(value, map.view().into());
    });
    assert_eq!(status, "200");
    assert_eq!(response(&Response::Done, |value| assert_eq!(value, Value::Null)), "204");
    let refused = Refused::not_found(Kind::Queue, &name("q"), "/");
    let status = response(&Response::Refused(&refused), |value| {
        assert_eq!(value, "queue 'q' in vhost '/' not found".into());
    });
    assert_eq!(status, "404");
    // Byte by byte: properties, application-properties, amqp-value.
    let mut bytes = Vec::new();
    Response::Done.encode(None, &mut bytes);
    let expected = "00 53 73 c0 09 04 40 40 40 a1 03 323034
        00 53 74 c1 15 02 a1 0d 687474703a726573706f6e7365 a1 03 312e31 00 53 77 40";
    assert_eq!(bytes, super::hex(expected));
}

/// A client that knows a binding's arguments finds its location, and unbinds it by that.
#[test]
fn a_binding_is_found_by_its_location() {
    let table = |fields: &[(&'static str, i64)]| -> Table {
        fields.iter().map(|(field, number)| (name(field), Owned::Integer(*number))).collect()
    };
    let (none, two, turned, other) = (
        table(&[]),
        table(&[("a", 1), ("b", 2)]),
        table(&[("b", 2), ("a", 1)]),
        table(&[("a", 2), ("b", 1)]),
    );
    assert_eq!(arguments_key(&none), "");
    assert_eq!(arguments_key(&two), arguments_key(&turned));
    assert_ne!(arguments_key(&two), arguments_key(&other));
    let (source, key) = (name("ex/change ✓"), name("a.#;*"));
    let destinations = [queue("q=1"), Destination::Exchange(name("x;y"))];
    for (destination, arguments) in destinations.iter().flat_map(|to| [(to, &none), (to, &two)]) {
        let info = BindingInfo { source: &source, destination, key: &key, arguments };
        let location = info.location();
        let expected = Request::Unbind {
            source: source.clone(),
            destination: destination.clone(),
            key: key.clone(),
            arguments: &arguments_key(arguments),
        };
        is("DELETE", &location, Value::Null, &expected);
        let status = response(&Response::Bindings(&[info]), |value| {
            let Value::List(list) = value else { panic!("{value:?}") };
            let Some(Value::Map(map)) = list.iter().next() else { panic!("{list:?}") };
            assert_eq!(map.get(&"location".into()), Some(location.as_str().into()));
            assert_eq!(map.get(&"source".into()), Some("ex/change ✓".into()));
            assert_eq!(map.get(&"binding_key".into()), Some("a.#;*".into()));
            let field = match destination {
                Destination::Queue(_) => ("destination_queue", "q=1"),
                Destination::Exchange(_) => ("destination_exchange", "x;y"),
            };
            assert_eq!(map.get(&field.0.into()), Some(field.1.into()));
            assert!(
                matches!(map.get(&"arguments".into()), Some(Value::Map(map)) if map.len() == arguments.len())
            );
        });
        assert_eq!(status, "200");
    }
    let binding =
        BindingInfo { source: &name("x"), destination: &queue("q"), key: &name("k"), arguments: &none };
    assert_eq!(binding.location(), "/bindings/src=x;dstq=q;key=k;args=");
    assert_eq!(
        response(&Response::Bindings(&[]), |value| assert_eq!(value, Value::List(crate::types::List::EMPTY))),
        "200"
    );
}
