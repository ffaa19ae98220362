//! The rules as a table, and the conditions against a matcher that is too simple to be wrong.

use super::*;
use leveret_sdk::{
    Arguments, Value,
    testkit::{Exchange, Routed, TestMessage},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Fields<'a> = &'a [(&'a str, Value<'a>)];

fn arguments(fields: Fields<'_>) -> Arguments {
    fields.iter().fold(Arguments::new(), |arguments, (name, value)| arguments.with(name, *value))
}

fn message(fields: Fields<'_>) -> TestMessage {
    fields.iter().fold(TestMessage::new("ignored"), |message, (name, value)| message.header(name, *value))
}

const ONE: Value<'_> = Value::Integer(1);
const TWO: Value<'_> = Value::Integer(2);

fn x_match(how: &str) -> (&str, Value<'_>) {
    ("x-match", Value::Text(how))
}

#[test]
fn each_row_of_the_rules() {
    let void = Value::Void;
    let rows: &[(Fields<'_>, Fields<'_>, bool)] = &[
        (&[], &[("a", ONE)], true),
        (&[], &[], true),
        (&[("a", ONE)], &[("a", ONE)], true),
        (&[("a", ONE)], &[], false),
        (&[x_match("all"), ("a", ONE)], &[("a", "1".into())], false),
        (&[("a", Value::Binary(b"1"))], &[("a", "1".into())], true),
        (&[("a", "1".into())], &[("a", Value::Binary(b"1"))], true),
        (&[("a", Value::Binary(b"1"))], &[("a", Value::Binary(b"1"))], true),
        (&[("a", Value::Binary(b"1"))], &[("a", Value::Binary(b"2"))], false),
        (&[x_match("all"), ("a", true.into())], &[("a", ONE)], false),
        (&[x_match("all"), ("a", ONE)], &[("a", 1.0.into())], false),
        (&[x_match("all"), ("a", ONE), ("b", TWO)], &[("a", ONE)], false),
        (&[x_match("all"), ("a", ONE), ("b", TWO)], &[("c", ONE), ("b", TWO), ("a", ONE)], true),
        (&[x_match("any"), ("a", ONE), ("b", TWO)], &[("a", ONE)], true),
        (&[x_match("any"), ("a", ONE), ("b", TWO)], &[("a", TWO), ("b", ONE)], false),
        (&[x_match("any")], &[("a", ONE)], false),
        (&[x_match("all")], &[("a", ONE)], true),
        (&[("a", void)], &[("a", 5.into())], true),
        (&[("a", void)], &[("a", void)], true),
        (&[("a", void)], &[("b", 5.into())], false),
        (&[("a", ONE)], &[("a", void)], false),
        (&[x_match("any"), ("a", void)], &[("a", 5.into())], true),
        (&[x_match("all"), ("x-foo", ONE)], &[("a", ONE)], true),
        (&[x_match("any"), ("x-foo", ONE)], &[("x-foo", ONE)], false),
        (&[x_match("all-with-x"), ("x-foo", ONE)], &[("x-foo", ONE)], true),
        (&[x_match("all-with-x"), ("x-foo", ONE)], &[("a", ONE)], false),
        (&[x_match("all-with-x"), ("x-foo", ONE), ("a", ONE)], &[("a", ONE)], false),
        (&[x_match("any-with-x"), ("x-foo", ONE)], &[("x-foo", ONE)], true),
        (&[x_match("any-with-x"), ("x-foo", ONE), ("a", ONE)], &[("a", ONE)], true),
        (&[x_match("any-with-x")], &[("x-match", "any-with-x".into())], false),
    ];
    for (binding, headers, routed) in rows {
        let mut exchange = Exchange::<Headers>::open(Arguments::new()).unwrap();
        let id = exchange.bind("key", arguments(binding)).unwrap();
        let expected = Routed::Deliver(routed.then_some(id).into_iter().collect());
        assert_eq!(exchange.route_message(&message(headers)), expected, "{binding:?} against {headers:?}");
    }
}

#[test]
fn another_x_match_is_refused_in_rabbitmqs_words() {
    let mut exchange = Exchange::<Headers>::open(Arguments::new()).unwrap();
    let mut refusal = |value: Value<'_>| {
        exchange.bind("", Arguments::new().with("x-match", value)).unwrap_err().to_string()
    };
    let expected = "; expected all, any, all-with-x, or any-with-x";
    assert_eq!(refusal("none".into()), format!("Invalid x-match field value <<\"none\">>{expected}"));
    assert_eq!(refusal("".into()), format!("Invalid x-match field value <<>>{expected}"));
    assert_eq!(refusal(Value::Binary(&[255, 0])), format!("Invalid x-match field value <<255,0>>{expected}"));
    assert_eq!(refusal(ONE), "Invalid x-match field type signedint (value 1); expected longstr");
    assert_eq!(refusal(true.into()), "Invalid x-match field type bool (value true); expected longstr");
    assert_eq!(refusal(Value::Void), "Invalid x-match field type void (value undefined); expected longstr");
}

