//! Exchanges, bindings and the routing walk, by the rules of AMQP 0-9-1 as RabbitMQ keeps them.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, exchange, message, name, queue, with_alternate};
use leveret_broker::{BindTo, ExchangeSpec, Publish, Published, QueueSpec, port::Wake};
use leveret_model::{Refusal, Table, Value};
use std::sync::Arc;

const Q: BindTo<'static> = BindTo::Queue(b"q");

fn set<'a>(names: &[&'a str]) -> std::collections::HashSet<&'a str> {
    names.iter().copied().collect()
}

#[test]
fn the_same_binding_twice_is_one() {
    let mut c = Connection::first();
    c.queue("q");
    c.bind("amq.direct", Q, "k");
    c.bind("amq.direct", Q, "k");
    assert_eq!(c.vhost.exchange(b"amq.direct").unwrap().binding_count(), 1);
    assert_eq!(c.publish("amq.direct", "k", "1"), Published::Routed);
    assert_eq!(c.drain("q").len(), 1);
}

#[test]
fn bindings_that_differ_in_arguments_give_one_copy_and_end_apart() {
    let mut c = Connection::first();
    c.queue("q");
    for i in [1, 2] {
        let arguments = [(name("n"), Value::Integer(i))].into_iter().collect();
        c.vhost.bind(&mut c.router, b"amq.direct", Q, b"k", arguments, c.id).unwrap();
    }
    assert_eq!(c.vhost.exchange(b"amq.direct").unwrap().binding_count(), 2);
    c.publish("amq.direct", "k", "1");
    assert_eq!(c.drain("q").len(), 1);
    let first = [(name("n"), Value::Integer(1))].into_iter().collect();
    c.vhost.unbind(&mut c.router, b"amq.direct", Q, b"k", first, c.id).unwrap();
    c.publish("amq.direct", "k", "2");
    assert_eq!(c.drain("q").len(), 1);
}

#[test]
fn the_default_exchange_goes_by_queue_name_and_admits_nothing_else() {
    let mut c = Connection::first();
    c.queue("q");
    assert_eq!(c.publish("", "q", "1"), Published::Routed);
    assert_eq!(c.drain("q"), [(String::new(), String::from("q"), String::from("1"))]);
    assert_eq!(c.publish("", "nobody", "1"), Published::Unroutable);
    fn protected<T>() -> Result<T, Refusal> {
        Err(Refusal::Protected { exchange: name(""), vhost: name("/") })
    }
    assert_eq!(c.vhost.bind(&mut c.router, b"", Q, b"k", Table::new(), c.id), protected());
    assert_eq!(c.vhost.unbind(&mut c.router, b"", Q, b"k", Table::new(), c.id), protected());
    let to = BindTo::Exchange(b"");
    assert_eq!(c.vhost.bind(&mut c.router, b"amq.direct", to, b"k", Table::new(), c.id), protected());
    assert_eq!(c.vhost.declare_exchange(&mut c.router, exchange("", "direct")), protected());
    assert_eq!(c.vhost.check_exchange(b""), protected());
    assert_eq!(c.vhost.delete_exchange(&mut c.router, b"", false), protected());
}

#[test]
fn unbinding_what_is_not_there_is_fine() {
    let mut c = Connection::first();
    c.queue("q");
    c.unbind("amq.direct", Q, "k");
    c.unbind("nowhere", Q, "k");
    c.unbind("amq.direct", BindTo::Queue(b"nobody"), "k");
}

#[test]
fn binding_to_or_from_what_is_not_there_is_not_found() {
    let mut c = Connection::first();
    c.queue("q");
    let bind = |c: &mut Connection, source: &[u8], to| {
        c.vhost.bind(&mut c.router, source, to, b"k", Table::new(), c.id).unwrap_err().to_string()
    };
    assert_eq!(bind(&mut c, b"nowhere", Q), "no exchange 'nowhere' in vhost '/'");
    assert_eq!(bind(&mut c, b"amq.direct", BindTo::Queue(b"nobody")), "no queue 'nobody' in vhost '/'");
    assert_eq!(bind(&mut c, b"amq.direct", BindTo::Exchange(b"no")), "no exchange 'no' in vhost '/'");
}

