//! A message of a test, and what of it a plugin gets to see.

use crate::{
    Above, Arguments, Property, Reads, Value,
    patch::Change,
    projection::{put_absent, put_body, put_field, put_headers, put_publisher, put_routing_key, put_short},
    reads::HeaderSelection,
};
use std::fmt;

/// A message to route, to intercept, or that came out.
///
/// ```
/// # use leveret_sdk::{Property, testkit::TestMessage};
/// TestMessage::new("order.eu").header("kind", "report").property(Property::Priority, 3).body("text");
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct TestMessage {
    pub(crate) routing_key: Vec<u8>,
    pub(crate) headers: Arguments,
    pub(crate) properties: Vec<(Property, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    publisher: Option<[String; 3]>,
    exchange: Vec<u8>,
    queue: Vec<u8>,
    reason: String,
}

impl TestMessage {
    /// With this routing key, without headers, properties and body.
    pub fn new(routing_key: impl AsRef<[u8]>) -> Self {
        Self { routing_key: routing_key.as_ref().to_vec(), ..Self::default() }
    }

    /// With this header too, unless one of that name is there.
    #[must_use]
    pub fn header<'v>(mut self, name: impl AsRef<[u8]>, value: impl Into<Value<'v>>) -> Self {
        self.headers = self.headers.with(name, value);
        self
    }

    /// With this property, in the place of the one that is there.
    #[must_use]
    pub fn property<'v>(mut self, property: Property, value: impl Into<Value<'v>>) -> Self {
        let mut flat = Vec::new();
        value.into().put_flat(&mut flat);
        self.set_property(property, flat);
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Published by this user, on this connection, by this protocol (`amqp-0-9-1`).
    #[must_use]
    pub fn publisher(mut self, user: &str, connection: &str, protocol: &str) -> Self {
        self.publisher = Some([user, connection, protocol].map(String::from));
        self
    }

    /// Published to this exchange.
    #[must_use]
    pub fn exchange(mut self, name: impl AsRef<[u8]>) -> Self {
        self.exchange = name.as_ref().to_vec();
        self
    }

    /// From this queue: on deliver, on dead-letter.
    #[must_use]
    pub fn queue(mut self, name: impl AsRef<[u8]>) -> Self {
        self.queue = name.as_ref().to_vec();
        self
    }

    /// Dead-lettered for this reason.
    #[must_use]
    pub fn reason(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }

    /// With another routing key.
    #[must_use]
    pub fn routing_key(mut self, routing_key: impl AsRef<[u8]>) -> Self {
        self.routing_key = routing_key.as_ref().to_vec();
        self
    }

    /// Why the broker would reject it without asking, if it would: its body is longer than the reader
    /// takes.
    pub(super) fn too_long_for(&self, reads: &Reads) -> Option<String> {
        let body = reads.body.filter(|body| body.above == Above::Reject)?;
        (self.body.len() > body.bytes_max as usize)
            .then(|| format!("the body is longer than {} bytes", body.bytes_max))
    }

    /// Appends the length of what is read of it, and that.
    pub(super) fn put_into_batch(&self, reads: &Reads, batch: &mut Vec<u8>) {
        let mut projection = Vec::new();
        self.project(reads, &mut projection);
        batch.extend_from_slice(&u32::try_from(projection.len()).unwrap_or(u32::MAX).to_le_bytes());
        batch.extend_from_slice(&projection);
    }

    /// Appends what is read of it, as the broker lays it out.
    fn project(&self, reads: &Reads, out: &mut Vec<u8>) {
        if reads.routing_key {
            put_routing_key(out, &self.routing_key);
        }
        match &reads.headers {
            HeaderSelection::None => {}
            HeaderSelection::Named(names) if names.is_empty() => {}
            HeaderSelection::All => put_headers(out, |out| self.put_headers(out, |_| true)),
            HeaderSelection::Named(names) => put_headers(out, |out| {
                names.iter().map(|name| self.put_headers(out, |header| header == name.as_slice())).sum()
            }),
        }
        for property in &reads.properties {
            match self.properties.iter().find(|(there, _)| there == property) {
                Some((_, flat)) => out.extend_from_slice(flat),
                None => put_absent(out),
            }
        }
        if let Some(body) = reads.body {
            put_body(out, Some(self.body.as_slice()).filter(|there| there.len() <= body.bytes_max as usize));
        }
        if reads.publisher {
            match &self.publisher {
                Some([user, connection, protocol]) => put_publisher(out, user, connection, protocol),
                None => put_publisher(out, "", "", ""),
            }
        }
        if reads.exchange {
            put_short(out, &self.exchange);
        }
        if reads.queue {
            put_short(out, &self.queue);
        }
        if reads.reason {
            put_short(out, self.reason.as_bytes());
        }
    }

    fn put_headers(&self, out: &mut Vec<u8>, mut wanted: impl FnMut(&[u8]) -> bool) -> u16 {
        let headers = self.headers.iter().filter(|header| wanted(header.name()));
        let put = headers
            .filter(|header| put_field(out, header.name(), |out| out.extend_from_slice(header.flat_value())));
        u16::try_from(put.count()).unwrap_or(u16::MAX)
    }

    /// Makes a change of a patch.
    pub(super) fn apply(&mut self, change: Change<'_>) {
        match change {
            Change::SetHeader(field) => {
                let value = field.value().unwrap_or(Value::Void);
                self.replace_header(field.name(), Some(value));
            }
            Change::RemoveHeader(name) => self.replace_header(name, None),
            Change::SetProperty(property, value) => {
                let mut flat = Vec::new();
                value.put_flat(&mut flat);
                self.set_property(property, flat);
            }
            Change::RemoveProperty(property) => self.properties.retain(|(there, _)| *there != property),
            Change::SetRoutingKey(key) => key.clone_into(&mut self.routing_key),
            Change::SetBody(body) => body.clone_into(&mut self.body),
        }
    }

    pub(super) fn set_property(&mut self, property: Property, flat: Vec<u8>) {
        match self.properties.iter_mut().find(|(there, _)| *there == property) {
            Some((_, value)) => *value = flat,
            None => {
                self.properties.push((property, flat));
                self.properties.sort_by_key(|(property, _)| *property as u8);
            }
        }
    }

    fn replace_header(&mut self, name: &[u8], value: Option<Value<'_>>) {
        let mut headers = Arguments::new();
        for header in &self.headers {
            let there = header.value().unwrap_or(Value::Void);
            match (header.name() == name, value) {
                (false, _) => headers = headers.with(header.name(), there),
                (true, Some(value)) => headers = headers.with(name, value),
                (true, None) => {}
            }
        }
        self.headers = match value {
            Some(value) => headers.with(name, value),
            None => headers,
        };
    }
}

impl fmt::Debug for TestMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut shown = f.debug_struct("TestMessage");
        shown.field("routing_key", &text(&self.routing_key)).field("headers", &self.headers);
        for (property, flat) in &self.properties {
            shown.field(&format!("{property:?}"), &Value::from_flat(flat));
        }
        shown.field("body", &text(&self.body));
        shown.finish_non_exhaustive()
    }
}
