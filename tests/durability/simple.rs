//! One durable queue with numbered messages: what the tests about files and clean stops begin with.

use crate::session;
use lapin::{
    BasicProperties, Channel, Connection,
    message::Delivery,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use leveret_testkit::Broker;

pub(crate) const QUEUE: &str = "q";

/// The body of a message: its number as text, over and over.
pub(crate) fn body(number: u32, bytes: usize) -> Vec<u8> {
    format!("<message {number}>").bytes().cycle().take(bytes).collect()
}

/// The number of a message, whose body must be as it was.
pub(crate) fn number_of(delivery: &Delivery) -> u32 {
    let id = delivery.properties.message_id().as_ref().map_or("", |id| id.as_str());
    let number = id.parse().unwrap();
    assert!(delivery.data == body(number, delivery.data.len()), "message {number} has another body");
    assert!(!delivery.data.is_empty(), "message {number} has no body");
    number
}

pub(crate) async fn connect(broker: &Broker) -> (Connection, Channel) {
    let connection = session::connect(broker).await;
    let channel = session::confirming(&connection).await;
    (connection, channel)
}

pub(crate) async fn declare(channel: &Channel) {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(QUEUE.into(), options, FieldTable::default()).await.unwrap();
}

/// Publishes a message and waits for its confirm.
pub(crate) async fn publish(channel: &Channel, number: u32, bytes: usize, persistent: bool) {
    let properties = BasicProperties::default()
        .with_message_id(number.to_string().into())
        .with_delivery_mode(if persistent { 2 } else { 1 });
    let (options, body) = (BasicPublishOptions::default(), body(number, bytes));
    let exchange = ShortString::from("");
    let sent = session::publish_with(channel, &exchange, QUEUE, &body, options, properties).await;
    assert!(sent.unwrap().is_ack(), "message {number}");
}

/// All that is in the queue, acked: the numbers, and which are marked as delivered before.
pub(crate) async fn drain(channel: &Channel) -> Vec<(u32, bool)> {
    let mut all = Vec::new();
    while let Some(delivery) = session::get(channel, &QUEUE.into(), true).await {
        all.push((number_of(&delivery), delivery.redelivered));
    }
    all
}
