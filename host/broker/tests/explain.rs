//! What is told of a message is what a publish of it then does; and being told changes nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{At, Attached, Connection, Gate, delayed, exchange, message, name, with_alternate};
use leveret_broker::{
    BindTo, ExchangeSpec, Explanation, Published, explain::SaidInterceptor, port::Intercepted,
};
use leveret_model::{Change, MessageView, Refusal};
use std::sync::Arc;

const Q: BindTo<'static> = BindTo::Queue(b"q");

fn explain(c: &mut Connection, message: MessageView<'_>, mandatory: bool) -> Explanation {
    let vhost = c.vhost.clone();
    vhost.explain(&mut c.router, &message, mandatory)
}

fn names(told: &Explanation) -> Vec<String> {
    told.queues.iter().map(|queue| queue.to_text()).collect()
}

fn walked(told: &Explanation) -> Vec<String> {
    told.steps.iter().map(|step| step.exchange.to_text()).collect()
}

#[test]
fn a_walk_through_exchanges_and_alternates_is_told_in_order() {
    let mut c = Connection::first();
    ["q", "r"].iter().for_each(|queue| c.queue(queue));
    c.exchange(with_alternate("a", "direct", "b"));
    c.exchange(exchange("b", "fanout"));
    c.exchange(exchange("c", "fanout"));
    c.bind("b", BindTo::Exchange(b"c"), "");
    c.bind("b", Q, "");
    c.bind("c", BindTo::Queue(b"r"), "");
    let told = explain(&mut c, message("a", "k", b""), false);
    assert_eq!(walked(&told), ["a", "b", "c"]);
    assert_eq!(told.steps[0].alternate, Some(name("b")));
    assert_eq!(told.steps[1].alternate, None);
    assert_eq!(names(&told), ["q", "r"]);
    assert_eq!(told.outcome, Some(Published::Routed));
    assert_eq!((c.ready("q"), c.ready("r")), (0, 0), "nothing went anywhere");
    assert_eq!(c.publish("a", "k", "1"), Published::Routed);
    assert_eq!((c.ready("q"), c.ready("r")), (1, 1));
}

#[test]
fn every_outcome_is_that_of_a_publish() {
    let mut c = Connection::first();
    c.queue("q");
    for type_name in ["drop", "reject", "trap", "park"] {
        c.exchange(exchange(type_name, type_name));
    }
    c.exchange(ExchangeSpec { internal: true, ..exchange("internal", "fanout") });
    c.exchange(with_alternate("nowhere", "direct", "missing"));
    let long = "k".repeat(300);
    let cases = [
        ("", "q"),
        ("", "none"),
        ("missing", "k"),
        ("internal", "k"),
        ("drop", "k"),
        ("reject", "k"),
        ("trap", "k"),
        ("park", "k"),
        ("nowhere", "k"),
        ("drop", long.as_str()),
    ];
    for (exchange, key) in cases {
        let told = explain(&mut c, message(exchange, key, b""), false).outcome;
        assert_eq!(told, Some(c.publish(exchange, key, "")), "{exchange} {key}");
    }
    assert_eq!(c.drain("q").len(), 1, "by the publish alone");
    let rejected = |exchange: &[u8]| c.vhost.exchange(exchange).unwrap().rejected_count();
    assert_eq!((rejected(b"reject"), rejected(b"drop")), (1, 0), "by the publish alone");
}

#[test]
fn what_types_did_while_they_were_asked_is_undone() {
    let mut c = Connection::first();
    c.queue("q");
    c.exchange(exchange("x", "dedup+direct"));
    c.bind("x", Q, "k");
    for _ in 0..3 {
        assert_eq!(explain(&mut c, message("x", "k", b"1"), false).outcome, Some(Published::Routed));
    }
    assert_eq!(c.publish("x", "k", "1"), Published::Routed);
    assert_eq!(c.publish("x", "k", "1"), Published::Dropped);
    let told = explain(&mut c, message("x", "k", b"1"), false);
    assert_eq!(told.outcome, Some(Published::Dropped));
    assert!(told.queues.is_empty());
}