#[test]
fn a_binding_that_the_type_refuses_is_not_made() {
    let mut c = Connection::first();
    c.queue("q");
    c.router.refuse_binding = true;
    let refused = c.vhost.bind(&mut c.router, b"amq.direct", Q, b"k", Table::new(), c.id);
    let text = String::from("no");
    assert_eq!(refused.err(), Some(Refusal::InvalidArgument { text }), "in the words of the type");
    assert_eq!(c.publish("amq.direct", "k", "1"), Published::Unroutable);
}

#[test]
fn exchange_to_exchange_gives_each_queue_one_copy_even_in_circles() {
    let mut c = Connection::first();
    for x in ["a", "b", "c"] {
        c.exchange(exchange(x, "fanout"));
    }
    for q in ["q", "r"] {
        c.queue(q);
    }
    c.bind("a", BindTo::Exchange(b"b"), "");
    c.bind("a", BindTo::Exchange(b"c"), "");
    c.bind("b", BindTo::Exchange(b"c"), "");
    c.bind("c", BindTo::Exchange(b"a"), "");
    c.bind("b", BindTo::Queue(b"q"), "");
    c.bind("c", BindTo::Queue(b"q"), "");
    c.bind("c", BindTo::Queue(b"r"), "");
    for x in ["a", "b", "c"] {
        assert_eq!(c.publish(x, "k", "1"), Published::Routed);
        assert_eq!(c.receivers(&["q", "r"]), set(&["q", "r"]), "from {x}");
    }
    // The destination of a binding is deleted: the binding vanishes from its sources.
    c.vhost.delete_exchange(&mut c.router, b"c", false).unwrap();
    assert_eq!(c.vhost.exchange(b"a").unwrap().binding_count(), 1);
    assert_eq!(c.publish("a", "k", "1"), Published::Routed);
    assert_eq!(c.receivers(&["q", "r"]), set(&["q"]));
    assert_eq!(c.router.closed, [name("c")]);
}

#[test]
fn deleting_the_source_leaves_the_queue() {
    let mut c = Connection::first();
    c.exchange(exchange("x", "direct"));
    c.queue("q");
    c.bind("x", Q, "k");
    let in_use = c.vhost.delete_exchange(&mut c.router, b"x", true).unwrap_err();
    assert_eq!(in_use.to_string(), "exchange 'x' in vhost '/' in use");
    c.vhost.delete_exchange(&mut c.router, b"x", false).unwrap();
    c.vhost.delete_exchange(&mut c.router, b"x", false).unwrap();
    assert!(c.vhost.queue(b"q").is_some());
    assert!(matches!(c.publish("x", "k", "1"), Published::Refused(Refusal::NotFound { .. })));
    // A new exchange of that name begins without bindings.
    c.exchange(exchange("x", "direct"));
    assert_eq!(c.publish("x", "k", "1"), Published::Unroutable);
}

#[test]
fn deleting_a_queue_removes_its_bindings_and_auto_delete_exchanges_up_the_line() {
    let mut c = Connection::first();
    for x in ["first", "second"] {
        c.exchange(ExchangeSpec { auto_delete: true, ..exchange(x, "fanout") });
    }
    c.queue("q");
    c.bind("first", BindTo::Exchange(b"second"), "");
    c.bind("second", Q, "");
    c.bind("amq.direct", Q, "k");
    assert_eq!(c.publish("first", "", "1"), Published::Routed);
    assert_eq!(c.vhost.delete_queue(&mut c.router, b"q", false, false, c.id), Ok(1));
    assert_eq!(c.vhost.delete_queue(&mut c.router, b"q", false, false, c.id), Ok(0));
    assert_eq!(c.vhost.exchange(b"amq.direct").unwrap().binding_count(), 0);
    assert!(c.vhost.exchange(b"first").is_none() && c.vhost.exchange(b"second").is_none());
    assert_eq!(c.router.closed.len(), 2);
}

