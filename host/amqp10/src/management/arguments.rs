//! Arguments of queues, exchanges and bindings: maps here, tables in the model.

use crate::types::{ListBuilder, Map, MapBuilder, Symbol, Timestamp, Value};
use alloc::{format, string::String, vec::Vec};
use leveret_model::{Name, Table, Value as Owned, flat};

/// The table of a map whose keys are strings or symbols.
///
/// # Errors
/// The key, for people to read, that is no name, or whose value has no place in a table.
pub(super) fn table(map: Map<'_>) -> Result<Table, String> {
    let fields = map.iter().map(|(key, value)| {
        let name = match key {
            Value::String(text) => text,
            Value::Symbol(symbol) => symbol.as_str(),
            other => return Err(written(&other)),
        };
        let value = owned(value).ok_or_else(|| String::from(name))?;
        Ok((Name::new(name.as_bytes()).map_err(|_| String::from(name))?, value))
    });
    fields.collect()
}

/// A value as tables have it. `None` if they have none like it.
fn owned(value: Value<'_>) -> Option<Owned> {
    Some(match value {
        Value::Null => Owned::Void,
        Value::Boolean(boolean) => Owned::Boolean(boolean),
        Value::Ubyte(number) => Owned::Integer(number.into()),
        Value::Ushort(number) => Owned::Integer(number.into()),
        Value::Uint(number) => Owned::Integer(number.into()),
        Value::Ulong(number) => i64::try_from(number).map_or(Owned::Unsigned(number), Owned::Integer),
        Value::Byte(number) => Owned::Integer(number.into()),
        Value::Short(number) => Owned::Integer(number.into()),
        Value::Int(number) => Owned::Integer(number.into()),
        Value::Long(number) => Owned::Integer(number),
        Value::Float(number) => Owned::Real(number.into()),
        Value::Double(number) => Owned::Real(number),
        Value::Char(character) => Owned::Text(character.into()),
        Value::Timestamp(time) => Owned::Timestamp(time.0),
        Value::Binary(bytes) => Owned::string(bytes),
        Value::String(text) => Owned::Text(text.into()),
        Value::Symbol(symbol) => Owned::Text(symbol.as_str().into()),
        Value::List(list) => Owned::List(list.iter().map(owned).collect::<Option<_>>()?),
        Value::Array(array) => Owned::List(array.iter().map(owned).collect::<Option<_>>()?),
        Value::Map(map) => Owned::Map(
            map.iter().map(|(key, value)| Some((owned(key)?, owned(value)?))).collect::<Option<_>>()?,
        ),
        Value::Uuid(_)
        | Value::Decimal32(_)
        | Value::Decimal64(_)
        | Value::Decimal128(_)
        | Value::Described(_) => return None,
    })
}

/// The map of a table. Names are strings there; what is not UTF-8 in them is replaced.
pub(super) fn map(table: &Table) -> MapBuilder {
    let mut map = MapBuilder::new();
    for (name, value) in table.iter() {
        let name = String::from_utf8_lossy(name);
        with_value(value, &mut |value| {
            map.push(&*name, value);
        });
    }
    map
}

/// Calls with a value as it is encoded.
fn with_value(value: &Owned, take: &mut dyn FnMut(Value<'_>)) {
    match value {
        Owned::Void => take(Value::Null),
        Owned::Boolean(boolean) => take(Value::Boolean(*boolean)),
        Owned::Integer(number) => take(Value::Long(*number)),
        Owned::Unsigned(number) => take(Value::Ulong(*number)),
        Owned::Real(number) => take(Value::Double(*number)),
        // Nothing that clients read is one.
        Owned::Decimal { scale, unscaled } => take(Value::String(&format!("{unscaled}E-{scale}"))),
        Owned::Timestamp(ms) => take(Value::Timestamp(Timestamp(*ms))),
        Owned::Text(text) => take(Value::String(text)),
        Owned::Binary(bytes) => take(Value::Binary(bytes)),
        Owned::List(items) => {
            let mut list = ListBuilder::new();
            for item in items {
                with_value(item, &mut |item| {
                    list.push(item);
                });
            }
            take(list.view().into());
        }
        Owned::Map(pairs) => {
            let mut map = MapBuilder::new();
            for (key, value) in pairs {
                with_value(key, &mut |key| {
                    with_value(value, &mut |value| {
                        map.push(key, value);
                    });
                });
            }
            take(map.view().into());
        }
    }
}

/// What the arguments of a binding are known by in its path: nothing where there are none, else sixteen hexadecimal
/// digits, the same in whatever order the arguments are.
#[must_use]
pub fn arguments_key(table: &Table) -> String {
    if table.is_empty() {
        return String::new();
    }
    let mut fields: Vec<(&Name, &Owned)> = table.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    let mut bytes = Vec::new();
    for (name, value) in fields {
        flat::put_string(&mut bytes, name);
        flat::put_value(&mut bytes, value);
    }
    // FNV-1a: it tells bindings of one source, destination and key apart, and guards nothing.
    let digest = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{digest:016x}")
}

/// Whether a key is what a field is called. In bodies only strings are names of fields, as on RabbitMQ.
pub(super) fn field_name<'a>(key: &Value<'a>) -> Option<&'a str> {
    match key {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// A key, for people to read.
pub(super) fn written(key: &Value<'_>) -> String {
    match key {
        Value::String(text) => (*text).into(),
        Value::Symbol(symbol) => Symbol::as_str(*symbol).into(),
        other => format!("of type {}", other.type_name()),
    }
}
