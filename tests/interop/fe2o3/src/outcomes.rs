//! What becomes of messages: the broker's word for those that are sent, the client's for those that come.

use crate::harness::{Case, Peer, Queues, accepted, cases, condition, next, send, take, text, unique};
use amqprs::FieldValue;
use fe2o3_amqp::types::definitions::{AmqpError, Error, Fields, ReceiverSettleMode};
use fe2o3_amqp::types::messaging::annotations::AnnotationKey;
use fe2o3_amqp::types::messaging::{Header, Message, Modified, Outcome};
use fe2o3_amqp::types::primitives::{OrderedMap, Symbol, Value};
use fe2o3_amqp::{Delivery, Receiver, Sender};

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    cases![
        "a batch is unsettled until the outcomes come" => batch,
        "one disposition is for many deliveries, in any order" => many,
        "released, rejected and modified, on classic and quorum queues" => all,
        "what modified adds is there when it comes again" => annotations,
        "a full queue rejects with a condition" => full,
        "receiver settle mode second, both ways" => second,
        "what was not settled comes again" => again,
        "ten thousand each way keep their order" => order,
    ]
}

async fn batch() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let mut sender = peer.sender(&address).await;
    let mut outcomes = Vec::new();
    for number in 0..1500i32 {
        outcomes.push(sender.send_batchable(number).await.unwrap());
    }
    for outcome in outcomes {
        accepted(outcome.await.unwrap());
    }
    assert_eq!(queues.ready(&name).await, 1500);
    peer.close().await;
}

async fn many() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
    for number in 0..100i32 {
        send(&mut sender, number).await;
    }
    let mut deliveries = Vec::new();
    for _ in 0..100 {
        deliveries.push(next(&mut receiver).await);
    }
    // Even ones go back, one by one for the broker; the odd ones but the last ten are accepted, from the back.
    let (even, mut odd): (Vec<_>, Vec<_>) =
        deliveries.iter().partition(|delivery| matches!(delivery.body(), Value::Int(n) if n % 2 == 0));
    odd.reverse();
    let (last, rest) = odd.split_at(10);
    receiver.accept_all(rest.iter().copied()).await.unwrap();
    receiver.reject_all(last.iter().copied(), None).await.unwrap();
    receiver.release_all(even.iter().copied()).await.unwrap();
    for number in (0..100i32).step_by(2) {
        let delivery = next(&mut receiver).await;
        assert_eq!(delivery.body(), &Value::Int(number));
        receiver.accept(&delivery).await.unwrap();
    }
    receiver.close().await.unwrap();
    assert_eq!(queues.ready(&name).await, 0);
    peer.close().await;
}

/// What the header says of a delivery's past.
fn past(delivery: &Delivery<Value>) -> (bool, u32) {
    let header = delivery.message().header.clone().unwrap_or_else(|| Header::builder().build());
    (header.first_acquirer, header.delivery_count)
}

/// An annotation of a delivery.
fn annotation(delivery: &Delivery<Value>, key: &str) -> Option<Value> {
    let annotations = delivery.message().message_annotations.as_ref()?;
    annotations.0.get(&key as &dyn AnnotationKey).cloned()
}

fn modified(failed: bool, undeliverable: bool, annotations: &[(&str, Value)]) -> Modified {
    let fields: Fields = annotations.iter().map(|(key, value)| (Symbol::from(*key), value.clone())).collect();
    Modified {
        delivery_failed: Some(failed),
        undeliverable_here: Some(undeliverable),
        message_annotations: (!annotations.is_empty()).then_some(fields),
    }
}

/// A queue of a type whose dead letters go to another: its name and address, and the other's name.
///
/// Dead letters are counted and not taken: this client fails of an array of maps, as it is in `x-opt-deaths`.
async fn with_letters(queues: &Queues, kind: &str) -> (String, String, String) {
    let (letters, _) = queues.declare(&[]).await;
    let arguments = [
        ("x-queue-type", text(kind)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(&letters)),
    ];
    let (name, address) = queues.declare(&arguments).await;
    (name, address, letters)
}

async fn all() {
    let queues = Queues::open().await;
    for kind in ["classic", "quorum"] {
        let (name, address, letters) = with_letters(&queues, kind).await;
        let mut peer = Peer::dial().await;
        let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
        let durable = Header::builder().durable(true).build();
        accepted(sender.send(Message::builder().header(durable).value("m").build()).await.unwrap());
        let came = next(&mut receiver).await;
        assert_eq!(past(&came), (true, 0), "{kind}");
        receiver.release(&came).await.unwrap();
        let came = next(&mut receiver).await;
        assert_eq!(past(&came), (false, 0), "{kind}");
        receiver.modify(&came, modified(true, false, &[])).await.unwrap();
        let came = next(&mut receiver).await;
        assert_eq!(past(&came), (false, 1), "{kind}");
        receiver.modify(&came, modified(false, false, &[])).await.unwrap();
        let came = next(&mut receiver).await;
        assert_eq!(past(&came), (false, 1), "{kind}");
        let why = Error::new(AmqpError::NotAllowed, Some("own reasons".to_owned()), None);
        receiver.reject(&came, why).await.unwrap();
        // By the time it is closed the broker has what was said before.
        receiver.close().await.unwrap();
        assert_eq!((queues.ready(&name).await, queues.ready(&letters).await), (0, 1), "{kind}");
        peer.close().await;
    }
}

