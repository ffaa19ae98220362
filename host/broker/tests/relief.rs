//! What can be read again leaves memory where that is short, whoever consumes.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, PERSISTENT, message, name};
use leveret_broker::{MemoryAccount, QueueSpec, Vhost, port::Wake};
use leveret_model::MessageView;
use std::sync::Arc;

fn persistent<'a>(exchange: &'a str, key: &'a str, body: &'a [u8]) -> MessageView<'a> {
    MessageView { properties: PERSISTENT, ..message(exchange, key, body) }
}

fn durable(name: &str) -> QueueSpec {
    QueueSpec { durable: true, ..kit::queue(name) }
}

/// A connection to a virtual host with that memory, and a disk.
fn with(account: Arc<MemoryAccount>) -> Connection {
    let mut router = kit::Native::default();
    let vhost = Vhost::kept_in(Disk::new(), name("/"), account, &mut router).unwrap();
    Connection { router, ..Connection::to(&vhost) }
}

#[test]
fn large_bodies_that_can_be_read_again_are_let_go() {
    const LARGE: usize = 64 * 1024;
    let account = Arc::new(MemoryAccount::new(1));
    let mut c = with(account.clone());
    c.vhost.declare_queue(durable("q"), c.id).unwrap();
    let body = |number: u8| {
        let mut body = vec![b'.'; LARGE];
        body[0] = number;
        body
    };
    for number in 0..200 {
        c.publish_one(persistent("", "q", &body(number)));
        assert!(account.bytes() < 5 << 20, "{} bytes after {number}", account.bytes());
    }
    for number in 0..200 {
        let mut first = None;
        let mut note = |got: leveret_broker::Got<'_>| {
            first = got.message.body.first().copied();
            assert_eq!(got.message.body.len(), LARGE);
        };
        assert!(c.client.get(1, b"q", true, &mut c.router, &mut note).unwrap());
        assert_eq!(first, Some(number));
        assert!(account.bytes() < 5 << 20);
    }
    assert_eq!((c.ready("q"), account.bytes()), (0, 0));
}

#[test]
fn where_publishers_wait_queues_that_nobody_uses_let_go_too() {
    let account = Arc::new(MemoryAccount::new(20 << 20));
    let mut c = with(account.clone());
    let queues: Vec<String> = (0..100).map(|number| format!("q{number}")).collect();
    for queue in &queues {
        c.vhost.declare_queue(durable(queue), c.id).unwrap();
        for _ in 0..4 {
            c.publish_one(persistent("", queue, &[b'.'; 100_000]));
        }
    }
    for queue in &queues {
        (0..20).for_each(|_| drop(c.publish_one(persistent("", queue, &[b'.'; 100_000]))));
    }
    let housekeeper = Arc::new(kit::Bell::default());
    c.vhost.set_housekeeper(housekeeper.clone());
    let rings = || housekeeper.rings.load(std::sync::atomic::Ordering::SeqCst);
    let (waiter, before) = (Arc::new(kit::Bell::default()), (rings(), account.bytes()));
    let wake: Arc<dyn Wake> = waiter.clone();
    assert!(
        account.wake_when_below(&wake) && rings() > before.0,
        "who begins to wait has the housekeeper come"
    );
    // A queue keeps what comes next, and what came last.
    c.pass(0);
    assert!(account.bytes() < before.1 / 4 * 3, "{} of {}", account.bytes(), before.1);
    assert!(c.run().again_ms.is_some(), "it comes again while memory is short");
    assert_eq!(c.ready("q7"), 24);
    c.drain_bodies("q7");
    for queue in &queues {
        c.drain_bodies(queue);
    }
    assert_eq!((c.run().again_ms, waiter.rings.load(std::sync::atomic::Ordering::SeqCst)), (None, 1));
}
