//! What requests say, and what responses say, as values.

use super::requests::Failure;
use leveret_amqp10::{
    form::{model_value, put_model_value},
    types::{Map, MapBuilder, Reader, Value, write},
};
use leveret_broker::{
    exchange::{Binding, Exchange},
    queue::Queue,
};
use leveret_model::{Name, Table, Value as Model};
use std::fmt::Write as _;

/// The fields of a request's map. Each is taken once; what is left over is a mistake.
pub(super) struct Fields<'a> {
    fields: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Fields<'a> {
    /// Of the body of a request.
    pub(super) fn of(body: &'a [u8]) -> Result<Self, Failure> {
        let value = Reader::new(body).value().map_err(|error| Failure::bad(error.to_string()))?;
        let Value::Map(map) = value else { return Err(Failure::bad("the body is no map")) };
        let field = |(key, value)| match key {
            Value::String(key) => Ok((key, value)),
            _ => Err(Failure::bad("a key of the body is no string")),
        };
        Ok(Self { fields: map.iter().map(field).collect::<Result<_, _>>()? })
    }

    fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.fields.iter().position(|(known, _)| *known == name)?;
        Some(self.fields.swap_remove(at).1).filter(|value| !matches!(value, Value::Null))
    }

    pub(super) fn boolean(&mut self, name: &str, default: bool) -> Result<bool, Failure> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Boolean(value)) => Ok(value),
            Some(_) => Err(Failure::bad(format!("{name} is no boolean"))),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<&'a str>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Failure::bad(format!("{name} is no string"))),
        }
    }

    pub(super) fn name(&mut self, field: &str) -> Result<Option<Name>, Failure> {
        self.text(field)?.map(|text| name_of(text.as_bytes())).transpose()
    }

    pub(super) fn arguments(&mut self) -> Result<Table, Failure> {
        match self.take("arguments") {
            None => Ok(Table::new()),
            Some(Value::Map(map)) => arguments_of(map),
            Some(_) => Err(Failure::bad("arguments is no map")),
        }
    }

    /// Nothing else is said.
    pub(super) fn end(self) -> Result<(), Failure> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(Failure::bad(format!("unknown property '{name}'"))),
        }
    }
}

/// A name, without line breaks.
pub(super) fn name_of(bytes: &[u8]) -> Result<Name, Failure> {
    if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return Err(Failure::bad("Bad name: line feed and carriage return characters not allowed"));
    }
    Name::new(bytes).map_err(|_| Failure::bad("a name has more than 255 bytes"))
}

fn arguments_of(map: Map<'_>) -> Result<Table, Failure> {
    let argument = |(key, value): (Value<'_>, Value<'_>)| {
        let key = match key {
            Value::String(key) => key,
            Value::Symbol(key) => key.as_str(),
            _ => return Err(Failure::bad("a key of arguments is no string")),
        };
        Ok((name_of(key.as_bytes())?, model_value(&value)))
    };
    map.iter().map(argument).collect()
}

/// A value of the broker, encoded.
fn encoded(value: &Model) -> Vec<u8> {
    let mut out = Vec::new();
    if put_model_value(&mut out, value).is_err() {
        out.clear();
        write::put(&mut out, Value::Null);
    }
    out
}

fn push_encoded(map: &mut MapBuilder, key: &str, encoded: &[u8]) {
    map.push(key, Reader::new(encoded).value().unwrap_or(Value::Null));
}

fn push_arguments(map: &mut MapBuilder, arguments: &Table) {
    let pairs = arguments.iter().map(|(name, value)| (Model::string(name), value.clone())).collect();
    push_encoded(map, "arguments", &encoded(&Model::Map(pairs)));
}

fn finished(map: &MapBuilder) -> Vec<u8> {
    let mut out = Vec::new();
    write::put(&mut out, map.view());
    out
}

/// What is told of a queue.
pub(super) fn queue(queue: &Queue, node: &str) -> Vec<u8> {
    let (spec, status) = (queue.spec(), queue.status());
    let mut map = MapBuilder::new();
    map.push("name", &*spec.name.to_text()).push("vhost", &*queue.vhost().to_text());
    map.push("durable", spec.durable).push("auto_delete", spec.auto_delete).push("exclusive", spec.exclusive);
    map.push("type", queue.kind().as_str());
    push_arguments(&mut map, &spec.arguments);
    map.push("message_count", status.messages);
    map.push("consumer_count", u32::try_from(status.consumers).unwrap_or(u32::MAX));
    map.push("leader", node);
    let mut replicas = Vec::new();
    // Strings are of one type.
    let _ = write::put_array(&mut replicas, [Value::String(node)].into_iter());
    push_encoded(&mut map, "replicas", &replicas);
    finished(&map)
}

/// How many messages went.
pub(super) fn message_count(messages: u64) -> Vec<u8> {
    let mut map = MapBuilder::new();
    map.push("message_count", messages);
    finished(&map)
}

/// What is told of bindings.
pub(super) fn bindings(
    found: &[(std::sync::Arc<Exchange>, std::sync::Arc<Binding>)],
    is_queue: bool,
) -> Vec<u8> {
    let mut list = leveret_amqp10::types::ListBuilder::new();
    for (source, binding) in found {
        let mut map = MapBuilder::new();
        let (source, destination) = (source.spec.name.to_text(), binding.destination.name().to_text());
        map.push("source", &*source);
        map.push(if is_queue { "destination_queue" } else { "destination_exchange" }, &*destination);
        map.push("binding_key", &*binding.routing_key.to_text());
        push_arguments(&mut map, &binding.arguments);
        map.push("location", &*location(&source, (is_queue, &destination), binding));
        list.push(map.view());
    }
    let mut out = Vec::new();
    write::put(&mut out, list.view());
    out
}

/// The path of a binding.
fn location(source: &str, (is_queue, destination): (bool, &str), binding: &Binding) -> String {
    let mut text = String::from("/bindings/src=");
    put_quoted(&mut text, source.as_bytes());
    text.push_str(if is_queue { ";dstq=" } else { ";dste=" });
    put_quoted(&mut text, destination.as_bytes());
    text.push_str(";key=");
    put_quoted(&mut text, &binding.routing_key);
    text.push_str(";args=");
    text.push_str(&digest(&binding.arguments));
    text
}

fn put_quoted(out: &mut String, bytes: &[u8]) {
    leveret_amqp10::form::address::put_encoded(out, bytes);
}

/// Tells arguments apart among bindings that are otherwise the same; nothing where there are none. FNV-1a of their
/// encoded form.
pub(super) fn digest(arguments: &Table) -> String {
    let mut text = String::new();
    if arguments.is_empty() {
        return text;
    }
    let pairs = arguments.iter().map(|(name, value)| (Model::string(name), value.clone())).collect();
    let bytes = encoded(&Model::Map(pairs));
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let _ = write!(text, "{hash:016x}");
    text
}
