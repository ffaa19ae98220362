//! Messages of every form and size, credit, logins.

use crate::harness::{Case, Peer, Queues, accepted, cases, condition, next, send, take, unique, url};
use fe2o3_amqp::connection::OpenError;
use fe2o3_amqp::link::{CreditMode, LinkStateError, ReceiverAttachError, RecvError, SenderAttachError};
use fe2o3_amqp::sasl_profile::{SaslProfile, SaslScramSha256};
use fe2o3_amqp::types::definitions::SenderSettleMode;
use fe2o3_amqp::types::messaging::message::Body;
use fe2o3_amqp::types::messaging::{
    AmqpSequence, ApplicationProperties, Batch, Data, Footer, Header, Message, MessageAnnotations, Outcome,
    Priority, Properties, Source, Target,
};
use fe2o3_amqp::types::primitives::{Array, OrderedMap, Symbol, Timestamp, Uuid, Value};
use fe2o3_amqp::{Connection, Receiver, Sender, Session};
use serde_amqp::described::Described;
use serde_amqp::descriptor::Descriptor;
use std::collections::BTreeMap;

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    cases![
        "values of every type come back as they went" => values,
        "sections come back as they went" => sections,
        "data and sequences come back in their sections" => bodies,
        "a message of many frames, and one that is not held in memory" => large,
        "credit by hand, and what is left of it is drained" => credit,
        "what both settle needs no outcome" => settled,
        "many sessions and links at once" => sessions,
        "a selector chooses messages" => selector,
        "a dynamic source is a queue that goes with its link" => dynamic,
        "addresses that lead nowhere have their conditions" => nowhere,
        "a link ends with its queue" => deleted,
        "logins by PLAIN and SCRAM-SHA-256, and a wrong password" => logins,
        "a virtual host that is not there" => virtual_host,
    ]
}

async fn values() {
    let queues = Queues::open().await;
    let (_, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
    let map = OrderedMap::from_iter([
        (Value::from("key"), Value::List(vec![Value::from(1u64), Value::Null])),
        (Value::Symbol(Symbol::from("sym")), Value::from(true)),
    ]);
    let values = [
        Value::Null,
        Value::Bool(true),
        Value::Ubyte(255),
        Value::Ushort(u16::MAX),
        Value::Uint(0),
        Value::Uint(u32::MAX),
        Value::Ulong(255),
        Value::Ulong(u64::MAX),
        Value::Byte(-128),
        Value::Short(i16::MIN),
        Value::Int(-1),
        Value::Int(i32::MIN),
        Value::Long(i64::MIN),
        Value::from(0.25f32),
        Value::from(-1.5f64),
        Value::Char('\u{4e16}'),
        Value::Timestamp(Timestamp::from_milliseconds(1_700_000_000_123)),
        Value::Uuid(Uuid::from([7; 16])),
        Value::Binary(vec![0, 255].into()),
        Value::String("text \u{e9}\u{4e16}".to_owned()),
        Value::String("x".repeat(70_000)),
        Value::Symbol(Symbol::from("sym")),
        Value::List(Vec::new()),
        Value::List((0..1000).map(Value::Long).collect()),
        Value::Map(map),
        Value::Array(Array::from(vec![Value::Int(1), Value::Int(2), Value::Int(3)])),
    ];
    for value in values {
        send(&mut sender, value.clone()).await;
        assert_eq!(take(&mut receiver).await, value);
    }
    peer.close().await;
}

async fn sections() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
    let properties = Properties::builder()
        .message_id(7u64)
        .user_id(b"guest".to_vec())
        .to(address.clone())
        .subject("subject")
        .reply_to("/queues/replies")
        .correlation_id("correlation".to_owned())
        .content_type("text/plain")
        .content_encoding("identity")
        .creation_time(Timestamp::from_milliseconds(5))
        .group_id("group".to_owned())
        .group_sequence(3)
        .reply_to_group_id("replies".to_owned())
        .build();
    let application =
        ApplicationProperties::builder().insert("n", 1i64).insert("s", "x").insert("b", true).build();
    let footer = Footer::builder().insert("x-sum", 9i64).build();
    let message = Message::builder()
        .header(Header::builder().durable(true).priority(7).ttl(60_000).build())
        .message_annotations(MessageAnnotations::builder().insert("x-own", "a").build())
        .properties(properties.clone())
        .application_properties(application.clone())
        .value(Value::from("body"))
        .footer(footer.clone())
        .build();
    accepted(sender.send(message).await.unwrap());
    let delivery = next(&mut receiver).await;
    receiver.accept(&delivery).await.unwrap();
    let came = delivery.into_message();
    let header = came.header.unwrap();
    assert_eq!((header.durable, header.priority, header.ttl), (true, Priority(7), Some(60_000)));
    assert_eq!((header.first_acquirer, header.delivery_count), (true, 0));
    assert_eq!((came.properties, came.application_properties), (Some(properties), Some(application)));
    assert_eq!((came.body, came.footer), (Value::from("body"), Some(footer)));
    let wanted = MessageAnnotations::builder()
        .insert("x-own", "a")
        .insert("x-exchange", "")
        .insert("x-routing-key", name)
        .build();
    let in_order = |annotations: MessageAnnotations| annotations.0.into_iter().collect::<BTreeMap<_, _>>();
    assert_eq!(in_order(came.message_annotations.unwrap()), in_order(wanted));
    peer.close().await;
}

