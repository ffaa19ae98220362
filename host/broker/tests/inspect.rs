//! What operators see: counts of a queue, bindings read backwards.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, exchange};
use leveret_broker::{BindTo, QueueCounts, exchange::Destination};

#[test]
fn the_counts_of_a_queue_are_of_one_moment() {
    let mut c = Connection::first();
    c.queue("q");
    let queue = c.vhost.queue(b"q").unwrap();
    assert_eq!(queue.counts(), QueueCounts::default());
    for body in ["1", "2", "3"] {
        c.publish("", "q", body);
    }
    assert_eq!(
        queue.counts(),
        QueueCounts { ready: 3, unsettled: 0, consumers: 0, ..QueueCounts::default() }
    );
    c.get("q").unwrap();
    assert_eq!(queue.counts().ready, 2);
    c.consume("q", "tag", false);
    assert_eq!(c.deliveries().len(), 2);
    let counts = queue.counts();
    assert_eq!((counts.ready, counts.consumers), (0, 1));
    assert_eq!(counts.unsettled, queue.unsettled());
    assert!(counts.unsettled >= 2);
}

#[test]
fn bindings_are_found_from_where_they_lead() {
    let mut c = Connection::first();
    c.queue("q");
    c.exchange(exchange("x", "direct"));
    c.bind("x", BindTo::Queue(b"q"), "one");
    c.bind("amq.topic", BindTo::Queue(b"q"), "two.*");
    c.bind("amq.topic", BindTo::Exchange(b"x"), "three.*");
    let to = |c: &Connection, destination: &Destination| {
        let found = c.vhost.bindings_to(destination);
        let mut found: Vec<(String, String)> = found
            .into_iter()
            .map(|(source, binding)| (source.spec.name.to_text(), binding.routing_key.to_text()))
            .collect();
        found.sort();
        found
    };
    let pair = |source: &str, key: &str| (source.to_owned(), key.to_owned());
    let q = Destination::Queue(c.vhost.queue(b"q").unwrap());
    let x = Destination::Exchange(c.vhost.exchange(b"x").unwrap());
    assert_eq!(to(&c, &q), [pair("amq.topic", "two.*"), pair("x", "one")]);
    assert_eq!(to(&c, &x), [pair("amq.topic", "three.*")]);
    c.unbind("amq.topic", BindTo::Queue(b"q"), "two.*");
    assert_eq!(to(&c, &q), [pair("x", "one")]);
    c.vhost.delete_exchange(&mut c.router, b"x", false).unwrap();
    assert_eq!(to(&c, &q), []);
}