#[test]
fn an_auto_delete_exchange_stays_until_its_last_binding_goes() {
    let mut c = Connection::first();
    c.exchange(ExchangeSpec { auto_delete: true, ..exchange("x", "direct") });
    c.queue("q");
    c.unbind("x", Q, "never");
    assert!(c.vhost.exchange(b"x").is_some(), "never bound");
    c.bind("x", Q, "a");
    c.bind("x", Q, "b");
    c.unbind("x", Q, "a");
    assert!(c.vhost.exchange(b"x").is_some());
    c.unbind("x", Q, "b");
    assert!(c.vhost.exchange(b"x").is_none());
}

#[test]
fn the_alternate_exchange_takes_what_is_unroutable_with_its_first_name() {
    let mut c = Connection::first();
    c.exchange(with_alternate("x", "direct", "y"));
    c.exchange(with_alternate("y", "direct", "z"));
    c.exchange(exchange("z", "fanout"));
    c.queue("q");
    c.queue("r");
    assert_eq!(c.publish("x", "k", "1"), Published::Unroutable, "a chain that ends nowhere");
    c.bind("z", Q, "");
    c.bind("x", BindTo::Queue(b"r"), "known");
    assert_eq!(c.publish("x", "k", "1"), Published::Routed);
    assert_eq!(c.drain("q"), [(String::from("x"), String::from("k"), String::from("1"))]);
    assert_eq!(c.publish("x", "known", "2"), Published::Routed);
    assert_eq!(c.receivers(&["q", "r"]), set(&["r"]));
}

#[test]
fn circles_of_alternate_exchanges_end_and_absent_ones_count_as_none() {
    let mut c = Connection::first();
    c.exchange(with_alternate("x", "direct", "y"));
    c.exchange(with_alternate("y", "direct", "x"));
    c.exchange(with_alternate("w", "direct", "absent"));
    c.exchange(with_alternate("d", "direct", ""));
    c.queue("q");
    assert_eq!(c.publish("x", "k", "1"), Published::Unroutable);
    assert_eq!(c.publish("w", "k", "1"), Published::Unroutable);
    assert_eq!(c.publish("d", "q", "1"), Published::Unroutable, "an empty name is none");
    let spec = ExchangeSpec {
        arguments: [(name("alternate-exchange"), Value::Integer(5))].into_iter().collect(),
        ..exchange("v", "direct")
    };
    assert_eq!(
        c.vhost.declare_exchange(&mut c.router, spec).unwrap_err().to_string(),
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'v' in vhost '/'"
    );
}

#[test]
fn an_internal_exchange_takes_from_exchanges_only() {
    let mut c = Connection::first();
    c.exchange(ExchangeSpec { internal: true, ..exchange("x", "fanout") });
    c.queue("q");
    c.bind("x", Q, "");
    let Published::Refused(refusal) = c.publish("x", "k", "1") else { panic!() };
    assert_eq!(refusal.to_string(), "cannot publish to internal exchange 'x' in vhost '/'");
    c.bind("amq.fanout", BindTo::Exchange(b"x"), "");
    assert_eq!(c.publish("amq.fanout", "k", "1"), Published::Routed);
    assert_eq!(c.drain("q").len(), 1);
}

#[test]
fn a_type_that_drops_rejects_or_fails_is_not_unroutable() {
    let mut c = Connection::first();
    c.queue("q");
    c.exchange(with_alternate("drop", "drop", "amq.fanout"));
    c.exchange(exchange("reject", "reject"));
    c.exchange(exchange("trap", "trap"));
    c.bind("amq.fanout", Q, "");
    assert_eq!(c.publish("drop", "k", "1"), Published::Dropped);
    assert_eq!(c.publish("reject", "k", "1"), Published::Rejected(Arc::from("not today")));
    assert!(matches!(c.publish("trap", "k", "1"), Published::Rejected(_)));
    assert_eq!(c.ready("q"), 0);
    // One branch that rejects: nothing is enqueued anywhere.
    c.bind("amq.fanout", BindTo::Exchange(b"reject"), "");
    assert!(matches!(c.publish("amq.fanout", "k", "1"), Published::Rejected(_)));
    assert_eq!(c.ready("q"), 0);
}

