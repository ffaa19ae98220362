//! What interceptors on dead-letter do besides: it takes place once the letter is where it should be,
//! or is undone.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{At, Attached, Connection, Gate, exchange, name, with_dead_letters};
use leveret_broker::{
    BACK_OFF_MS_FIRST, BindTo, DeadLetterCounts, Settle,
    port::{Fate, Intercepted},
};
use leveret_model::{Change, MessageView};
use std::sync::{Arc, Mutex};

const NOW_MS: u64 = 1_700_000_000_000;

type Fates = Arc<Mutex<Vec<(String, Fate)>>>;

/// Does what the body says.
fn obey(message: &MessageView<'_>) -> Intercepted {
    match message.body {
        b"drop" => Intercepted::Drop,
        b"reject" => Intercepted::Reject(Arc::from("asked to")),
        b"astray" => Intercepted::Patch([Change::SetRoutingKey(name("nowhere"))].into_iter().collect()),
        _ => Intercepted::Continue,
    }
}

/// A queue `work` whose dead letters go through the exchange `dlx` to the queue `dead`, past this one.
fn past(attached: Attached) -> (Connection, Fates) {
    let fates = attached.fates.clone();
    let mut connection = Connection::past(vec![attached]);
    connection.exchange(exchange("dlx", "direct"));
    connection.queue("dead");
    connection.bind("dlx", BindTo::Queue(b"dead"), "work");
    connection.vhost.declare_queue(with_dead_letters("work", "dlx", None), connection.id).unwrap();
    (connection, fates)
}

fn die(connection: &mut Connection, bodies: &[&str]) {
    for body in bodies {
        connection.publish("", "work", body);
        let (tag, ..) = connection.get("work").unwrap();
        connection.client.settle(1, tag, false, Settle::Rejected).unwrap();
    }
}

fn send(connection: &mut Connection, now_ms: u64) {
    connection.router.memory.lock().unwrap().now_ms = now_ms;
    connection.client.dead_letter(&mut connection.router);
}

fn take(fates: &Fates) -> Vec<(String, Fate)> {
    std::mem::take(&mut *fates.lock().unwrap())
}

fn counts(connection: &Connection) -> DeadLetterCounts {
    connection.vhost.queue(b"work").unwrap().dead_lettering().unwrap().counts()
}

fn fate(body: &str, fate: Fate) -> (String, Fate) {
    (String::from(body), fate)
}

#[test]
fn effects_follow_the_fate_of_each_letter() {
    let (mut connection, fates) = past(Attached::new(At::DeadLetter("work"), obey));
    die(&mut connection, &["one", "drop", "reject", "astray", "two"]);
    assert_eq!(take(&fates), [], "nothing takes place before the letters are sent on");
    send(&mut connection, NOW_MS);
    let expected = [
        fate("one", Fate::Routed),
        fate("drop", Fate::Dropped),
        fate("astray", Fate::Unroutable),
        fate("two", Fate::Routed),
    ];
    assert_eq!(take(&fates), expected);
    let expected =
        DeadLetterCounts { routed: 2, dropped: 1, unroutable: 1, refused: 1, ..Default::default() };
    assert_eq!(counts(&connection), expected);
    assert_eq!(connection.drain("dead").len(), 2);
}

#[test]
fn what_the_exchange_does_not_take_leaves_nothing_until_it_does() {
    let (mut connection, fates) = past(Attached::new(At::DeadLetter("work"), obey));
    for gate in [Gate::Reject, Gate::Trap, Gate::Park] {
        connection.router.gate("dlx", Some(gate));
        die(&mut connection, &["one"]);
        send(&mut connection, NOW_MS);
        assert_eq!(take(&fates), [], "{gate:?}");
        connection.router.gate("dlx", None);
        send(&mut connection, NOW_MS + BACK_OFF_MS_FIRST);
        assert_eq!(take(&fates), [fate("one", Fate::Routed)], "{gate:?}");
    }
    assert_eq!(connection.drain("dead").len(), 3);
}

#[test]
fn an_interceptor_that_answers_for_some_is_asked_about_the_rest_once_those_are_settled() {
    let attached = Attached { cut_after: Some(2), ..Attached::new(At::DeadLetter("work"), obey) };
    let (mut connection, fates) = past(attached);
    die(&mut connection, &["1", "2", "3", "4", "5"]);
    send(&mut connection, NOW_MS);
    let bodies = ["1", "2", "3", "4", "5"];
    assert_eq!(take(&fates), bodies.map(|body| fate(body, Fate::Routed)));
    assert_eq!(connection.drain("dead").len(), 5);
}

#[test]
fn while_an_interceptor_answers_later_letters_stay_in_their_queue() {
    let (mut connection, fates) =
        past(Attached { pending: true, ..Attached::new(At::DeadLetter("work"), obey) });
    die(&mut connection, &["1", "2"]);
    send(&mut connection, NOW_MS);
    assert!(!connection.client.has_dead_letters(), "they wait for the answer");
    assert_eq!((connection.client.dead_letters_waiting(), counts(&connection)), (2, Default::default()));
    connection.router.attached[0].pending = false;
    send(&mut connection, NOW_MS);
    assert_eq!(take(&fates), ["1", "2"].map(|body| fate(body, Fate::Routed)));
    assert_eq!(connection.drain("dead").len(), 2);
    assert_eq!(connection.vhost.memory().bytes(), 0);
}
