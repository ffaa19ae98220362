//! Part 4 of the specification: what is sent and settled in a transaction counts with its commit.

use crate::harness::{Case, Peer, Queues, accepted, cases, condition, next, send, take, text};
use amqprs::FieldValue;
use fe2o3_amqp::transaction::{
    Controller, ControllerSendError, OwnedTransaction, Transaction, TransactionDischarge, TransactionPosting,
    TransactionRetirement,
};
use fe2o3_amqp::types::messaging::{Data, Message, Outcome};
use fe2o3_amqp::types::primitives::Value;

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    cases![
        "what is sent is there after the commit" => posted,
        "what is rolled back is as if it had not been" => rolled_back,
        "outcomes count with the commit" => retired,
        "a message is moved from one queue to another" => moved,
        "two transactions on one link do not mix" => two,
        "messages of many frames in a transaction" => large,
        "a commit that cannot be is told as rolled back" => refused,
        "a transaction that is dropped, and one whose connection ends" => dropped,
    ]
}

async fn posted() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let mut sender = peer.sender(&address).await;
    let controller = Controller::attach(&mut peer.session, "controller").await.unwrap();
    let transaction = Transaction::declare(&controller, None).await.unwrap();
    for number in 0..50i32 {
        accepted(transaction.post(&mut sender, number).await.unwrap());
    }
    assert_eq!(queues.ready(&name).await, 0);
    transaction.commit().await.unwrap();
    assert_eq!(queues.ready(&name).await, 50);
    let mut receiver = peer.receiver(&address).await;
    for number in 0..50i32 {
        assert_eq!(take(&mut receiver).await, Value::Int(number));
    }
    controller.close().await.unwrap();
    peer.close().await;
}

async fn rolled_back() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
    send(&mut sender, "kept").await;
    let came = next(&mut receiver).await;
    let transaction = OwnedTransaction::declare(&mut peer.session, "owned", None).await.unwrap();
    accepted(transaction.post(&mut sender, "never").await.unwrap());
    transaction.accept(&mut receiver, &came).await.unwrap();
    transaction.rollback().await.unwrap();
    // The default outcome of what the client has settled is released.
    assert_eq!(take(&mut receiver).await, Value::from("kept"));
    receiver.close().await.unwrap();
    assert_eq!(queues.ready(&name).await, 0);
    peer.close().await;
}

async fn retired() {
    let queues = Queues::open().await;
    let (letters, _) = queues.declare(&[]).await;
    let arguments = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(&letters))];
    let (name, address) = queues.declare(&arguments).await;
    let mut peer = Peer::dial().await;
    let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
    for body in ["accepted", "rejected", "released"] {
        send(&mut sender, body).await;
    }
    let controller = Controller::attach(&mut peer.session, "controller").await.unwrap();
    let transaction = Transaction::declare(&controller, None).await.unwrap();
    let came = [next(&mut receiver).await, next(&mut receiver).await, next(&mut receiver).await];
    transaction.accept(&mut receiver, &came[0]).await.unwrap();
    transaction.reject(&mut receiver, &came[1], None).await.unwrap();
    transaction.release(&mut receiver, &came[2]).await.unwrap();
    assert_eq!(queues.ready(&letters).await, 0);
    transaction.commit().await.unwrap();
    assert_eq!(queues.ready(&letters).await, 1);
    assert_eq!(take(&mut receiver).await, Value::from("released"));
    receiver.close().await.unwrap();
    assert_eq!(queues.ready(&name).await, 0);
    controller.close().await.unwrap();
    peer.close().await;
}

async fn moved() {
    let queues = Queues::open().await;
    let ((from, source), (to, target)) = (queues.declare(&[]).await, queues.declare(&[]).await);
    let mut peer = Peer::dial().await;
    let mut first = peer.sender(&source).await;
    for number in 0..20i32 {
        send(&mut first, number).await;
    }
    let (mut sender, mut receiver) = (peer.sender(&target).await, peer.receiver(&source).await);
    let controller = Controller::attach(&mut peer.session, "controller").await.unwrap();
    // Each is moved in a transaction of its own.
    for number in 0..20i32 {
        let transaction = Transaction::declare(&controller, None).await.unwrap();
        let came = next(&mut receiver).await;
        accepted(transaction.post(&mut sender, came.body().clone()).await.unwrap());
        transaction.accept(&mut receiver, &came).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(queues.ready(&to).await, number as u32 + 1);
    }
    receiver.close().await.unwrap();
    assert_eq!(queues.ready(&from).await, 0);
    controller.close().await.unwrap();
    peer.close().await;
}

