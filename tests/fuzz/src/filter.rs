//! The check of filters, and expressions to begin with. As in `checks`, the check takes any bytes.

use leveret_amqp10::types::{MapBuilder, Reader, Symbol, Value, write};
use leveret_filter::{Dialect, Expression, Field, Header, Message, Property, Truth};

/// When it is asked, in milliseconds since 1970.
const NOW_MS: i64 = 1_795_977_000_000;

/// Expressions in both languages.
const EXPRESSIONS: [(&str, u8, &str); 6] = [
    (
        "sections",
        0,
        "h.priority > 4 AND p.subject LIKE 'a!%_%' ESCAPE '!' OR m.[x-opt] IN ('a', 0xAB, 1.5E3)",
    ),
    ("functions", 0, "UTC() - p.creation_time < 6E4 AND SUBSTRING(LOWER(a), 2, 1) = LEFT(\"b\", 1)"),
    ("three-values", 0, "NOT (b IS NULL) AND EXISTS([a b]) OR a NOT BETWEEN -1 AND +2 / b % 3 * 4 - 5"),
    ("dates", 0, "p.absolute_expiry_time <> DATE('2026-11-29T18:30:00.5+01:00') AND INF > NAN"),
    ("selector", 1, "JMSPriority >= 4 AND (a.b = 0x1F OR $c <> .5d) AND JMSMessageID NOT LIKE '_D:%'"),
    ("numbers", 1, "017 = 15L AND 7. = 7 AND a / 2 = 1 AND b NOT IN ('x', 'it''s')"),
];

/// A message that has the fields `a` and `b` wherever it can, and that has the one or the other value there.
struct Fields(bool);

impl Message for Fields {
    fn field(&self, field: &Field) -> Option<leveret_filter::Value<'_>> {
        use leveret_filter::Value;
        Some(match field {
            Field::Header(Header::Priority) => Value::Integer(5),
            Field::Property(Property::CreationTime) => Value::Integer((NOW_MS - 1000).into()),
            Field::Property(Property::MessageId) => Value::Uuid([7; 16]),
            Field::Property(Property::UserId) => Value::Binary(b"\xff\0".into()),
            Field::ApplicationProperty(name) | Field::MessageAnnotation(name) => match (&**name, self.0) {
                ("a", true) => Value::Text("ab%_🥕".into()),
                ("a", false) => Value::Integer(i128::from(u64::MAX)),
                ("b", true) => Value::Boolean(true),
                ("b", false) => Value::Real(-0.5),
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// The first byte says what the rest is: an expression in one language or the other, or a filter of a source.
pub fn check(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let dialect = match kind % 3 {
        0 => Dialect::AmqpSql,
        1 => Dialect::JmsSelector,
        _ => return encoded(rest),
    };
    let Ok(text) = core::str::from_utf8(rest) else { return };
    match Expression::compile(text, dialect) {
        Ok(expression) => expression_holds(text, &expression, dialect),
        Err(error) => {
            assert!((1..=text.chars().count() + 1).contains(&error.position), "{error}");
            assert!(!error.to_string().is_empty());
        }
    }
}

/// NOT makes the contrary of it, and AND with itself the same. Written twice it may be too long, though.
fn expression_holds(text: &str, expression: &Expression, dialect: Dialect) {
    let not = Expression::compile(&format!("NOT ({text})"), dialect).ok();
    let twice = Expression::compile(&format!("({text}) AND ({text})"), dialect).ok();
    for message in [Fields(true), Fields(false)] {
        let truth = expression.evaluate(&message, NOW_MS);
        if let Some(twice) = &twice {
            assert_eq!(twice.evaluate(&message, NOW_MS), truth, "{text}");
        }
        if let Some(not) = &not {
            let contrary = match truth {
                Truth::True => Truth::False,
                Truth::False => Truth::True,
                Truth::Unknown => Truth::Unknown,
            };
            assert_eq!(not.evaluate(&message, NOW_MS), contrary, "{text}");
        }
    }
}

/// A filter as it stands in a source.
fn encoded(bytes: &[u8]) {
    let Ok(value) = Reader::new(bytes).value() else { return };
    match leveret_amqp10::filter::compile(value) {
        Ok(filter) => {
            assert!(!filter.is_empty());
            let _ = filter.matches(&Fields(true), NOW_MS);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Target, name and bytes of each.
#[must_use]
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds: Vec<_> = EXPRESSIONS
        .iter()
        .map(|(name, kind, text)| ("filter", (*name).to_owned(), [&[*kind], text.as_bytes()].concat()))
        .collect();
    let described = |code: u64, value: Value<'_>| {
        let mut out = vec![2, 0];
        write::put(&mut out, code);
        write::put(&mut out, value);
        out
    };
    let (mut properties, mut application) = (MapBuilder::new(), MapBuilder::new());
    properties.push(Symbol::from_static("subject"), "&p:a").push(Symbol::from_static("message-id"), 7_u64);
    application.push("a", "&s:b").push("b", 1.5_f64).push("c", Value::Null);
    seeds.push(("filter", "properties".into(), described(0x173, properties.view().into())));
    seeds.push(("filter", "application-properties".into(), described(0x174, application.view().into())));
    seeds.push(("filter", "sql".into(), described(0x120, "a = b".into())));
    seeds
}