#[test]
fn after_a_refusal_nothing_more_of_that_channel_is_published() {
    let mut c = Connection::first();
    c.queue("q");
    c.exchange(exchange("park", "park"));
    let publish = |channel, exchange: &'static str| Publish {
        channel,
        message: message(exchange, "q", b"1"),
        mandatory: false,
        more_keys: None,
    };
    for bad in ["park", "absent", "amq.rabbitmq.trace"] {
        let batch =
            [publish(1, ""), publish(1, bad), publish(1, ""), publish(2, ""), publish(1, "amq.fanout")];
        let mut outcomes = Vec::new();
        let waker: Arc<dyn Wake> = c.bell.clone();
        assert_eq!(c.publisher.publish(&c.vhost, &mut c.router, &batch, &mut outcomes, &waker), 5);
        use Published::{Refused, Routed};
        assert!(
            matches!(&outcomes[..], [Routed, Refused(_), Refused(_), Routed, Refused(_)]),
            "{bad}: {outcomes:?}"
        );
        assert_eq!(c.drain("q").len(), 2);
    }
    // The next batch begins anew: the caller closed the channel.
    assert_eq!(c.publish("", "q", "1"), Published::Routed);
}

#[test]
fn a_pending_type_holds_the_rest_of_the_batch_and_nothing_before_it() {
    let mut c = Connection::first();
    c.queue("q");
    c.exchange(exchange("later", "later"));
    c.exchange(exchange("x", "fanout"));
    c.bind("x", Q, "");
    c.bind("x", BindTo::Exchange(b"later"), "");
    c.bind("later", Q, "");
    let messages = [message("", "q", b"1"), message("later", "", b"2"), message("", "q", b"3")];
    assert_eq!(c.publish_all(&messages), [Published::Routed]);
    // Also when the walk meets it only on the way.
    assert_eq!(c.publish_all(&[message("", "q", b"2"), message("x", "", b"3")]), [Published::Routed]);
    c.router.answer_now = true;
    assert_eq!(c.publish_all(&messages[1..]), [Published::Routed, Published::Routed]);
    let bodies: Vec<_> = c.drain("q").into_iter().map(|(_, _, body)| body).collect();
    assert_eq!(bodies, ["1", "2", "2", "3"]);
}

#[test]
fn one_call_routes_a_run_and_each_queue_keeps_its_order() {
    let mut c = Connection::first();
    for q in ["a", "b"] {
        c.queue(q);
        c.bind("amq.direct", BindTo::Queue(q.as_bytes()), q);
        c.bind("amq.direct", BindTo::Queue(q.as_bytes()), "both");
    }
    let bodies: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    let keys = ["a", "b", "both", "neither"];
    let messages: Vec<_> = bodies
        .iter()
        .enumerate()
        .map(|(i, body)| message("amq.direct", keys[i % 4], body.as_bytes()))
        .collect();
    let outcomes = c.publish_all(&messages);
    assert_eq!(c.router.route_calls, 1);
    for (i, outcome) in outcomes.iter().enumerate() {
        assert_eq!(*outcome, if i % 4 == 3 { Published::Unroutable } else { Published::Routed });
    }
    for (q, own) in [("a", 0), ("b", 1)] {
        let got: Vec<usize> = c.drain(q).iter().map(|(_, _, body)| body.parse().unwrap()).collect();
        let expected: Vec<usize> = (0..100).filter(|i| i % 4 == own || i % 4 == 2).collect();
        assert_eq!(got, expected);
    }
}

#[test]
fn a_deleted_queue_is_unroutable_from_the_next_publish_on() {
    let mut c = Connection::first();
    c.queue("q");
    c.bind("amq.direct", Q, "k");
    let mut other = Connection::to(&c.vhost);
    assert_eq!(c.publish("", "q", "1"), Published::Routed);
    assert_eq!(c.publish("amq.direct", "k", "1"), Published::Routed);
    other.vhost.delete_queue(&mut other.router, b"q", false, false, other.id).unwrap();
    assert_eq!(c.publish("", "q", "2"), Published::Unroutable);
    assert_eq!(c.publish("amq.direct", "k", "2"), Published::Unroutable);
    other.queue("q");
    assert_eq!(c.publish("", "q", "3"), Published::Routed);
    assert_eq!(c.publish("amq.direct", "k", "3"), Published::Unroutable);
}

