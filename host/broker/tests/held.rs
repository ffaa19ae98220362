//! Deliveries that are held while their consumer is gone.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::Connection;
use leveret_broker::{Held, Settle};

/// A connection that was given three messages, and whose consumer ended; the second is accepted, the others are held.
fn held(mut c: Connection) -> (Connection, Option<Held>) {
    c.queue("q");
    c.consume("q", "c", false);
    for body in ["1", "2", "3"] {
        c.publish("", "q", body);
    }
    let tags: Vec<_> = c.deliveries().into_iter().map(|delivery| delivery.tag).collect();
    c.client.settle(1, tags[1], false, Settle::Accepted).unwrap();
    assert!(c.client.cancel(1, b"c", &mut c.router));
    let deliveries: Vec<_> = tags.iter().map(|tag| (tag + 10, *tag)).collect();
    let held = c.client.hold(1, &deliveries, None, &mut c.router);
    c.client.tell_store();
    (c, held)
}

fn ready(c: &Connection) -> u64 {
    c.vhost.queue(b"q").unwrap().status().messages
}

#[test]
fn what_is_held_is_nobodys_until_it_is_let_go() {
    let (c, held) = held(Connection::first());
    let mut other = c.sibling();
    drop(c);
    let mut held = held.unwrap();
    assert_eq!((held.numbers().collect::<Vec<_>>(), ready(&other)), (vec![11, 13], 0));
    other.consume("q", "d", false);
    assert!(other.bodies().is_empty());
    assert_eq!(
        held.look(13, |message, redelivered| (message.body.to_vec(), redelivered)),
        Some((b"3".to_vec(), false))
    );
    held.retain(|number| number == 11);
    assert_eq!(other.bodies(), ["3"]);
    drop(held);
    let again = other.deliveries();
    assert_eq!((again.len(), again[0].body.as_slice(), again[0].redelivered), (1, &b"1"[..], true));
}

#[test]
fn what_is_taken_up_is_settled_as_if_it_had_never_been_held() {
    let (c, held) = held(Connection::first());
    let mut other = c.sibling();
    drop(c);
    let mut held = held.unwrap();
    assert_eq!(other.client.take_up(1, &mut held, 12, 0), None);
    let first = other.client.take_up(1, &mut held, 11, 0).unwrap();
    let last = other.client.take_up(1, &mut held, 13, 0).unwrap();
    assert!(held.is_empty());
    other.client.settle(1, first, false, Settle::Accepted).unwrap();
    other.client.settle(1, last, false, Settle::Requeue { failed: false }).unwrap();
    other.client.tell_store();
    assert_eq!(other.get("q").map(|(_, again, body)| (again, body)), Some((true, "3".into())));
    assert_eq!(other.get("q"), None);
}

#[test]
fn what_is_taken_up_and_held_again_is_there_once() {
    let (mut c, held) = held(Connection::first());
    let mut held = held.unwrap();
    let tag = c.client.take_up(2, &mut held, 13, 0).unwrap();
    let held = c.client.hold(2, &[(13, tag)], Some(held), &mut c.router).unwrap();
    assert_eq!(held.numbers().collect::<Vec<_>>(), [11, 13]);
    c.client.close(&mut c.router);
    assert_eq!(ready(&c), 0, "it is no channel's");
    drop(held);
    assert_eq!(ready(&c), 2);
}

#[test]
fn what_a_deleted_queue_had_is_gone() {
    let (c, held) = held(Connection::first());
    let mut held = held.unwrap();
    let mut other = c.sibling();
    other.vhost.delete_queue_now(&mut other.router, b"q", false, false, other.id).unwrap();
    assert!(held.is_gone());
    assert_eq!(held.look(11, |_, _| ()), None);
    held.retain(|_| false);
}
