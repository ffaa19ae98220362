//! Queues that are declared again, and what their type says of names and consumers.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, name, string};
use leveret_amqp091::wire::Field;
use leveret_broker::{ConsumeSpec, QueueSpec};
use leveret_model::{Table, Value};

fn declare(c: &Connection, queue: &str, arguments: &[(&str, Value)]) -> Result<(), String> {
    let arguments: Table =
        arguments.iter().map(|(argument, value)| (name(argument), value.clone())).collect();
    let spec = QueueSpec { name: name(queue), durable: true, arguments, ..QueueSpec::default() };
    c.vhost.declare_queue(spec, c.id).map(drop).map_err(|refusal| refusal.to_string())
}

/// Declares a queue with all arguments, then with each of them left out and changed.
fn check(kind: &str, arguments: &[(&str, Value, Value)]) {
    let c = Connection::first();
    let with = |except: &str, value: Option<&Value>| -> Vec<(String, Value)> {
        let kind = (String::from("x-queue-type"), string(kind));
        let others = arguments.iter().filter(|(argument, ..)| *argument != except);
        let others = others.map(|(argument, value, _)| ((*argument).to_owned(), value.clone()));
        let changed = value.map(|value| (except.to_owned(), value.clone()));
        [kind].into_iter().chain(others).chain(changed).collect()
    };
    let again = |all: &[(String, Value)]| {
        let all: Vec<(&str, Value)> = all.iter().map(|(name, value)| (&**name, value.clone())).collect();
        declare(&c, "q", &all)
    };
    assert_eq!(again(&with("", None)), Ok(()));
    assert_eq!(again(&with("", None)), Ok(()));
    let show = |value: &Value| match value {
        Value::Integer(number) => (number.to_string(), "signedint"),
        other => (other.as_text().unwrap().to_owned(), "longstr"),
    };
    for (argument, value, other) in arguments {
        let base = format!("inequivalent arg '{argument}' for queue 'q' in vhost '/': received");
        let ((is, type_name), (new, _)) = (show(value), show(other));
        let missing = format!("{base} none but current is the value '{is}' of type '{type_name}'");
        assert_eq!(again(&with(argument, None)), Err(missing));
        let changed = format!("{base} '{new}' but current is '{is}'");
        assert_eq!(again(&with(argument, Some(other))), Err(changed));
    }
}

/// Asked of RabbitMQ 4.3.
#[test]
fn a_redeclaration_says_all_that_the_declaration_said() {
    let number = Value::Integer;
    check(
        "quorum",
        &[
            ("x-delayed-retry-type", string("all"), string("failed")),
            ("x-delayed-retry-min", number(5), number(6)),
            ("x-delayed-retry-max", number(9), number(10)),
            ("x-quorum-initial-group-size", number(1), number(2)),
            ("x-queue-leader-locator", string("balanced"), string("client-local")),
            ("x-consumer-disconnected-timeout", number(60_000), number(60_001)),
            ("x-max-in-memory-length", number(3), number(4)),
            ("x-max-in-memory-bytes", number(3), number(4)),
        ],
    );
    check(
        "classic",
        &[
            ("x-queue-leader-locator", string("balanced"), string("client-local")),
            ("x-queue-mode", string("lazy"), string("default")),
            ("x-queue-version", number(2), number(1)),
        ],
    );
}

#[test]
fn values_are_told_as_rabbitmq_tells_them() {
    let c = Connection::first();
    const ARGUMENT: &str = "x-dead-letter-exchange";
    assert_eq!(declare(&c, "q", &[(ARGUMENT, string("abc"))]), Ok(()));
    let binary = |bytes: &'static [u8]| Field::Bytes(bytes).to_value();
    assert_eq!(declare(&c, "q", &[(ARGUMENT, binary(b"abc"))]), Ok(()), "the same string");
    for (value, shown) in [
        (binary(b"ab\xff"), "abÿ"),
        (binary(b"abd"), "abd"),
        (Value::List(vec![string("a"), Value::Integer(1)]), "[{longstr,<<\"a\">>},{signedint,1}]"),
        (Value::Map(vec![(string("a"), Value::Integer(1))]), "[{<<\"a\">>,signedint,1}]"),
        (Value::Void, "undefined"),
        (Value::Boolean(true), "true"),
    ] {
        let said = format!(
            "inequivalent arg '{ARGUMENT}' for queue 'q' in vhost '/': received '{shown}' but current is 'abc'"
        );
        assert_eq!(declare(&c, "q", &[(ARGUMENT, value)]), Err(said));
    }
}

#[test]
fn an_empty_type_is_classic_and_no_name_is_made_for_a_quorum_queue() {
    let c = Connection::first();
    assert_eq!(declare(&c, "q", &[("x-queue-type", string(""))]), Ok(()));
    assert_eq!(c.vhost.queue(b"q").unwrap().kind().as_str(), "classic");
    assert_eq!(declare(&c, "q", &[("x-queue-type", string(""))]), Ok(()));
    let said = "Cannot declare a server-named queue for type rabbit_quorum_queue".to_owned();
    assert_eq!(declare(&c, "", &[("x-queue-type", string("quorum"))]), Err(said));
    assert_eq!(declare(&c, "", &[]), Ok(()));
}

#[test]
fn consumers_of_streams_are_refused() {
    let mut c = Connection::first();
    for kind in ["classic", "quorum"] {
        declare(&c, kind, &[("x-queue-type", string(kind))]).unwrap();
        for argument in ["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"] {
            let arguments = [(name(argument), string("first"))].into_iter().collect();
            let spec = ConsumeSpec { queue: name(kind), arguments, ..ConsumeSpec::default() };
            let said = c.client.consume(1, spec).unwrap_err().to_string();
            let base = format!("invalid arg '{argument}' for queue '{kind}' in vhost '/'");
            assert_eq!(said, format!("{base} of queue type rabbit_{kind}_queue"));
        }
    }
}

#[test]
fn a_quorum_queue_with_a_single_active_consumer_knows_no_exclusive_ones() {
    let mut c = Connection::first();
    let single = ("x-single-active-consumer", Value::Boolean(true));
    declare(&c, "q", &[("x-queue-type", string("quorum")), single]).unwrap();
    for (tag, exclusive) in [("a", false), ("b", true), ("c", false)] {
        let spec = ConsumeSpec { queue: name("q"), tag: name(tag), exclusive, ..ConsumeSpec::default() };
        assert_eq!(c.client.consume(1, spec), Ok(name(tag)));
    }
}

#[test]
fn of_what_a_quorum_queue_cannot_be_rabbitmqs_first_is_told() {
    let c = Connection::first();
    let arguments: Table = [(name("x-queue-type"), string("quorum"))].into_iter().collect();
    for (durable, exclusive, auto_delete, property) in [
        (false, true, true, "auto-delete"),
        (false, false, true, "auto-delete"),
        (false, true, false, "exclusive-owner"),
        (false, false, false, "non-durable"),
    ] {
        let (name, arguments) = (name("q"), arguments.clone());
        let spec = QueueSpec { name, durable, exclusive, auto_delete, arguments };
        let refused = c.vhost.declare_queue(spec, c.id).map(drop).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("invalid property '{property}' for queue 'q' in vhost '/'")),
            "{refused}"
        );
    }
}