#[test]
fn a_hold_is_told_with_where_the_message_goes_on() {
    let mut c = Connection::first();
    c.queue("q");
    c.exchange(exchange("x", "hold+direct"));
    c.bind("x", Q, "k");
    let told = explain(&mut c, delayed("x", "k", "50", ""), false);
    assert_eq!(told.holds, [(name("x"), 50)]);
    assert_eq!((told.outcome, told.due_queues), (Some(Published::Routed), vec![name("q")]));
    let told = explain(&mut c, delayed("x", "other", "50", ""), false);
    assert_eq!((told.outcome, told.due_queues.len()), (Some(Published::Routed), 0), "held to go nowhere");
    let told = explain(&mut c, delayed("x", "k", "50", ""), true);
    assert_eq!(told.outcome, Some(Published::Routed));
    assert_eq!(told.steps.iter().map(|step| step.when_due).collect::<Vec<_>>(), [false, true]);
    let told = explain(&mut c, delayed("x", "other", "50", ""), true);
    assert_eq!(told.outcome, Some(Published::Unroutable));
    assert!(told.holds.is_empty());
    assert_eq!(c.vhost.hold_count(b"x"), 0);
}

#[test]
fn a_type_that_answers_later_is_told_as_that_and_one_that_is_parked_with_why() {
    let mut c = Connection::first();
    c.exchange(exchange("x", "direct"));
    c.router.gate("x", Some(Gate::Pending));
    assert_eq!(explain(&mut c, message("x", "k", b""), false).outcome, None);
    c.router.gate("x", Some(Gate::Park));
    let outcome = explain(&mut c, message("x", "k", b""), false).outcome;
    assert!(matches!(outcome, Some(Published::Refused(Refusal::Parked { .. }))), "{outcome:?}");
}

/// Does what the body says.
fn obey(message: &MessageView<'_>) -> Intercepted {
    match message.body {
        b"drop" => Intercepted::Drop,
        b"reject" => Intercepted::Reject(Arc::from("asked to")),
        b"move" => Intercepted::Patch([Change::SetRoutingKey(name("moved"))].into_iter().collect()),
        _ => Intercepted::Continue,
    }
}

#[test]
fn what_interceptors_say_and_make_of_a_message_is_told() {
    let attached = [At::Publish("x"), At::Publish("x"), At::Publish("")].map(|at| Attached::new(at, obey));
    let fates = attached[0].fates.clone();
    let mut c = Connection::past(attached.to_vec());
    c.queue("q");
    c.queue("moved");
    c.exchange(exchange("x", "direct"));
    c.bind("x", Q, "k");
    c.bind("x", BindTo::Queue(b"moved"), "moved");
    let said = |told: &Explanation| {
        let verdicts = told.intercepted.iter().map(|asked| format!("{:?}", asked.said));
        verdicts.map(|said| said.split('(').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (exchange, body, verdicts, queues) in [
        ("x", "as it is", &["Pass", "Pass"][..], &["q"][..]),
        ("x", "move", &["Patch", "Patch"], &["moved"]),
        ("x", "drop", &["Drop"], &[]),
        ("x", "reject", &["Reject"], &[]),
        ("", "move", &["Patch"], &["moved"]),
        ("amq.fanout", "drop", &[], &[]),
        ("missing", "drop", &[], &[]),
    ] {
        let message = message(exchange, "k", body.as_bytes());
        let told = explain(&mut c, message, false);
        assert_eq!(
            (said(&told), names(&told)),
            (
                verdicts.iter().map(|v| v.to_string()).collect(),
                queues.iter().map(|q| q.to_string()).collect()
            ),
            "{exchange} {body}"
        );
        let key = told.went_on_as.as_ref().map(|message| message.routing_key.clone());
        assert_eq!(key, (body == "move").then(|| name("moved")));
        assert_eq!(told.outcome, c.publish_all(&[message]).pop(), "{exchange} {body}");
        fates.lock().unwrap().clear();
    }
    let _ = explain(&mut c, message("x", "k", b"as it is"), false);
    assert!(fates.lock().unwrap().is_empty(), "nothing of it took place");
}

#[test]
fn an_interceptor_that_cannot_be_asked_is_told_with_what_follows() {
    for (broken, pending) in [(true, false), (false, true)] {
        let mut c =
            Connection::past(vec![Attached { broken, pending, ..Attached::new(At::Publish("x"), obey) }]);
        c.queue("q");
        c.exchange(with_alternate("x", "fanout", "amq.fanout"));
        c.bind("x", Q, "");
        let told = explain(&mut c, message("x", "k", b"1"), false);
        let [asked] = told.intercepted.as_slice() else { panic!("{told:?}") };
        if broken {
            assert!(matches!(asked.said, SaidInterceptor::Unroutable));
            assert_eq!(
                (walked(&told), told.outcome),
                (vec!["amq.fanout".into()], Some(Published::Unroutable))
            );
        } else {
            assert!(matches!(asked.said, SaidInterceptor::Later) && told.outcome.is_none());
        }
    }
}