#[test]
fn only_headers_that_bindings_name_are_read() {
    let mut exchange = Exchange::<Headers>::open(Arguments::new()).unwrap();
    let named = |names: &[&str]| Reads::nothing().only_headers(names.iter().copied());
    assert_eq!(*exchange.reads(), Reads::nothing());
    let first = exchange.bind("", arguments(&[("b", ONE), ("x-foo", ONE)])).unwrap();
    let second =
        exchange.bind("", arguments(&[x_match("any-with-x"), ("x-foo", ONE), ("b", Value::Void)])).unwrap();
    let third = exchange.bind("", arguments(&[("a", ONE)])).unwrap();
    assert_eq!(*exchange.reads(), named(&["a", "b", "x-foo"]));
    exchange.unbind(second);
    assert_eq!(*exchange.reads(), named(&["a", "b"]));
    exchange.unbind(first);
    assert_eq!(*exchange.reads(), named(&["a"]));
    exchange.unbind(third);
    assert_eq!(*exchange.reads(), Reads::nothing());
    assert_eq!(exchange.exchange().conditions.size(), [0; 5]);
}

/// Whether a binding is met, by the rules and nothing else.
fn is_met(binding: &Arguments, headers: &Arguments) -> bool {
    let how = match binding.get("x-match") {
        Some(Value::Text(how)) => how,
        _ => "all",
    };
    let mut wanted = binding.iter().filter(|a| match how {
        "all" | "any" => !a.name().starts_with(b"x-"),
        _ => a.name() != b"x-match",
    });
    let mut meets = |a: leveret_sdk::message::Field<'_>| match (a.value(), headers.get(a.name())) {
        (_, None) => false,
        (Some(Value::Void), Some(_)) => true,
        (Some(Value::Binary(wanted)), Some(Value::Text(there)))
        | (Some(Value::Text(there)), Some(Value::Binary(wanted))) => wanted == there.as_bytes(),
        (wanted, there) => wanted == there,
    };
    if how.starts_with("all") { wanted.all(&mut meets) } else { wanted.any(&mut meets) }
}

fn fields() -> impl Strategy<Value = Arguments> {
    let value = prop_oneof![
        Just(Value::Void),
        (0..3).prop_map(Value::from),
        Just(Value::Text("1")),
        Just(Value::Binary(b"1")),
        Just(Value::Text("a text that makes a long key")),
        Just(Value::Boolean(true))
    ];
    let name = prop::sample::select(vec!["a", "b", "c", "x-d", "x-e"]);
    prop::collection::vec((name, value), 0..5).prop_map(|fields| arguments(&fields))
}

fn binding_arguments() -> impl Strategy<Value = Arguments> {
    let how = prop::sample::select(vec!["", "all", "any", "all-with-x", "any-with-x"]);
    (how, fields()).prop_map(
        |(how, fields)| {
            if how.is_empty() { fields } else { fields.with("x-match", how) }
        },
    )
}

proptest! {
    /// Binds and unbinds in any order, then routes: the answer is that of the simple matcher.
    #[test]
    fn the_conditions_agree_with_the_rules(
        bindings in prop::collection::vec(binding_arguments(), 1..30),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        again in prop::collection::vec(binding_arguments(), 0..10),
        messages in prop::collection::vec(fields(), 1..10),
    ) {
        let mut exchange = Exchange::<Headers>::open(Arguments::new()).unwrap();
        let mut bound = BTreeMap::new();
        for binding in &bindings {
            bound.insert(exchange.bind("", binding.clone()).unwrap(), binding);
        }
        for index in removed {
            let id = BindingId(index.index(bindings.len()) as u64 + 1);
            exchange.unbind(id);
            bound.remove(&id);
        }
        for binding in &again {
            bound.insert(exchange.bind("", binding.clone()).unwrap(), binding);
        }
        for headers in &messages {
            let message = headers.iter().fold(TestMessage::new(""), |message, header| {
                message.header(header.name(), header.value().unwrap())
            });
            let Routed::Deliver(mut ids) = exchange.route_message(&message) else { panic!("not delivered") };
            ids.sort();
            let expected: Vec<_> =
                bound.iter().filter(|(_, binding)| is_met(binding, headers)).map(|(id, _)| *id).collect();
            prop_assert_eq!(ids, expected, "headers {:?}", headers);
            prop_assert!(exchange.marks_hold(&message), "headers {:?}", headers);
        }
        for id in bound.into_keys() {
            exchange.unbind(id);
        }
        prop_assert_eq!(exchange.exchange().conditions.size(), [0; 5]);
    }
}