async fn bodies() {
    let queues = Queues::open().await;
    let (_, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
    let data = Batch::new(vec![Data::from(b"a".to_vec()), Data::from(Vec::new()), Data::from(b"b".to_vec())]);
    let sequences =
        Batch::new(vec![AmqpSequence::new(vec![Value::from(1i32), Value::Null]), AmqpSequence::new(vec![])]);
    for body in [Body::Data(data), Body::Sequence(sequences)] {
        accepted(sender.send(Message::builder().body(body.clone()).build()).await.unwrap());
        let delivery = receiver.recv::<Body<Value>>().await.unwrap();
        receiver.accept(&delivery).await.unwrap();
        assert_eq!(delivery.into_body(), body);
    }
    peer.close().await;
}

async fn large() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let narrow = Connection::builder().container_id(unique("container")).max_frame_size(4096u32);
    let mut peer = Peer::over(narrow.open(url("guest:guest@").as_str()).await.unwrap()).await;
    let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
    for bytes in [300_000, 5_000_000] {
        let body: Vec<u8> = (0..bytes).map(|at: usize| (at >> 12) as u8 ^ at as u8).collect();
        accepted(sender.send(Data::from(body.clone())).await.unwrap());
        let delivery = receiver.recv::<Data>().await.unwrap();
        receiver.accept(&delivery).await.unwrap();
        assert!(delivery.into_body().0 == body, "another body of {bytes} bytes");
    }
    receiver.close().await.unwrap();
    assert_eq!(queues.ready(&name).await, 0);
    peer.close().await;
}

async fn credit() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let mut sender = peer.sender(&address).await;
    for number in 0..5i32 {
        send(&mut sender, number).await;
    }
    let mut receiver = Receiver::builder()
        .name(unique("receiver"))
        .source(address.as_str())
        .credit_mode(CreditMode::Manual)
        .attach(&mut peer.session)
        .await
        .unwrap();
    receiver.set_credit(2).await.unwrap();
    assert_eq!((take(&mut receiver).await, take(&mut receiver).await), (Value::Int(0), Value::Int(1)));
    assert_eq!(queues.ready(&name).await, 3);
    // What the broker sends until it has drained the link comes before the flow that says so.
    receiver.set_credit(10).await.unwrap();
    receiver.drain().await.unwrap();
    for number in 2..5i32 {
        assert_eq!(take(&mut receiver).await, Value::Int(number));
    }
    // What is sent after the drain waits for new credit.
    send(&mut sender, "later").await;
    assert_eq!(queues.ready(&name).await, 1);
    receiver.set_credit(1).await.unwrap();
    assert_eq!(take(&mut receiver).await, Value::from("later"));
    peer.close().await;
}