async fn two() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let mut sender = peer.sender(&address).await;
    let controller = Controller::attach(&mut peer.session, "controller").await.unwrap();
    let kept = Transaction::declare(&controller, None).await.unwrap();
    let dropped = Transaction::declare(&controller, None).await.unwrap();
    for number in 0..10i32 {
        let transaction = if number % 2 == 0 { &kept } else { &dropped };
        accepted(transaction.post(&mut sender, number).await.unwrap());
    }
    // Outside of both.
    send(&mut sender, 10i32).await;
    dropped.rollback().await.unwrap();
    kept.commit().await.unwrap();
    assert_eq!(queues.ready(&name).await, 6);
    let mut receiver = peer.receiver(&address).await;
    for number in [10, 0, 2, 4, 6, 8] {
        assert_eq!(take(&mut receiver).await, Value::Int(number));
    }
    controller.close().await.unwrap();
    peer.close().await;
}

async fn large() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let mut sender = peer.sender(&address).await;
    let controller = Controller::attach(&mut peer.session, "controller").await.unwrap();
    let transaction = Transaction::declare(&controller, None).await.unwrap();
    let bodies = [vec![1u8; 600_000], vec![2u8; 3_000_000]];
    for body in &bodies {
        accepted(transaction.post(&mut sender, Data::from(body.clone())).await.unwrap());
    }
    assert_eq!(queues.ready(&name).await, 0);
    transaction.commit().await.unwrap();
    let mut receiver = peer.receiver(&address).await;
    for body in bodies {
        let delivery = receiver.recv::<Data>().await.unwrap();
        receiver.accept(&delivery).await.unwrap();
        assert!(delivery.into_body().0 == body, "another body");
    }
    controller.close().await.unwrap();
    peer.close().await;
}

async fn refused() {
    let queues = Queues::open().await;
    let arguments = [("x-max-length", FieldValue::I(1)), ("x-overflow", text("reject-publish"))];
    let (name, address) = queues.declare(&arguments).await;
    let mut peer = Peer::dial().await;
    let mut sender = peer.sender(&address).await;
    let controller = Controller::attach(&mut peer.session, "controller").await.unwrap();
    send(&mut sender, "fits").await;
    let transaction = Transaction::declare(&controller, None).await.unwrap();
    let outcome = transaction.post(&mut sender, "does not").await.unwrap();
    assert!(matches!(outcome, Outcome::Accepted(_)), "the outcome if it is committed: {outcome:?}");
    let Err(ControllerSendError::Rejected(rejected)) = transaction.commit().await else {
        panic!("committed")
    };
    assert_eq!(condition(&rejected.error.unwrap()), "amqp:transaction:rollback");
    assert_eq!(queues.ready(&name).await, 1);
    controller.close().await.unwrap();
    peer.close().await;
}

async fn dropped() {
    let queues = Queues::open().await;
    let (name, address) = queues.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
    let controller = Controller::attach(&mut peer.session, "controller").await.unwrap();
    let transaction = Transaction::declare(&controller, None).await.unwrap();
    let message = Message::builder().value("never").build();
    accepted(transaction.post(&mut sender, message).await.unwrap());
    // The client rolls it back.
    drop(transaction);
    send(&mut sender, "kept").await;
    let came = next(&mut receiver).await;
    assert_eq!(came.body(), &Value::from("kept"));
    let transaction = Transaction::declare(&controller, None).await.unwrap();
    transaction.accept(&mut receiver, &came).await.unwrap();
    accepted(transaction.post(&mut sender, "never").await.unwrap());
    // The connection ends with the transaction not discharged.
    peer.connection.close().await.unwrap();
    drop(transaction);
    let mut peer = Peer::dial().await;
    let mut receiver = peer.receiver(&address).await;
    assert_eq!(take(&mut receiver).await, Value::from("kept"));
    receiver.close().await.unwrap();
    assert_eq!(queues.ready(&name).await, 0);
    peer.close().await;
}
