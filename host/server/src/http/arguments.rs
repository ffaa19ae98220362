//! Arguments of exchanges, queues and bindings as JSON, and as part of a binding's key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use leveret_model::{Name, Table, Value as Argument};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// All but letters, digits, `.`, `-`, `_` and the space, which becomes a plus: so `~` is free to
/// separate.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b' ');
/// How much of a digest of arguments goes into a binding's key, in bytes.
const DIGEST_BYTES: usize = 8;

/// A table as a JSON object.
pub(super) fn to_json(table: &Table) -> Map<String, Value> {
    table.iter().map(|(name, value)| (name.to_text(), value_to_json(value))).collect()
}

/// What JSON has no type for becomes the nearest: a timestamp its number, a decimal a number with a
/// fraction, bytes that are not UTF-8 text with replacement characters, a number that is none null.
pub(super) fn value_to_json(value: &Argument) -> Value {
    match value {
        Argument::Void => Value::Null,
        Argument::Boolean(boolean) => Value::from(*boolean),
        Argument::Integer(integer) | Argument::Timestamp(integer) => Value::from(*integer),
        Argument::Unsigned(integer) => Value::from(*integer),
        Argument::Real(real) => Value::from(*real),
        Argument::Decimal { scale, unscaled } => {
            Value::from(*unscaled as f64 / 10_f64.powi(i32::from(*scale)))
        }
        Argument::Text(text) => Value::from(text.as_str()),
        Argument::Binary(bytes) => Value::from(String::from_utf8_lossy(bytes)),
        Argument::List(values) => values.iter().map(value_to_json).collect(),
        Argument::Map(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key_text(key), value_to_json(value))).collect())
        }
    }
}

fn key_text(key: &Argument) -> String {
    match value_to_json(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A JSON object as a table.
///
/// # Errors
/// A name that is too long, for people to read.
pub(crate) fn from_json(object: &Map<String, Value>) -> Result<Table, String> {
    object.iter().map(|(name, value)| Ok((short(name)?, value_from_json(value)?))).collect()
}

fn value_from_json(value: &Value) -> Result<Argument, String> {
    Ok(match value {
        Value::Null => Argument::Void,
        Value::Bool(boolean) => Argument::Boolean(*boolean),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Argument::Integer(integer),
            (None, Some(integer)) => Argument::Unsigned(integer),
            (None, None) => Argument::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Argument::Text(text.clone()),
        Value::Array(values) => Argument::List(values.iter().map(value_from_json).collect::<Result<_, _>>()?),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                Ok::<_, String>((Argument::Text(name.clone()), value_from_json(value)?))
            };
            Argument::Map(fields.iter().map(field).collect::<Result<_, _>>()?)
        }
    })
}

fn short(name: &str) -> Result<Name, String> {
    Name::new(name.as_bytes()).map_err(|error| format!("the name '{name}': {error}"))
}

/// A name as part of a path, quoted as in keys of bindings.
pub(super) fn quoted(name: &str) -> String {
    utf8_percent_encode(name, QUOTED).to_string().replace(' ', "+")
}

/// A key of a binding as part of a path.
pub(super) fn quoted_key(properties_key: &str) -> String {
    quoted(properties_key).replace("%7E", "~")
}

/// What tells a binding from others between the same ends: the quoted routing key, `~` where that
/// is empty, and with arguments `~` and a digest of them.
pub(super) fn properties_key(routing_key: &Name, arguments: &Map<String, Value>) -> String {
    let mut key = quoted(&routing_key.to_text());
    if !arguments.is_empty() {
        // The map is ordered by name, so the order in which they came does not matter.
        let digest = Sha256::digest(Value::Object(arguments.clone()).to_string());
        key.push('~');
        key.push_str(&URL_SAFE_NO_PAD.encode(digest.get(..DIGEST_BYTES).unwrap_or(&digest)));
    } else if key.is_empty() {
        key.push('~');
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_of_argument_has_its_json() {
        let arguments = [
            ("void", Argument::Void, json!(null)),
            ("boolean", Argument::Boolean(true), json!(true)),
            ("integer", Argument::Integer(-7), json!(-7)),
            ("unsigned", Argument::Unsigned(u64::MAX), json!(u64::MAX)),
            ("real", Argument::Real(1.5), json!(1.5)),
            ("not-a-number", Argument::Real(f64::NAN), json!(null)),
            ("decimal", Argument::Decimal { scale: 2, unscaled: 125 }, json!(1.25)),
            ("text", Argument::Text("é".to_owned()), json!("é")),
            ("binary", Argument::Binary(vec![b'a', 0xff].into()), json!("a\u{fffd}")),
            ("timestamp", Argument::Timestamp(1), json!(1)),
            ("list", Argument::List(vec![Argument::Integer(1), Argument::Void]), json!([1, null])),
            (
                "map",
                Argument::Map(vec![(Argument::Text("k".to_owned()), Argument::Boolean(false))]),
                json!({"k": false}),
            ),
        ];
        for (name, argument, expected) in arguments {
            let table = [(Name::from_static(name), argument)].into_iter().collect();
            assert_eq!(Value::Object(to_json(&table)), json!({ name: expected }));
        }
    }

    #[test]
    fn what_json_can_say_comes_back_as_it_was() {
        let object =
            json!({"n": null, "b": true, "i": -7, "u": u64::MAX, "r": 1.5, "t": "é", "l": [1, {"k": []}]});
        let object = object.as_object().expect("an object");
        assert_eq!(to_json(&from_json(object).unwrap()), *object);
        let long = json!({ "x".repeat(256): 1 });
        assert!(from_json(long.as_object().expect("an object")).is_err());
    }

    #[test]
    fn keys_of_bindings_without_arguments_are_rabbitmqs() {
        let key = |routing_key: &'static str| properties_key(&Name::from_static(routing_key), &Map::new());
        assert_eq!(key(""), "~");
        assert_eq!(key("plain.#"), "plain.%23");
        assert_eq!(key("order.*"), "order.%2A");
        assert_eq!(key("a-b_c"), "a-b_c");
        assert_eq!(key("x y/z~é"), "x+y%2Fz%7E%C3%A9");
        assert_eq!([quoted_key("~"), quoted_key("%23~F_63iA")], ["~", "%2523~F_63iA"]);
    }

    #[test]
    fn arguments_make_keys_differ_and_their_order_does_not() {
        let key = |arguments: Value| {
            properties_key(&Name::from_static("k"), arguments.as_object().expect("an object"))
        };
        assert_eq!(key(json!({"a": 1, "b": 2})), key(json!({"b": 2, "a": 1})));
        assert_ne!(key(json!({"a": 1})), key(json!({"a": "1"})));
        assert!(key(json!({"a": 1})).starts_with("k~"));
    }
}
