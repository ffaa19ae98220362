//! A connection of lapin's to the broker under test, and the short forms that the cases use.

use lapin::message::Delivery;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind, ExchangeKind,
};
use leveret_testkit::{Broker, unique_name};
use std::time::Duration;

/// For a whole test: reached only when something that was to come never came.
pub(crate) const TEST_MAX: Duration = Duration::from_secs(900);

/// Runs a test against the broker that the environment names, or else one of its own.
pub(crate) fn on_broker_under_test(test: impl AsyncFnOnce(&Broker)) {
    on_broker(&Broker::under_test(env!("CARGO_BIN_EXE_leveret")), test);
}

/// Runs a test against this broker.
pub(crate) fn on_broker(broker: &Broker, test: impl AsyncFnOnce(&Broker)) {
    limited(async || test(broker).await);
}

/// Runs a test in a runtime of its own, for [`TEST_MAX`] at most.
pub(crate) fn limited(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(TEST_MAX, test()).await.expect("the test waited for something in vain");
    });
}

/// A new connection.
pub(crate) async fn connect(broker: &Broker) -> Connection {
    Connection::connect(&broker.amqp_url(), ConnectionProperties::default()).await.unwrap()
}

/// A new channel in confirm mode.
pub(crate) async fn confirming(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel
}

/// An exclusive queue named by the server.
pub(crate) async fn own_queue(channel: &Channel) -> ShortString {
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap().name().clone()
}

/// An exchange that goes with its last binding.
pub(crate) async fn own_exchange(channel: &Channel, kind: &str) -> ShortString {
    let name = ShortString::from(unique_name(kind));
    declare_exchange(channel, &name, kind).await.unwrap();
    name
}

/// Declares an auto-delete exchange.
pub(crate) async fn declare_exchange(channel: &Channel, name: &ShortString, kind: &str) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel
        .exchange_declare(name.clone(), ExchangeKind::Custom(kind.into()), options, FieldTable::default())
        .await
}

/// Binds a queue.
pub(crate) async fn bind(
    channel: &Channel,
    queue: &ShortString,
    exchange: &ShortString,
    key: &str,
    arguments: FieldTable,
) {
    channel
        .queue_bind(queue.clone(), exchange.clone(), key.into(), QueueBindOptions::default(), arguments)
        .await
        .unwrap();
}

/// Publishes, mandatory or not, and waits for the confirm.
pub(crate) async fn publish(
    channel: &Channel,
    exchange: &ShortString,
    key: &str,
    body: &[u8],
    mandatory: bool,
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory, ..Default::default() };
    publish_with(channel, exchange, key, body, options, BasicProperties::default()).await
}

/// [`publish`] with all that a publish can have.
pub(crate) async fn publish_with(
    channel: &Channel,
    exchange: &ShortString,
    key: &str,
    body: &[u8],
    options: BasicPublishOptions,
    properties: BasicProperties,
) -> lapin::Result<Confirmation> {
    channel.basic_publish(exchange.clone(), key.into(), options, body, properties).await?.await
}

/// Takes one message, acknowledged at once or not.
pub(crate) async fn get(channel: &Channel, queue: &ShortString, no_ack: bool) -> Option<Delivery> {
    let got = channel.basic_get(queue.clone(), BasicGetOptions { no_ack }).await.unwrap();
    got.map(|message| message.delivery)
}

/// Takes all that is ready.
pub(crate) async fn drain(channel: &Channel, queue: &ShortString) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while let Some(delivery) = get(channel, queue, true).await {
        bodies.push(delivery.data);
    }
    bodies
}

/// The reply code and text of a refusal that came over the wire.
pub(crate) fn refusal(error: &lapin::Error) -> (u16, String) {
    match error.kind() {
        ErrorKind::ProtocolError(error) => (error.get_id(), error.get_message().to_string()),
        other => panic!("a refusal by the broker wanted, not {other:?}"),
    }
}

/// A field table of texts.
pub(crate) fn texts(fields: &[(&str, &str)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert((*name).into(), AMQPValue::LongString(LongString::from(*value)));
    }
    table
}
