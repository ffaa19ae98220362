//! Consumers with a credit of their own, as links of AMQP 1.0 have, and channels that have no room for a while.

#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{At, Attached, Connection, Delivered, Random, name};
use leveret_broker::{ConsumeSpec, Delivery, Settle, Sink, port::Intercepted};

fn with(bodies: &[&str]) -> Connection {
    let mut c = Connection::first();
    c.queue("q");
    for body in bodies {
        c.publish("", "q", body);
    }
    c
}

fn link(tag: &str, no_ack: bool, credit: u32) -> ConsumeSpec {
    ConsumeSpec { queue: name("q"), tag: name(tag), no_ack, credit: Some(credit), ..ConsumeSpec::default() }
}

#[test]
fn a_consumer_is_given_what_it_has_credit_for_settled_or_not() {
    for no_ack in [false, true] {
        let mut c = with(&["1", "2", "3", "4"]);
        c.client.consume(1, link("t", no_ack, 0)).unwrap();
        assert!(c.bodies().is_empty());
        c.client.grant(1, b"t", 2);
        assert_eq!(c.bodies(), ["1", "2"]);
        if !no_ack {
            c.client.settle(1, 1, false, Settle::Accepted).unwrap();
        }
        assert!(c.bodies().is_empty(), "what is settled gives no credit");
        c.client.grant(1, b"t", 1);
        assert_eq!(c.bodies(), ["3"]);
        c.client.grant(1, b"t", 5);
        assert_eq!(c.bodies(), ["4"]);
        c.publish("", "q", "5");
        assert_eq!(c.bodies(), ["5"], "it is told of what comes later");
    }
}

#[test]
fn several_consumers_keep_to_their_credits() {
    let mut c = with(&[]);
    c.client.consume(1, link("a", false, 1)).unwrap();
    c.client.consume(1, link("b", true, 2)).unwrap();
    for body in ["1", "2", "3", "4"] {
        c.publish("", "q", body);
    }
    let by = |deliveries: Vec<Delivered>, tag: &str| deliveries.iter().filter(|d| d.consumer == tag).count();
    let came = c.deliveries();
    assert_eq!((by(came.clone(), "a"), by(came, "b")), (1, 2));
    c.client.grant(1, b"a", 10);
    assert_eq!(c.bodies().len(), 1);
    assert_eq!(c.ready("q"), 0);
}

#[test]
fn credit_that_is_taken_back_takes_back_what_was_assigned() {
    let mut c = with(&[]);
    c.client.consume(1, link("a", false, 10)).unwrap();
    c.client.consume(1, link("b", false, 0)).unwrap();
    for body in ["1", "2", "3"] {
        c.publish("", "q", body);
    }
    c.client.grant(1, b"a", 1);
    c.client.grant(1, b"b", 10);
    let came = c.deliveries();
    assert_eq!(came.len(), 3);
    assert_eq!(came.iter().filter(|d| d.consumer == "a").count(), 1);
    let mut bodies: Vec<_> = came.iter().map(|d| d.body.clone()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, [b"1", b"2", b"3"]);
}

#[test]
fn what_an_interceptor_drops_uses_up_no_credit() {
    let dropping = Attached::new(At::Deliver("q"), |message| match message.body.starts_with(b"no") {
        true => Intercepted::Drop,
        false => Intercepted::Continue,
    });
    let mut c = Connection::past(vec![dropping]);
    c.queue("q");
    for body in ["no 1", "2", "no 3", "4", "5"] {
        c.publish("", "q", body);
    }
    c.client.consume(1, link("t", false, 2)).unwrap();
    assert_eq!(c.bodies(), ["2", "4"]);
    c.client.grant(1, b"t", 1);
    assert_eq!(c.bodies(), ["5"]);
}

/// Has room for so many on channel 1, and for any number elsewhere.
struct Narrow {
    room: usize,
    taken: Vec<(u16, Vec<u8>)>,
}

impl Sink for Narrow {
    fn has_room(&self) -> bool {
        true
    }

    fn has_room_on(&self, channel: u16) -> bool {
        channel != 1 || self.room > 0
    }

    fn deliver(&mut self, delivery: Delivery<'_>) {
        assert!(self.has_room_on(delivery.channel));
        if delivery.channel == 1 {
            self.room -= 1;
        }
        self.taken.push((delivery.channel, delivery.message.body.to_vec()));
    }
}

#[test]
fn a_channel_without_room_holds_up_no_other_and_goes_on_when_it_has_some() {
    let mut c = with(&["1", "2", "3"]);
    c.queue("r");
    c.publish("", "r", "other");
    c.client.open_channel(2);
    c.client.consume(1, link("t", false, 10)).unwrap();
    c.client.consume(2, ConsumeSpec { queue: name("r"), ..link("u", false, 10) }).unwrap();
    let mut sink = Narrow { room: 1, taken: Vec::new() };
    assert!(!c.client.deliver(&mut c.router, &mut sink), "there is room");
    sink.taken.sort();
    assert_eq!(sink.taken, [(1, b"1".to_vec()), (2, b"other".to_vec())]);
    assert!(c.client.is_waiting(1, b"t") && !c.client.is_waiting(2, b"u"));
    let mut sink = Narrow { room: 5, taken: Vec::new() };
    c.client.deliver(&mut c.router, &mut sink);
    assert_eq!(sink.taken, [(1, b"2".to_vec()), (1, b"3".to_vec())]);
    assert!(!c.client.is_waiting(1, b"t"));
}

/// Whatever happens, nobody has more than was granted, and nothing is lost.
#[test]
fn at_random_nobody_gets_more_than_was_granted() {
    let mut random = Random(7);
    let mut c = with(&[]);
    let tags = ["a", "b", "c"];
    for tag in tags {
        c.client.consume(1, link(tag, false, 0)).unwrap();
    }
    let mut left = [0u32; 3];
    let (mut sent, mut had) = (0u32, 0usize);
    let mut unsettled = Vec::new();
    for _ in 0..2000 {
        match random.below(5) {
            0 | 1 => {
                c.publish("", "q", "m");
                sent += 1;
            }
            2 => {
                let at = random.below(3) as usize;
                left[at] = random.below(6) as u32;
                c.client.grant(1, tags[at].as_bytes(), left[at]);
            }
            3 if !unsettled.is_empty() => {
                let tag = unsettled.swap_remove(random.below(unsettled.len() as u64) as usize);
                let back = random.below(2) == 0;
                let outcome = if back { Settle::Requeue { failed: false } } else { Settle::Accepted };
                had += usize::from(!back);
                c.client.settle(1, tag, false, outcome).unwrap();
            }
            _ => {
                for delivery in c.deliveries() {
                    let at = tags.iter().position(|tag| *tag == delivery.consumer).unwrap();
                    left[at] = left[at].checked_sub(1).expect("it had credit");
                    unsettled.push(delivery.tag);
                }
            }
        }
    }
    c.client.grant(1, b"a", u32::MAX);
    unsettled.extend(c.deliveries().iter().map(|delivery| delivery.tag));
    assert_eq!(unsettled.len() + had, sent as usize);
}
