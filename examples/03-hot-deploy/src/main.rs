//! Publishes without a pause to an exchange of type `x-longest-prefix` (example 02) and says where
//! the messages go, while `run.sh` puts the type's file there and replaces it.
//!
//! Every message is confirmed, and every message that was sent is received exactly once; the last
//! line says so with numbers.
use anyhow::{Context, bail};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{FieldTable, ShortString},
};
use std::time::Duration;

const EXCHANGE: &str = "orders";
const KEY: &str = "order.eu.17";
/// How many messages that go where the ones before went are worth a line.
const STEADY: u64 = 2000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url =
        std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
    let connection =
        Connection::connect(&url, ConnectionProperties::default()).await.context("no broker answers")?;
    println!("waiting for the exchange type");
    let channel = declare(&connection).await?;
    let mut general = queue(&channel, "order.").await?;
    let mut europe = queue(&channel, "order.eu.").await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;

    let (mut sent, mut received, mut steady) = (0_u64, 0_u64, 0_u64);
    let mut before = None;
    let mut changes = 0;
    while changes < 2 || steady < STEADY {
        let confirm = channel
            .basic_publish(
                EXCHANGE.into(),
                KEY.into(),
                BasicPublishOptions::default(),
                &sent.to_be_bytes(),
                BasicProperties::default(),
            )
            .await?
            .await?;
        if !confirm.is_ack() {
            bail!("message {sent} was refused: {confirm:?}");
        }
        let expected = sent.to_be_bytes();
        sent += 1;
        let (prefix, delivery) = tokio::select! {
            delivery = general.next() => ("order.", delivery),
            delivery = europe.next() => ("order.eu.", delivery),
        };
        let delivery = delivery.context("the consumer ended")??;
        if delivery.data != expected {
            bail!("message {} came instead of message {}", hex(&delivery.data), hex(&expected));
        }
        received += 1;
        steady += 1;
        if before != Some(prefix) {
            println!("message {received}: messages with key {KEY} now go to the queue bound with {prefix:?}");
            changes += 1;
            steady = 0;
            before = Some(prefix);
        } else if steady == STEADY && changes < 2 {
            println!("message {received}: they still go to the queue bound with {prefix:?}");
            steady = 0;
        }
    }
    println!("sent {sent}, received {received}, each exactly once and in order");
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Declares the exchange, again and again until its type is there.
async fn declare(connection: &Connection) -> anyhow::Result<Channel> {
    const TRY_AGAIN_AFTER: Duration = Duration::from_millis(50);
    loop {
        // A refusal closes the channel, so each try has its own.
        let channel = connection.create_channel().await?;
        let kind = ExchangeKind::Custom("x-longest-prefix".into());
        let options = ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
        if channel.exchange_declare(EXCHANGE.into(), kind, options, FieldTable::default()).await.is_ok() {
            return Ok(channel);
        }
        tokio::time::sleep(TRY_AGAIN_AFTER).await;
    }
}

/// A queue of this connection, bound with this prefix.
async fn queue(channel: &Channel, prefix: &str) -> anyhow::Result<Consumer> {
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
    let name: ShortString = queue.name().clone();
    let bind = QueueBindOptions::default();
    channel.queue_bind(name.clone(), EXCHANGE.into(), prefix.into(), bind, FieldTable::default()).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    Ok(channel.basic_consume(name, "".into(), options, FieldTable::default()).await?)
}