async fn settled() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let mut sender = Sender::builder()
        .name(unique("sender"))
        .target(address.as_str())
        .sender_settle_mode(SenderSettleMode::Settled)
        .attach(&mut peer.session)
        .await
        .unwrap();
    for number in 0..200i32 {
        send(&mut sender, number).await;
    }
    let mut receiver = Receiver::builder()
        .name(unique("receiver"))
        .source(address.as_str())
        .sender_settle_mode(SenderSettleMode::Settled)
        .attach(&mut peer.session)
        .await
        .unwrap();
    receiver.set_credit(200).await.unwrap();
    for number in 0..200i32 {
        assert_eq!(next(&mut receiver).await.into_body(), Value::Int(number));
    }
    assert_eq!(queues.ready(&name).await, 0);
    receiver.close().await.unwrap();
    assert_eq!(queues.ready(&name).await, 0);
    peer.close().await;
}

async fn sessions() {
    let queues = Queues::open().await;
    let mut peer = Peer::dial().await;
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let (_, address) = queues.declare(&[]).await;
        let mut session = Session::begin(&mut peer.connection).await.unwrap();
        tasks.push(tokio::task::spawn_local(async move {
            let mut sender = Sender::attach(&mut session, unique("sender"), address.as_str()).await.unwrap();
            let mut receiver =
                Receiver::attach(&mut session, unique("receiver"), address.as_str()).await.unwrap();
            for number in 0..200i32 {
                send(&mut sender, number).await;
                assert_eq!(take(&mut receiver).await, Value::Int(number));
            }
            session.end().await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    peer.close().await;
}

async fn selector() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let mut sender = peer.sender(&address).await;
    for number in 0..6i64 {
        let colour = if number % 2 == 0 { "even" } else { "odd" };
        let properties =
            ApplicationProperties::builder().insert("number", number).insert("kind", colour).build();
        let message =
            Message::builder().application_properties(properties).value(Value::Long(number)).build();
        accepted(sender.send(message).await.unwrap());
    }
    let source = |selector: &str| {
        let described =
            Described { descriptor: Descriptor::Code(0x0000_468c_0000_0004), value: Value::from(selector) };
        Source::builder().address(address.as_str()).add_to_filter("jms-selector", described).build()
    };
    let mut receiver = Receiver::builder()
        .name(unique("receiver"))
        .source(source("kind = 'odd' AND number > 1"))
        .attach(&mut peer.session)
        .await
        .unwrap();
    assert_eq!((take(&mut receiver).await, take(&mut receiver).await), (Value::Long(3), Value::Long(5)));
    receiver.close().await.unwrap();
    assert_eq!(queues.ready(&name).await, 4);
    let said = refuses_receiver(&mut peer, source("kind ="), "amqp:invalid-field").await;
    assert!(said.is_none_or(|said| said.contains("at character 7")));
    peer.close().await;
}

async fn dynamic() {
    let mut peer = Peer::dial().await;
    let source = Source::builder().dynamic(true).capabilities(vec![Symbol::from("temporary-queue")]).build();
    let mut receiver =
        Receiver::builder().name(unique("receiver")).source(source).attach(&mut peer.session).await.unwrap();
    let address = receiver.source().as_ref().unwrap().address.clone().unwrap();
    let mut sender = peer.sender(&address).await;
    send(&mut sender, "there").await;
    assert_eq!(take(&mut receiver).await, Value::from("there"));
    receiver.close().await.unwrap();
    // What was used before ends with the next message.
    let ended = format!("{:?}", sender.send("nobody").await.unwrap_err());
    assert!(ended.contains("ResourceDeleted"), "{ended}");
    refuses_sender(&mut peer, &address, "amqp:not-found").await;
    // A target, too.
    let target = Target::builder().dynamic(true).capabilities(vec![Symbol::from("temporary-queue")]).build();
    let mut sender =
        Sender::builder().name(unique("sender")).target(target).attach(&mut peer.session).await.unwrap();
    let address = sender.target().as_ref().unwrap().address.clone().unwrap();
    let mut receiver = peer.receiver(&address).await;
    send(&mut sender, "here").await;
    assert_eq!(take(&mut receiver).await, Value::from("here"));
    peer.close().await;
}

/// A sender must be refused, with this condition.
///
/// This client may overlook what it is told: its session answers a detach before the link has looked at it, and what is
/// attached next in that session may fail of it. So each has a session of its own.
async fn refuses_sender(peer: &mut Peer, address: &str, wanted: &str) {
    let mut session = Session::begin(&mut peer.connection).await.unwrap();
    match Sender::attach(&mut session, unique("sender"), address).await {
        Err(SenderAttachError::RemoteClosedWithError(error)) => {
            assert_eq!(condition(&error), wanted, "{address}")
        }
        Err(SenderAttachError::IllegalState) => {}
        other => panic!("no refusal of {address} by the broker: {other:?}"),
    }
}

/// The same for a receiver; what the broker said, unless it was overlooked.
async fn refuses_receiver(peer: &mut Peer, source: impl Into<Source>, wanted: &str) -> Option<String> {
    let mut session = Session::begin(&mut peer.connection).await.unwrap();
    let receiver = Receiver::builder().name(unique("receiver")).source(source);
    match receiver.attach(&mut session).await {
        Err(ReceiverAttachError::RemoteClosedWithError(error)) => {
            assert_eq!(condition(&error), wanted);
            error.description
        }
        Err(ReceiverAttachError::IllegalState) => None,
        other => panic!("no refusal by the broker: {other:?}"),
    }
}

async fn nowhere() {
    let mut peer = Peer::dial().await;
    for (address, wanted) in [
        ("/queues/none", "amqp:not-found"),
        ("/exchanges/none/k", "amqp:not-found"),
        ("plain", "amqp:invalid-field"),
        ("/queues/%zz", "amqp:invalid-field"),
    ] {
        refuses_sender(&mut peer, address, wanted).await;
    }
    for (address, wanted) in [("/queues/none", "amqp:not-found"), ("plain", "amqp:invalid-field")] {
        refuses_receiver(&mut peer, address, wanted).await;
    }
    // The connection is well.
    let mut nobody = peer.sender("/exchanges/amq.topic/nobody").await;
    assert!(matches!(nobody.send("m").await.unwrap(), Outcome::Released(_)));
    peer.close().await;
}

async fn deleted() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let mut receiver = peer.receiver(&address).await;
    queues.delete(&name).await;
    let error = match receiver.recv::<Value>().await.unwrap_err() {
        RecvError::LinkStateError(LinkStateError::RemoteClosedWithError(error)) => error,
        other => panic!("no end of the link: {other:?}"),
    };
    assert_eq!(condition(&error), "amqp:resource-deleted");
    peer.close().await;
}

/// A connection by this login, on which a message goes through a queue.
async fn through(profile: SaslProfile, address: &str) {
    let builder = Connection::builder().container_id(unique("container")).sasl_profile(profile);
    let mut peer = Peer::over(builder.open(url("").as_str()).await.unwrap()).await;
    let (mut sender, mut receiver) = (peer.sender(address).await, peer.receiver(address).await);
    send(&mut sender, "in").await;
    assert_eq!(take(&mut receiver).await, Value::from("in"));
    peer.close().await;
}

async fn logins() {
    let queues = Queues::open().await;
    let (_, address) = queues.declare(&[]).await;
    through(("guest", "guest").into(), &address).await;
    through(SaslScramSha256::new("guest", "guest").into(), &address).await;
    let wrong: [SaslProfile; 3] = [
        ("guest", "wrong").into(),
        SaslScramSha256::new("guest", "wrong").into(),
        ("nobody", "guest").into(),
    ];
    for profile in wrong {
        let builder = Connection::builder().container_id(unique("container")).sasl_profile(profile);
        let error = builder.open(url("").as_str()).await.unwrap_err();
        assert!(matches!(error, OpenError::SaslError { .. }), "{error:?}");
    }
}

async fn virtual_host() {
    let here = Connection::builder().container_id(unique("container")).hostname("vhost:/");
    Peer::over(here.open(url("guest:guest@").as_str()).await.unwrap()).await.close().await;
    let nowhere = Connection::builder().container_id(unique("container")).hostname("vhost:nowhere");
    // It is opened, and closed with the reason.
    let closed = match nowhere.open(url("guest:guest@").as_str()).await {
        Err(OpenError::RemoteClosedWithError(error)) => error,
        Err(other) => panic!("{other:?}"),
        Ok(mut connection) => match connection.on_close().await {
            Err(fe2o3_amqp::connection::Error::RemoteClosedWithError(error)) => error,
            other => panic!("{other:?}"),
        },
    };
    assert_eq!(condition(&closed), "amqp:not-found");
}
