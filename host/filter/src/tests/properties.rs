//! "AMQP Filter Expressions Version 1.0", sections 4.1.1, 4.2.4 and 4.2.5.

use super::{Fake, bytes, order, text};
use crate::{FIELDS_MAX, Filter, Property, PropertyError, PropertyFilter, Value};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

fn of_properties(fields: &[(&'static str, Option<Value<'static>>)]) -> Result<PropertyFilter, PropertyError> {
    PropertyFilter::of_properties(fields.iter().cloned())
}

fn of_application(
    fields: &[(&'static str, Option<Value<'static>>)],
) -> Result<PropertyFilter, PropertyError> {
    PropertyFilter::of_application_properties(fields.iter().cloned())
}

#[test]
fn properties_equal_their_references() {
    let order = order();
    for (name, value, expected) in [
        ("subject", Some(text("created")), true),
        ("subject", Some(text("Created")), false),
        ("subject", Some(text("&p:cre")), true),
        ("subject", Some(text("&p:rea")), false),
        ("subject", Some(text("&s:ted")), true),
        ("subject", Some(text("&s:cre")), false),
        ("subject", Some(text("&p:")), true),
        ("subject", Some(text("&s:a very long subject, created")), false),
        ("message-id", Some(text("order-17")), true),
        ("message-id", Some(text("&p:order-")), true),
        ("message-id", Some(Value::Integer(17)), false),
        ("correlation-id", Some(Value::Uuid([0xab; 16])), true),
        ("correlation-id", Some(text("&p:")), false),
        ("user-id", Some(bytes(b"guest")), true),
        ("user-id", Some(bytes(b"guesT")), false),
        ("content-type", Some(text("application/json")), true),
        ("creation-time", Some(Value::Integer(1_795_976_940_000)), true),
        ("group-sequence", Some(Value::Integer(3)), true),
        ("group-sequence", Some(Value::Integer(4)), false),
        ("to", Some(text("&p:")), false),
        // A reference that is null matches always.
        ("subject", None, true),
        ("to", None, true),
    ] {
        let filter = of_properties(&[(name, value.clone())]);
        assert_eq!(filter.map(|filter| filter.matches(&order)), Ok(expected), "{name} {value:?}");
    }
}

#[test]
fn application_properties_equal_their_references() {
    let order = order();
    for (name, value, expected) in [
        ("country", Some(text("UK")), true),
        ("country", Some(text("&p:U")), true),
        ("country", Some(text("&s:K")), true),
        ("weight", Some(Value::Integer(5)), true),
        ("weight", Some(Value::Real(5.0)), true),
        ("weight", Some(Value::Real(5.5)), false),
        ("weight", Some(text("5")), false),
        ("weight", Some(text("&p:")), false),
        ("price", Some(Value::Real(10.5)), true),
        ("big", Some(Value::Real(9_007_199_254_740_992.0)), false),
        ("paid", Some(Value::Boolean(true)), true),
        ("gift", Some(Value::Boolean(true)), false),
        ("data", Some(bytes(b"\xde\xad")), true),
        ("absent", Some(Value::Boolean(false)), false),
        // A reference that is null matches whatever is there.
        ("country", None, true),
        ("absent", None, false),
    ] {
        let filter = of_application(&[(name, value.clone())]);
        assert_eq!(filter.map(|filter| filter.matches(&order)), Ok(expected), "{name} {value:?}");
    }
}

#[test]
fn an_ampersand_is_written_twice() {
    let message = Fake::default().property(Property::Subject, text("&p:x")).app("k", text("&&"));
    for (reference, expected) in [("&&p:x", true), ("&p:&p:", true), ("&s:x", true), ("&p:x", false)] {
        let filter = of_properties(&[("subject", Some(text(reference)))]);
        assert_eq!(filter.map(|filter| filter.matches(&message)), Ok(expected), "{reference}");
    }
    let filter = of_application(&[("k", Some(text("&&&")))]);
    assert_eq!(filter.map(|filter| filter.matches(&message)), Ok(true));
}

#[test]
fn all_fields_and_all_filters_must_match() {
    let order = order();
    let both =
        of_properties(&[("subject", Some(text("created"))), ("group-sequence", Some(Value::Integer(9)))]);
    assert_eq!(both.map(|filter| filter.matches(&order)), Ok(false));
    let mut filter = Filter::new();
    assert!(filter.is_empty() && filter.matches(&order, 0));
    for (value, expected) in [(5, true), (6, false)] {
        let part = of_application(&[("weight", Some(Value::Integer(value)))]);
        filter.add(part.unwrap_or_else(|error| panic!("{error}")));
        assert!(!filter.is_empty());
        assert_eq!(filter.matches(&order, 0), expected);
    }
}

#[test]
fn what_can_match_nothing_is_refused() {
    let names: Vec<String> = (0..=FIELDS_MAX).map(|number| format!("k{number}")).collect();
    let fields = |count: usize| names.iter().take(count).map(|name| (name.as_str(), None));
    assert!(PropertyFilter::of_application_properties(fields(FIELDS_MAX)).is_ok());
    for (filter, expected) in [
        (
            PropertyFilter::of_application_properties(fields(FIELDS_MAX + 1)),
            "a property filter has at most 16 fields",
        ),
        (of_properties(&[]), "a property filter has at least one field"),
        (of_properties(&[("colour", None)]), "messages have no property 'colour'"),
        (of_properties(&[("subject", Some(Value::Integer(1)))]), "subject is compared with a string"),
        (of_properties(&[("user-id", Some(Value::Boolean(true)))]), "user-id is compared with a binary"),
        (
            of_properties(&[("creation-time", Some(text("now")))]),
            "creation-time is compared with a timestamp",
        ),
        (
            of_properties(&[("group-sequence", Some(Value::Real(1.0)))]),
            "group-sequence is compared with a uint",
        ),
        (
            of_properties(&[("message-id", Some(Value::Boolean(true)))]),
            "message-id is compared with a string, a binary, a uuid or a ulong",
        ),
        (of_application(&[("k", Some(Value::Opaque))]), "'k' is compared with a simple value"),
        (
            of_application(&[("k", Some(text("&x:y")))]),
            "expected '&p:', '&s:' or '&&' at the beginning of '&x:y'",
        ),
        (of_properties(&[("to", Some(text("&")))]), "expected '&p:', '&s:' or '&&' at the beginning of '&'"),
    ] {
        assert_eq!(filter.err().map(|error| error.to_string()).as_deref(), Some(expected));
    }
}
