//! Each rule, and what leaves no trace.

use super::*;
use leveret_sdk::{
    key_value::Space,
    testkit::{Exchange, Routed, TestMessage},
};
use settings::CACHE_SIZE_DEFAULT;

fn sized(size: i64) -> Arguments {
    Arguments::new().with(CACHE_SIZE, size)
}

fn open(arguments: Arguments) -> Exchange<Deduplication> {
    Exchange::open(arguments).unwrap()
}

fn stage(arguments: Arguments) -> Exchange<Deduplication> {
    let in_front_of = Some("topic".into());
    Exchange::declare(Declaration { arguments, in_front_of, ..Declaration::default() }).unwrap()
}

fn message<'v>(value: impl Into<Value<'v>>) -> TestMessage {
    TestMessage::new("k").header(HEADER, value)
}

fn duplicate() -> Routed {
    Routed::drop("duplicate")
}

#[test]
fn the_second_of_a_value_is_dropped() {
    let mut exchange = open(sized(10));
    assert_eq!(exchange.route_message(&message("a")), Routed::Delegate);
    assert_eq!(exchange.route_message(&message("a")), duplicate());
    assert_eq!(exchange.route_message(&message("b")), Routed::Delegate);
    // Values of different classes differ; the widths of integers are one class.
    for value in [Value::Integer(1), Value::Text("1"), Value::Boolean(true), Value::Real(1.0)] {
        assert_eq!(exchange.route_message(&message(value)), Routed::Delegate, "{value:?}");
        assert_eq!(exchange.route_message(&message(value)), duplicate(), "{value:?}");
    }
    exchange.restart().unwrap();
    assert_eq!(exchange.route_message(&message("a")), duplicate());
}

#[test]
fn duplicates_may_go_where_messages_without_a_destination_go() {
    for mut exchange in
        [open(sized(10).with(DUPLICATES, "unroutable")), stage(sized(10).with(DUPLICATES, "unroutable"))]
    {
        assert_eq!(exchange.route_message(&message("a")), Routed::Delegate);
        assert_eq!(exchange.route_message(&message("a")), Routed::Deliver(vec![]));
    }
}

#[test]
fn without_a_value_nothing_is_compared() {
    let mut exchange = open(sized(10));
    for message in [TestMessage::new("k"), message(Value::Void)] {
        assert_eq!(exchange.route_message(&message), Routed::Delegate);
        assert_eq!(exchange.route_message(&message), Routed::Delegate);
    }
}

#[test]
fn a_value_ends_after_the_time_of_the_exchange_or_of_its_message() {
    let mut exchange = open(sized(10).with(CACHE_TTL, "1000"));
    let short = message("short").header(CACHE_TTL, 10);
    let odd = message("odd").header(CACHE_TTL, "soon");
    for message in [&message("a"), &short, &odd] {
        assert_eq!(exchange.route_message(message), Routed::Delegate);
    }
    exchange.host().advance(Duration::from_millis(10));
    assert_eq!(exchange.route_message(&short), Routed::Delegate);
    // A duplicate does not make the time longer.
    exchange.host().advance(Duration::from_millis(989));
    assert_eq!(exchange.route_message(&message("a")), duplicate());
    assert_eq!(exchange.route_message(&odd), duplicate());
    exchange.host().advance(Duration::from_millis(1));
    assert_eq!(exchange.route_message(&message("a")), Routed::Delegate);
}

#[test]
fn the_oldest_value_makes_room() {
    let mut exchange = open(sized(2));
    for value in ["a", "b", "c"] {
        assert_eq!(exchange.route_message(&message(value)), Routed::Delegate);
    }
    assert_eq!(exchange.route_message(&message("b")), duplicate());
    assert_eq!(exchange.route_message(&message("c")), duplicate());
    assert_eq!(exchange.route_message(&message("a")), Routed::Delegate);
    assert_eq!(exchange.info(), Arguments::new().with("entries", 2).with("size", 2));
}

