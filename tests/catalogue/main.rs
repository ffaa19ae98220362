//! The exchange types that come with the broker beside the core ones, each against what users of the RabbitMQ
//! plugin of its name complain of: the built broker, and lapin as a client that knows nothing of Leveret.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod consistent;
mod copies;
mod deduplication;
mod delayed;
mod disk;
mod durable;
mod forms;
mod held;
mod history;
mod last_value;
mod later;
mod life;
mod modulus;
mod random;
#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, Consumer, ExchangeKind,
    options::{BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use leveret_testkit::{Broker, unique_name};
use std::time::{Duration, Instant};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_leveret");

/// Named values.
pub(crate) type Fields<'a> = &'a [(&'a str, AMQPValue)];

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(crate) fn integer(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

fn table(fields: Fields<'_>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// Whether so long has passed, by a clock of whole milliseconds as the broker's is.
pub(crate) fn has_passed(begin: Instant, time_ms: u64) -> bool {
    begin.elapsed() + Duration::from_millis(1) >= Duration::from_millis(time_ms)
}

/// A connection with one channel in confirm mode, and its own queues.
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

impl Peer {
    pub(crate) async fn connect(broker: &Broker) -> Self {
        let connection = session::connect(broker).await;
        let channel = session::confirming(&connection).await;
        Self { connection, channel }
    }

    /// Declares an exchange of its own name.
    pub(crate) async fn exchange(&self, kind: &str, arguments: Fields<'_>) -> ShortString {
        let name = ShortString::from(unique_name(kind));
        self.declare(&name, kind, arguments).await.unwrap();
        name
    }

    pub(crate) async fn declare(
        &self,
        name: &ShortString,
        kind: &str,
        arguments: Fields<'_>,
    ) -> lapin::Result<()> {
        let (kind, options) = (ExchangeKind::Custom(kind.into()), ExchangeDeclareOptions::default());
        self.channel.exchange_declare(name.clone(), kind, options, table(arguments)).await
    }

    /// The refusal of a declaration, which ends a channel.
    pub(crate) async fn refused(&self, kind: &str, arguments: Fields<'_>) -> (u16, String) {
        let channel = session::confirming(&self.connection).await;
        let (kind, options) = (ExchangeKind::Custom(kind.into()), ExchangeDeclareOptions::default());
        let declared = channel.exchange_declare("refused".into(), kind, options, table(arguments)).await;
        session::refusal(&declared.unwrap_err())
    }

    /// A queue that is bound with this key.
    pub(crate) async fn bound(&self, exchange: &ShortString, key: &str) -> ShortString {
        let queue = session::own_queue(&self.channel).await;
        self.bind(&queue, exchange, key).await;
        queue
    }

    pub(crate) async fn bind(&self, queue: &ShortString, exchange: &ShortString, key: &str) {
        session::bind(&self.channel, queue, exchange, key, FieldTable::default()).await;
    }

    pub(crate) async fn unbind(&self, queue: &ShortString, exchange: &ShortString, key: &str) {
        let arguments = FieldTable::default();
        self.channel.queue_unbind(queue.clone(), exchange.clone(), key.into(), arguments).await.unwrap();
    }

    /// Publishes a mandatory message and waits for the confirm, which has the message that was returned.
    pub(crate) async fn send(
        &self,
        exchange: &ShortString,
        key: &str,
        headers: Fields<'_>,
        body: &str,
    ) -> Sent {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        self.publish(exchange, key, headers, body, options).await
    }

    pub(crate) async fn publish(
        &self,
        exchange: &ShortString,
        key: &str,
        headers: Fields<'_>,
        body: &str,
        options: BasicPublishOptions,
    ) -> Sent {
        let properties = BasicProperties::default().with_headers(table(headers));
        let confirmation =
            session::publish_with(&self.channel, exchange, key, body.as_bytes(), options, properties).await;
        match confirmation.unwrap() {
            Confirmation::Ack(None) => Sent::Accepted,
            Confirmation::Ack(Some(returned)) => {
                assert_eq!(returned.reply_code, 312);
                Sent::Returned
            }
            Confirmation::Nack(_) => Sent::Refused,
            Confirmation::NotRequested => panic!("the channel is in confirm mode"),
        }
    }

    pub(crate) async fn consume(&self, queue: &ShortString) -> Bodies {
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = self.channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
        Bodies(consumer.await.unwrap())
    }

    /// The bodies of all that is in a queue.
    pub(crate) async fn drain(&self, queue: &ShortString) -> Vec<String> {
        let bodies = session::drain(&self.channel, queue).await;
        bodies.into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }
}

/// What the broker said of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Accepted,
    /// Returned, then confirmed.
    Returned,
    /// A negative confirm.
    Refused,
}

/// The bodies that a consumer gets.
pub(crate) struct Bodies(Consumer);

impl Bodies {
    pub(crate) async fn next(&mut self) -> String {
        let delivery = self.0.next().await.expect("the consumer is not cancelled").unwrap();
        String::from_utf8(delivery.data).unwrap()
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            bodies.push(self.next().await);
        }
        bodies
    }
}
