//! Publishes and settlements that are written together.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, PERSISTENT, message};
use leveret_broker::{Publish, Published, QueueSpec, Settle, Transaction, port::Wake, store::Durability};
use leveret_model::{MessageView, Refusal};
use std::sync::Arc;

fn persistent<'a>(key: &'a str, body: &'a str) -> Publish<'a> {
    let message = MessageView { properties: PERSISTENT, ..message("", key, body.as_bytes()) };
    Publish { channel: 1, message, mandatory: false, more_keys: None }
}

fn with_queues(names: &[&str]) -> (Connection, Arc<Disk>) {
    let disk = Disk::new();
    let c = Connection::kept_in(disk.clone(), vec![]);
    for name in names {
        let spec = QueueSpec { durable: true, ..kit::queue(name) };
        c.vhost.declare_queue(spec, c.id).unwrap();
    }
    (c, disk)
}

fn publish(c: &mut Connection, transaction: &mut Transaction, batch: &[Publish<'_>]) -> Vec<Published> {
    let (mut outcomes, waker) = (Vec::new(), c.bell.clone() as Arc<dyn Wake>);
    transaction.publish(&mut c.router, batch, &mut outcomes, &waker);
    outcomes
}

#[test]
fn all_of_it_is_on_disk_at_once() {
    let (mut c, disk) = with_queues(&["a", "b"]);
    c.publish_one(persistent("a", "before").message);
    let (tag, ..) = c.get("a").unwrap();
    c.client.select_transactions(1);
    c.client.settle(1, tag, false, Settle::Accepted).unwrap();
    c.client.tell_store();
    assert_eq!(disk.bodies().len(), 1, "what is not committed does not count");
    disk.durabilities();
    let mut transaction = Transaction::begin(&c.vhost);
    for body in ["1", "2"] {
        let outcomes = publish(&mut c, &mut transaction, &[persistent("a", body), persistent("b", body)]);
        assert_eq!(outcomes, [Published::Routed, Published::Routed]);
    }
    let bodies = |disk: &Disk| disk.bodies().into_iter().map(|(.., body)| body).collect::<Vec<_>>();
    assert_eq!(bodies(&disk), ["before"]);
    c.client.commit(1);
    assert!(transaction.end(&mut c.client, &mut c.router).is_safe());
    assert_eq!(bodies(&disk), ["1", "2", "1", "2"]);
    assert_eq!(disk.durabilities(), [Durability::Always], "by one group");
    c.client.tell_store();
    assert_eq!(bodies(&disk).len(), 4);
}

#[test]
fn the_receipt_is_safe_when_the_disk_says_so() {
    let (mut c, disk) = with_queues(&["a"]);
    disk.is_slow(true);
    let mut transaction = Transaction::begin(&c.vhost);
    publish(&mut c, &mut transaction, &[persistent("a", "1")]);
    let receipt = transaction.end(&mut c.client, &mut c.router);
    assert!(receipt.is_pending());
    disk.is_slow(false);
    assert!(receipt.is_safe());
    assert!(Transaction::begin(&c.vhost).end(&mut c.client, &mut c.router).is_safe(), "of nothing at all");
}

#[test]
fn settlements_alone_are_waited_for_too() {
    let (mut c, disk) = with_queues(&["a"]);
    c.publish_one(persistent("a", "1").message);
    let (tag, ..) = c.get("a").unwrap();
    c.client.select_transactions(1);
    c.client.settle(1, tag, false, Settle::Accepted).unwrap();
    disk.is_slow(true);
    c.client.commit(1);
    let receipt = Transaction::begin(&c.vhost).end(&mut c.client, &mut c.router);
    assert!(receipt.is_pending());
    disk.is_slow(false);
    assert!(receipt.is_safe() && disk.bodies().is_empty());
}

/// The publish alone would do with less.
#[test]
fn a_commit_is_as_safe_as_the_strictest_queue_says_from_which_it_takes() {
    let (mut c, disk) = with_queues(&["never", "strict"]);
    for (from, to, expected) in [
        ("strict", Some("never"), Durability::Always),
        ("strict", None, Durability::Always),
        ("never", Some("never"), Durability::Never),
        ("never", None, Durability::Never),
    ] {
        c.publish_one(persistent(from, "1").message);
        let (tag, ..) = c.get(from).unwrap();
        c.client.tell_store();
        c.client.select_transactions(1);
        c.client.settle(1, tag, false, Settle::Accepted).unwrap();
        disk.durabilities();
        c.client.commit(1);
        let mut transaction = Transaction::begin(&c.vhost);
        if let Some(to) = to {
            publish(&mut c, &mut transaction, &[persistent(to, "2")]);
        }
        transaction.end(&mut c.client, &mut c.router);
        assert_eq!(disk.durabilities(), [expected], "from {from} to {to:?}");
    }
}

#[test]
fn what_is_rolled_back_can_be_settled_again() {
    let (mut c, disk) = with_queues(&["a"]);
    let batch: Vec<_> = ["1", "2", "3", "4"].iter().map(|body| persistent("a", body).message).collect();
    c.publish_all(&batch);
    (0..4).for_each(|_| drop(c.get("a")));
    c.client.select_transactions(1);
    c.client.settle(1, 3, false, Settle::Rejected).unwrap();
    c.client.settle(1, 2, true, Settle::Accepted).unwrap();
    assert_eq!(c.client.settle(1, 2, false, Settle::Accepted), Err(Refusal::UnknownDelivery { tag: 2 }));
    c.client.roll_back(1);
    assert_eq!(c.client.unacknowledged(1), 4);
    c.client.settle(1, 4, true, Settle::Accepted).unwrap();
    c.client.settle(1, 0, true, Settle::Accepted).unwrap();
    c.client.commit(1);
    c.client.tell_store();
    assert!(disk.bodies().is_empty());
    assert_eq!(c.ready("a"), 0);
}

#[test]
fn what_is_recovered_comes_back_at_once() {
    let (mut c, _) = with_queues(&["a"]);
    c.publish_one(persistent("a", "1").message);
    c.get("a").unwrap();
    c.client.select_transactions(1);
    c.client.recover(1);
    assert_eq!((c.ready("a"), c.client.unacknowledged(1)), (1, 0));
}

#[test]
fn what_was_not_committed_comes_back_when_its_channel_goes() {
    let (mut c, _) = with_queues(&["a"]);
    c.publish_one(persistent("a", "1").message);
    let (tag, ..) = c.get("a").unwrap();
    c.client.select_transactions(1);
    c.client.settle(1, tag, false, Settle::Accepted).unwrap();
    c.client.close_channel(1, &mut c.router);
    c.client.open_channel(1);
    assert_eq!(c.get("a").map(|(_, redelivered, body)| (redelivered, body)), Some((true, "1".into())));
}

#[test]
fn one_that_is_given_up_half_way_leaves_nothing_in_memory_alone() {
    let (mut c, disk) = with_queues(&["a"]);
    let mut transaction = Transaction::begin(&c.vhost);
    publish(&mut c, &mut transaction, &[persistent("a", "1")]);
    assert_eq!((c.ready("a"), disk.bodies().len()), (1, 0));
    drop(transaction);
    assert_eq!(
        (c.ready("a"), disk.bodies().len()),
        (1, 1),
        "a queue has no message that ends with the process"
    );
}
