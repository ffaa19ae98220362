//! What the languages say, by their sections.

mod errors;
mod jms;
mod limits;
mod properties;
mod sql;
mod view;

use crate::{Dialect, Expression, Field, Header, Message, Property, Truth, Value};
use alloc::{string::String, vec::Vec};

/// When all tests are: 2026-11-29T18:30:00Z.
const NOW_MS: i64 = 1_795_977_000_000;

/// A message with these fields.
#[derive(Default)]
struct Fake(Vec<(Field, Value<'static>)>);

impl Message for Fake {
    fn field(&self, field: &Field) -> Option<Value<'_>> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| value.clone())
    }
}

impl Fake {
    fn with(mut self, field: Field, value: Value<'static>) -> Self {
        self.0.push((field, value));
        self
    }

    fn app(self, name: &str, value: Value<'static>) -> Self {
        self.with(Field::ApplicationProperty(name.into()), value)
    }

    fn property(self, property: Property, value: Value<'static>) -> Self {
        self.with(Field::Property(property), value)
    }
}

fn text(text: &str) -> Value<'static> {
    Value::Text(String::from(text).into())
}

fn bytes(bytes: &[u8]) -> Value<'static> {
    Value::Binary(Vec::from(bytes).into())
}

/// An order, as a shop would publish it.
fn order() -> Fake {
    Fake::default()
        .with(Field::Header(Header::Priority), Value::Integer(7))
        .with(Field::MessageAnnotation("x-opt-region".into()), text("eu"))
        .with(Field::MessageAnnotation("hops".into()), Value::Integer(2))
        .with(Field::DeliveryAnnotation("trace".into()), Value::Boolean(true))
        .with(Field::Footer("crc".into()), bytes(b"\x01\x02"))
        .property(Property::MessageId, text("order-17"))
        .property(Property::UserId, bytes(b"guest"))
        .property(Property::Subject, text("created"))
        .property(Property::CorrelationId, Value::Uuid([0xab; 16]))
        .property(Property::ContentType, text("application/json"))
        .property(Property::CreationTime, Value::Integer((NOW_MS - 60_000).into()))
        .property(Property::GroupSequence, Value::Integer(3))
        .app("country", text("UK"))
        .app("name", text("O'Hara & \"Sons\" 100%_🥕"))
        .app("empty", text(""))
        .app("weight", Value::Integer(5))
        .app("big", Value::Integer((1 << 53) + 1))
        .app("price", Value::Real(10.5))
        .app("zero", Value::Integer(0))
        .app("nan", Value::Real(f64::NAN))
        .app("paid", Value::Boolean(true))
        .app("gift", Value::Boolean(false))
        .app("data", bytes(b"\xde\xad"))
        .app("raw", bytes(b"\xff"))
        .app("list", Value::Opaque)
        .app("with space", Value::Boolean(true))
        .app("a[b]c", Value::Boolean(true))
        .app("p.subject", Value::Boolean(true))
        .app("not", Value::Boolean(true))
        .app("my.key", Value::Integer(1))
        .app("$_é", Value::Integer(1))
}

fn outcome(expression: &str, dialect: Dialect, message: &dyn Message) -> Truth {
    match Expression::compile(expression, dialect) {
        Ok(compiled) => compiled.evaluate(message, NOW_MS),
        Err(error) => panic!("{expression}: {error}"),
    }
}

/// Each expression, and what it comes to for [`order`]: `T`, `F` or `?`.
fn hold(dialect: Dialect, rows: &[(&str, char)]) {
    let order = order();
    for (expression, expected) in rows {
        let expected = match expected {
            'T' => Truth::True,
            'F' => Truth::False,
            _ => Truth::Unknown,
        };
        assert_eq!(outcome(expression, dialect, &order), expected, "{expression}");
    }
}
