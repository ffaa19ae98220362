//! Queues with arguments, and messages with properties, for tests of what queues do.

use super::{Connection, message, name, queue};
use leveret_amqp091::properties::MessageProperties;
use leveret_broker::{Published, QueueSpec, Settle, policy::NamePattern};
use leveret_model::{MessageView, Table, Value};

/// Fields by their names.
pub fn table(fields: &[(&str, Value)]) -> Table {
    fields.iter().map(|(field, value)| (name(field), value.clone())).collect()
}

/// A number, as the value of an argument.
pub fn number(number: i64) -> Value {
    Value::Integer(number)
}

/// A text, as the value of an argument.
pub fn string(text: &str) -> Value {
    Value::Text(text.into())
}

/// The argument that makes a quorum queue.
pub fn quorum() -> (&'static str, Value) {
    ("x-queue-type", string("quorum"))
}

/// Dead letters go to the queue `dead`.
pub fn letters() -> [(&'static str, Value); 2] {
    [("x-dead-letter-exchange", string("")), ("x-dead-letter-routing-key", string("dead"))]
}

/// A quorum queue whose letters for `dead` stay until that takes them, and which refuses publishes where it is full.
pub fn kept_letters() -> [(&'static str, Value); 5] {
    let [exchange, key] = letters();
    let strategy = ("x-dead-letter-strategy", string("at-least-once"));
    [quorum(), strategy, ("x-overflow", string("reject-publish")), exchange, key]
}

/// A policy's pattern that is found in every name.
#[derive(Debug)]
pub struct Every;

impl NamePattern for Every {
    fn text(&self) -> &str {
        ""
    }

    fn is_in(&self, _: &[u8]) -> bool {
        true
    }
}

/// What these tests do with a connection.
pub trait Ageing {
    fn declare(&mut self, name: &str, arguments: &[(&str, Value)]);
    fn put(&mut self, queue: &str, body: &str, priority: Option<u8>, expiration: Option<&str>) -> Published;
    fn requeue(&mut self, tag: u64, failed: bool);
    /// Gets one message and rejects it; its letter is sent on.
    fn reject(&mut self, queue: &str);
}

impl Ageing for Connection {
    fn declare(&mut self, name: &str, arguments: &[(&str, Value)]) {
        let spec = QueueSpec { durable: true, arguments: table(arguments), ..queue(name) };
        self.vhost.declare_queue(spec, self.id).unwrap();
    }

    fn put(&mut self, queue: &str, body: &str, priority: Option<u8>, expiration: Option<&str>) -> Published {
        let expiration = expiration.map(str::as_bytes);
        let properties = MessageProperties {
            delivery_mode: Some(2),
            priority,
            expiration,
            ..MessageProperties::default()
        };
        let properties = properties.encode();
        self.publish_one(MessageView { properties: &properties, ..message("", queue, body.as_bytes()) })
    }

    fn requeue(&mut self, tag: u64, failed: bool) {
        self.client.settle(1, tag, false, Settle::Requeue { failed }).unwrap();
        if self.client.has_dead_letters() {
            self.client.dead_letter(&mut self.router);
        }
    }

    fn reject(&mut self, queue: &str) {
        let (tag, ..) = self.get(queue).unwrap();
        self.client.settle(1, tag, false, Settle::Rejected).unwrap();
        self.client.dead_letter(&mut self.router);
    }
}