#[test]
fn large_bodies_are_stored_once_for_all_queues() {
    let mut c = Connection::first();
    for q in ["a", "b", "c"] {
        c.queue(q);
        c.bind("amq.fanout", BindTo::Queue(q.as_bytes()), "");
    }
    let body = "x".repeat(1_000_000);
    assert_eq!(c.publish("amq.fanout", "", &body), Published::Routed);
    let charged = c.vhost.memory().bytes();
    assert!((1_000_000..1_001_000).contains(&charged), "{charged}");
    for q in ["a", "b", "c"] {
        assert!(c.drain(q)[0].2 == body);
    }
    assert_eq!(c.vhost.memory().bytes(), 0);
}

#[test]
fn a_fanout_to_many_queues_gives_each_its_copy_batch_after_batch() {
    const QUEUES: usize = 1500;
    let mut c = Connection::first();
    let names: Vec<String> = (0..QUEUES).map(|i| format!("q{i}")).collect();
    for q in &names {
        c.queue(q);
        c.bind("amq.fanout", BindTo::Queue(q.as_bytes()), "");
    }
    for _ in 0..3 {
        let outcomes = c.publish_all(&[message("amq.fanout", "", b"1"), message("amq.fanout", "", b"2")]);
        assert_eq!(outcomes, [Published::Routed, Published::Routed]);
    }
    assert!(names.iter().all(|q| c.ready(q) == 6));
}

#[test]
fn a_head_beyond_its_limit_is_refused() {
    let mut c = Connection::first();
    c.queue("q");
    let key = "k".repeat(256);
    assert!(matches!(c.publish("", &key, "1"), Published::Refused(Refusal::InvalidArgument { .. })));
    let properties = vec![0; leveret_broker::MESSAGE_HEAD_BYTES_MAX];
    let mut large = message("", "q", b"1");
    large.properties = &properties;
    assert!(matches!(c.publish_all(&[large])[..], [Published::Refused(Refusal::InvalidArgument { .. })]));
    let within = leveret_broker::MESSAGE_HEAD_BYTES_MAX - 1;
    large.properties = &properties[..within];
    assert_eq!(c.publish_all(&[large]), [Published::Routed]);
}

#[test]
fn an_exclusive_queue_is_bound_by_its_connection_only() {
    let mut c = Connection::first();
    let mut other = Connection::to(&c.vhost);
    c.vhost.declare_queue(QueueSpec { exclusive: true, ..queue("q") }, c.id).unwrap();
    let locked = other.vhost.bind(&mut other.router, b"amq.direct", Q, b"k", Table::new(), other.id);
    assert!(matches!(locked, Err(Refusal::Locked { .. })));
    let unbind = |other: &mut Connection| {
        other.vhost.unbind(&mut other.router, b"amq.direct", Q, b"k", Table::new(), other.id)
    };
    assert_eq!(unbind(&mut other), Ok(()), "what is not bound is unbound");
    assert_eq!(other.publish("", "q", "anybody may publish"), Published::Routed);
    c.bind("amq.direct", Q, "k");
    assert!(matches!(unbind(&mut other), Err(Refusal::Locked { .. })));
    c.client.close(&mut c.router);
    assert!(c.vhost.queue(b"q").is_none());
    assert_eq!(c.vhost.exchange(b"amq.direct").unwrap().binding_count(), 0);
}

#[test]
fn topic_patterns_have_two_wildcards_for_many_words_at_most() {
    let mut c = Connection::first();
    c.queue("q");
    let bind = |c: &mut Connection, source: &[u8], pattern: &str| {
        let bound = c.vhost.bind(&mut c.router, source, Q, pattern.as_bytes(), Table::new(), c.id);
        bound.map(drop).map_err(|refusal| refusal.to_string())
    };
    for pattern in ["#.a.#.b", "##.#.#", "#.a#.#.#b", "#"] {
        assert_eq!(bind(&mut c, b"amq.topic", pattern), Ok(()), "{pattern}");
    }
    for (pattern, count) in [("#.#.#.z", 3), ("#.#.#.#", 4)] {
        let said = format!("Topic binding key '{pattern}' uses {count} '#' wildcards, at most 2 are allowed");
        assert_eq!(bind(&mut c, b"amq.topic", pattern), Err(said));
        assert_eq!(bind(&mut c, b"amq.direct", pattern), Ok(()), "a key like any other");
    }
}