#[test]
fn what_is_not_accepted_leaves_no_trace_and_what_is_open_waits() {
    let mut exchange = open(sized(10));
    let (routed, fate) = exchange.route_undecided(&message("a"));
    assert_eq!(routed, Routed::Delegate);
    assert_eq!(exchange.route_message(&message("a")), Routed::InDoubt);
    assert_eq!(exchange.route_message(&message("b")), Routed::Delegate);
    fate.reject();
    let (routed, fate) = exchange.route_undecided(&message("a"));
    assert_eq!(routed, Routed::Delegate);
    fate.accept();
    assert_eq!(exchange.route_message(&message("a")), duplicate());
}

#[test]
fn without_any_room_a_message_is_rejected_and_none_dropped() {
    let mut exchange = open(sized(10));
    assert_eq!(exchange.route_message(&message("a")), Routed::Delegate);
    exchange.host().set_full(true);
    assert!(matches!(exchange.route_message(&message("b")), Routed::Reject(_)));
    exchange.host().set_full(false);
    assert_eq!(exchange.route_message(&message("b")), Routed::Delegate);
    let long = "v".repeat(1020);
    assert!(matches!(exchange.route_message(&message(&*long)), Routed::Reject(why) if why.contains("1,019")));
    assert_eq!(exchange.route_message(&message(&long[1..])), Routed::Delegate);
}

#[test]
fn disk_is_the_durable_space() {
    for (persistence, space) in [("memory", Space::Memory), ("disk", Space::Durable)] {
        let mut exchange = open(sized(10).with(CACHE_PERSISTENCE, persistence));
        exchange.route_message(&message(1));
        let mut key = Vec::new();
        Value::Integer(1).put_flat(&mut key);
        assert!(exchange.host().value(space, key).is_some(), "{persistence}");
    }
}

#[test]
fn as_a_type_it_is_a_fanout_unless_told_otherwise() {
    let inner = |arguments| open(arguments).inner().unwrap();
    assert_eq!(inner(sized(1)), InnerType::new("fanout"));
    let arguments = sized(1).with(INNER_TYPE, "x-any").with("x-its-own", 5).with(CACHE_TTL, 1);
    let others = Arguments::new().with("x-its-own", 5);
    assert_eq!(inner(arguments), InnerType::new("x-any").with_arguments(others));
}

#[test]
fn as_a_stage_it_needs_nothing_and_takes_another_header() {
    let mut exchange = stage(Arguments::new().with(HEADER, "message-id"));
    assert_eq!(exchange.inner(), None);
    let message = |id| TestMessage::new("k").header("message-id", id);
    assert_eq!(exchange.route_message(&message(1)), Routed::Delegate);
    assert_eq!(exchange.route_message(&message(1)), duplicate());
    assert_eq!(exchange.info(), Arguments::new().with("entries", 1).with("size", CACHE_SIZE_DEFAULT));
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let refused = |arguments| Exchange::<Deduplication>::open(arguments).err().unwrap().to_string();
    assert_eq!(refused(Arguments::new()), "argument 'x-cache-size' is missing");
    let must = "must be an integer greater than 0";
    for value in [Value::Integer(0), Value::Integer(-1), Value::Text("many"), Value::Boolean(true)] {
        let arguments = Arguments::new().with(CACHE_SIZE, value);
        assert_eq!(refused(arguments), format!("argument 'x-cache-size' {must}"));
        assert_eq!(refused(sized(1).with(CACHE_TTL, value)), format!("argument 'x-cache-ttl' {must}"));
    }
    let persistence = refused(sized(1).with(CACHE_PERSISTENCE, "tape"));
    assert_eq!(persistence, "argument 'x-cache-persistence' must be memory or disk");
    let duplicates = refused(sized(1).with(DUPLICATES, "keep"));
    assert_eq!(duplicates, "argument 'x-duplicates' must be drop or unroutable");
    assert!(refused(sized(1).with(HEADER, CACHE_TTL)).contains("x-deduplication-header"));
}
