//! How often messages failed, from queue to queue: as RabbitMQ 4.3.6 counts it.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Ageing as _, Connection, name, number, quorum, string};
use leveret_broker::Settle;
use leveret_model::Value;

/// What a consumer is told of a message: delivery tag, redelivered, `x-acquired-count`, `x-delivery-count`.
type Told = (u64, bool, Option<i64>, Option<i64>);

fn told(c: &mut Connection, queue: &str) -> Option<Told> {
    let mut told = None;
    c.client
        .get(1, queue.as_bytes(), false, &mut c.router, &mut |got| {
            let count = |header| got.message.header(&name(header)).and_then(|value| value.as_integer());
            let counts = (count("x-acquired-count"), count("x-delivery-count"));
            told = Some((got.delivery_tag, got.redelivered, counts.0, counts.1));
        })
        .unwrap();
    told
}

/// Dead letters go to that queue.
fn letters_to(queue: &str) -> [(&'static str, Value); 2] {
    [("x-dead-letter-exchange", string("")), ("x-dead-letter-routing-key", string(queue))]
}

/// Declares `k0` and so on, each the dead-letter queue of the one before: `q` is a quorum queue, `c` a classic one.
fn chain(c: &mut Connection, kinds: &str) {
    for (place, kind) in kinds.chars().enumerate() {
        let mut arguments = if kind == 'q' { vec![quorum()] } else { Vec::new() };
        if place + 1 < kinds.len() {
            arguments.extend(letters_to(&format!("k{}", place + 1)));
        }
        c.declare(&format!("k{place}"), &arguments);
    }
}

/// Gets the message of a queue and does with it: `R` reject and `N` nack requeue it, `L` loses its channel, `r` reject
/// and `n` nack let it die.
fn handle(c: &mut Connection, queue: &str, how: char) {
    let (tag, ..) = told(c, queue).unwrap();
    let outcome = match how {
        'R' => Settle::Requeue { failed: true },
        'N' => Settle::Requeue { failed: false },
        'r' => Settle::Rejected,
        'n' => Settle::Discarded,
        _ => {
            c.client.close_channel(1, &mut c.router);
            c.client.open_channel(1);
            return;
        }
    };
    c.client.settle(1, tag, false, outcome).unwrap();
    c.client.dead_letter(&mut c.router);
}

/// What failed counts wherever that was; classic queues do not tell, and hand it on.
#[test]
fn a_letter_goes_on_from_what_it_failed_in_all_queues_before() {
    for (kinds, hows, expected) in [
        ("qq", "r", Some(1)),
        ("qq", "n", None),
        ("qq", "Nr", Some(1)),
        ("cq", "r", Some(1)),
        ("cq", "n", None),
        ("cq", "Rr", Some(2)),
        ("cq", "RRr", Some(3)),
        ("cq", "NNr", Some(1)),
        ("cq", "LLr", Some(3)),
        ("cq", "RRRRn", Some(4)),
        ("qcq", "r r", Some(2)),
        ("qcq", "n n", None),
        ("qcq", "RRr r", Some(4)),
        ("qcq", "Lr r", Some(3)),
        ("qcq", "r RRr", Some(4)),
        ("qcq", "r NNr", Some(2)),
        ("qcq", "r LLr", Some(4)),
        ("ccq", "Rr Rr", Some(4)),
        ("qccq", "r Rr Rr", Some(5)),
    ] {
        let mut c = Connection::first();
        chain(&mut c, kinds);
        c.put("k0", "letter", None, None);
        for (place, (hows, kind)) in hows.split(' ').zip(kinds.chars()).enumerate() {
            let queue = format!("k{place}");
            for how in hows.chars() {
                handle(&mut c, &queue, how);
                if kind == 'c'
                    && let Some((tag, _, acquired, failed)) = told(&mut c, &queue)
                {
                    assert_eq!(
                        (acquired, failed),
                        (None, None),
                        "{kinds} {hows}: classic queues do not tell"
                    );
                    c.requeue(tag, false);
                }
            }
        }
        let last = format!("k{}", kinds.len() - 1);
        let (_, redelivered, acquired, failed) = told(&mut c, &last).unwrap();
        assert_eq!((acquired, failed), (expected, expected), "{kinds} {hows}");
        assert_eq!(redelivered, expected.is_some(), "{kinds} {hows}");
    }
}

/// That it only waited is no failure, and a letter that nobody failed on is new where it comes.
#[test]
fn what_expires_goes_on_from_what_it_failed_too() {
    for (how, expected) in [('R', Some(1)), ('L', Some(1)), ('N', None)] {
        for first in [&[][..], &[quorum()]] {
            let mut c = Connection::first();
            let ttl = ("x-message-ttl", number(100));
            c.declare("k0", &[first, &letters_to("k1"), std::slice::from_ref(&ttl)].concat());
            c.declare("k1", &[&letters_to("k2")[..], &[ttl]].concat());
            c.declare("k2", &[quorum()]);
            c.put("k0", "letter", None, None);
            handle(&mut c, "k0", how);
            c.pass(100);
            c.pass(100);
            let (_, redelivered, acquired, failed) = told(&mut c, "k2").unwrap();
            assert_eq!((redelivered, acquired, failed), (expected.is_some(), expected, expected), "{how}");
        }
    }
}

/// One that failed elsewhere is tried once, whatever the limit is.
#[test]
fn a_letter_dies_of_its_first_failure_where_it_had_too_many_before() {
    for first in [&[][..], &[quorum()]] {
        let mut c = Connection::first();
        c.declare("k0", &[first, &letters_to("k1")].concat());
        c.declare("k1", &[&letters_to("k2")[..], &[quorum(), ("x-delivery-limit", number(1))]].concat());
        c.declare("k2", &[]);
        c.put("k0", "letter", None, None);
        handle(&mut c, "k0", 'R');
        handle(&mut c, "k0", 'r');
        handle(&mut c, "k1", 'R');
        assert_eq!((c.ready("k1"), c.ready("k2")), (0, 1));
    }
}
