//! A broker that fails: what the client is told, and what is there when it comes back.
//!
//! This client leaves it to its user to connect again, and says after each error what has to be made anew.

use crate::harness::{Case, Peer, Queues, accepted, cases, condition, next, outage, send, take, unique};
use fe2o3_amqp::link::ErrorRecovery;
use fe2o3_amqp::transaction::{Controller, Transaction, TransactionDischarge, TransactionPosting};
use fe2o3_amqp::types::messaging::{Header, Message};
use fe2o3_amqp::types::primitives::Value;
use std::collections::BTreeSet;

pub(crate) fn cases() -> Vec<(&'static str, Case)> {
    cases![
        "a stop is told, and what is durable is there after it" => restart,
        "what was not settled comes again after a cut" => cut,
        "a transaction is there after a kill if it was committed" => transaction,
        "nothing accepted is lost in outages" => lost,
    ]
}

fn durable(body: impl Into<Value>) -> Message<fe2o3_amqp::types::messaging::AmqpValue<Value>> {
    Message::builder().header(Header::builder().durable(true).build()).value(body.into()).build()
}

async fn restart() {
    let (_, address) = Queues::open().await.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let mut sender = peer.sender(&address).await;
    accepted(sender.send(durable("durable")).await.unwrap());
    outage("restart").await;
    let closed = match peer.connection.on_close().await {
        Err(fe2o3_amqp::connection::Error::RemoteClosedWithError(error)) => error,
        other => panic!("not told: {other:?}"),
    };
    assert_eq!(condition(&closed), "amqp:connection:forced");
    let error = sender.send(durable("late")).await.unwrap_err();
    assert_eq!(error.recovery(), ErrorRecovery::ReconnectConnection, "{error:?}");
    let mut peer = Peer::dial().await;
    let mut receiver = peer.receiver(&address).await;
    assert_eq!(take(&mut receiver).await, Value::from("durable"));
    peer.close().await;
}

async fn cut() {
    let (_, address) = Queues::open().await.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let (mut sender, mut receiver) = (peer.sender(&address).await, peer.receiver(&address).await);
    for body in ["1", "2"] {
        accepted(sender.send(durable(body)).await.unwrap());
    }
    let first = next(&mut receiver).await;
    assert_eq!(first.body(), &Value::from("1"));
    assert_eq!(take(&mut receiver).await, Value::from("2"));
    // By the time this is answered the broker has what was said before.
    send(&mut sender, "3").await;
    outage("cut").await;
    assert!(receiver.recv::<Value>().await.is_ok_and(|came| came.body() == &Value::from("3")));
    assert!(receiver.recv::<Value>().await.is_err(), "the connection is there after a cut");
    let mut peer = Peer::dial().await;
    let mut receiver = peer.receiver(&address).await;
    let again = next(&mut receiver).await;
    assert_eq!(again.body(), &Value::from("1"));
    assert!(!again.message().header.clone().unwrap_or_default().first_acquirer);
    receiver.accept(&again).await.unwrap();
    assert_eq!(take(&mut receiver).await, Value::from("3"));
    peer.close().await;
}

async fn transaction() {
    let (name, address) = Queues::open().await.declare(&[]).await;
    let mut peer = Peer::dial().await;
    let mut sender = peer.sender(&address).await;
    let controller = Controller::attach(&mut peer.session, unique("controller")).await.unwrap();
    let committed = Transaction::declare(&controller, None).await.unwrap();
    for number in 0..30i32 {
        accepted(committed.post(&mut sender, durable(number)).await.unwrap());
    }
    committed.commit().await.unwrap();
    let open = Transaction::declare(&controller, None).await.unwrap();
    accepted(open.post(&mut sender, durable("never")).await.unwrap());
    outage("kill").await;
    drop(open);
    let mut peer = Peer::dial().await;
    let mut receiver = peer.receiver(&address).await;
    for number in 0..30i32 {
        assert_eq!(take(&mut receiver).await, Value::Int(number));
    }
    receiver.close().await.unwrap();
    assert_eq!(Queues::open().await.ready(&name).await, 0);
    peer.close().await;
}

async fn lost() {
    const TOTAL: i32 = 600;
    let (_, address) = Queues::open().await.declare(&[]).await;
    let (mut next_number, mut safe) = (0, BTreeSet::new());
    for kind in ["cut", "kill", "cut", ""] {
        let mut peer = Peer::dial().await;
        let mut sender = peer.sender(&address).await;
        let mut waiting = Vec::new();
        for _ in 0..TOTAL / 4 {
            waiting.push((next_number, sender.send_batchable(durable(next_number)).await.unwrap()));
            next_number += 1;
        }
        let bringing = tokio::task::spawn_local(async move {
            if !kind.is_empty() {
                outage(kind).await;
            }
        });
        // This client leaves an outcome open when its connection ends.
        let ended = peer.connection.on_close();
        tokio::pin!(ended);
        for (number, outcome) in waiting {
            tokio::select! {
                biased;
                outcome = outcome => match outcome {
                    Ok(outcome) => {
                        accepted(outcome);
                        safe.insert(number);
                    }
                    // Whether it arrived is not known.
                    Err(error) => {
                        assert_eq!(error.recovery(), ErrorRecovery::ReconnectConnection, "{error:?}");
                        break;
                    }
                },
                _ = &mut ended => break,
            }
        }
        bringing.await.unwrap();
    }
    let mut peer = Peer::dial().await;
    let mut receiver = peer.receiver(&address).await;
    // What is lost never comes: that ends with the time of the case.
    while !safe.is_empty() {
        let Value::Int(number) = take(&mut receiver).await else { panic!("a number") };
        safe.remove(&number);
    }
    peer.close().await;
}