async fn annotations() {
    let queues = Queues::open().await;
    for kind in ["classic", "quorum"] {
        let (name, address, letters) = with_letters(&queues, kind).await;
        let mut peer = Peer::dial().await;
        let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
        send(&mut sender, "m").await;
        let map =
            OrderedMap::from_iter([(Value::from("k"), Value::Bool(true)), (Value::from("n"), Value::Null)]);
        let added = [
            ("x-opt-why", Value::from("first")),
            ("x-opt-list", Value::List(vec![Value::from("a"), Value::Long(-2), Value::from(0.5f64)])),
            ("x-opt-map", Value::Map(map)),
        ];
        let came = next(&mut receiver).await;
        receiver.modify(&came, modified(true, false, &added)).await.unwrap();
        let came = next(&mut receiver).await;
        for (key, value) in &added {
            assert_eq!(annotation(&came, key).as_ref(), Some(value), "{kind}, {key}");
        }
        let later = [("x-opt-why", Value::from("second"))];
        receiver.modify(&came, modified(true, false, &later)).await.unwrap();
        let came = next(&mut receiver).await;
        assert_eq!(annotation(&came, "x-opt-why"), Some(Value::from("second")), "{kind}");
        assert_eq!(annotation(&came, "x-opt-list").as_ref(), Some(&added[1].1), "{kind}");
        assert_eq!(past(&came), (false, 2), "{kind}");
        receiver.modify(&came, modified(true, true, &[])).await.unwrap();
        receiver.close().await.unwrap();
        assert_eq!((queues.ready(&name).await, queues.ready(&letters).await), (0, 1), "{kind}");
        peer.close().await;
    }
}

async fn full() {
    let queues = Queues::open().await;
    let arguments = [("x-max-length", FieldValue::I(1)), ("x-overflow", text("reject-publish"))];
    let (name, address) = queues.declare(&arguments).await;
    let mut peer = Peer::dial().await;
    let mut sender = peer.sender(&address).await;
    send(&mut sender, "fits").await;
    let Outcome::Rejected(rejected) = sender.send("does not").await.unwrap() else {
        panic!("taken by a full queue")
    };
    let error = rejected.error.unwrap();
    assert_eq!(condition(&error), "amqp:resource-limit-exceeded");
    assert_eq!(
        error.info.unwrap().get(&Symbol::from("reason")),
        Some(&Value::Symbol(Symbol::from("maxlen")))
    );
    assert_eq!(queues.ready(&name).await, 1);
    peer.close().await;
}

async fn second() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let mut sender = Sender::builder()
        .name(unique("sender"))
        .target(address.as_str())
        .receiver_settle_mode(ReceiverSettleMode::Second)
        .attach(&mut peer.session)
        .await
        .unwrap();
    for number in 0..100i32 {
        send(&mut sender, number).await;
    }
    let mut receiver = Receiver::builder()
        .name(unique("receiver"))
        .source(address.as_str())
        .receiver_settle_mode(ReceiverSettleMode::Second)
        .attach(&mut peer.session)
        .await
        .unwrap();
    for number in 0..100i32 {
        assert_eq!(take(&mut receiver).await, Value::Int(number));
    }
    receiver.close().await.unwrap();
    assert_eq!(queues.ready(&name).await, 0);
    peer.close().await;
}

async fn again() {
    let queues = Queues::open().await;
    let (_, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
    send(&mut sender, "m").await;
    assert_eq!(past(&next(&mut receiver).await), (true, 0));
    receiver.close().await.unwrap();
    let mut receiver = peer.receiver(&address).await;
    assert!(!past(&next(&mut receiver).await).0);
    peer.close().await;
    let mut peer = Peer::dial().await;
    let mut receiver = peer.receiver(&address).await;
    assert_eq!(take(&mut receiver).await, Value::from("m"));
    peer.close().await;
}

async fn order() {
    const TOTAL: i32 = 10_000;
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
    let sending = tokio::task::spawn_local(async move {
        let mut outcomes = Vec::new();
        for number in 0..TOTAL {
            outcomes.push(sender.send_batchable(number).await.unwrap());
        }
        for outcome in outcomes {
            accepted(outcome.await.unwrap());
        }
    });
    for number in 0..TOTAL {
        assert_eq!(take(&mut receiver).await, Value::Int(number));
    }
    sending.await.unwrap();
    receiver.close().await.unwrap();
    assert_eq!(queues.ready(&name).await, 0);
    peer.close().await;
}
