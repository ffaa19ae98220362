//! amqprs: what it is told by callbacks.

use super::session::limited;
use crate::outage::Outage;
use amqprs::callbacks::{ChannelCallback, ConnectionCallback};
use amqprs::channel::{
    BasicConsumeArguments, BasicPublishArguments, Channel, ConfirmSelectArguments, ConsumerMessage,
    QueueDeclareArguments, QueueDeleteArguments, QueuePurgeArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{Ack, BasicProperties, Cancel, Close, CloseChannel, DELIVERY_MODE_PERSISTENT, Nack, Return};
use async_trait::async_trait;
use leveret_testkit::{Broker, EVENT_WAIT_MAX, unique_name};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a callback was called with.
#[derive(Debug, PartialEq)]
enum Told {
    Ack { tag: u64, multiple: bool },
    Nack,
    Return { code: u16, text: String, body: Vec<u8> },
    Cancel(String),
    ChannelClosed(u16),
    ConnectionClosed(u16, String),
    Blocked,
}

/// Sends on what it is told.
struct Teller(UnboundedSender<Told>);

impl Teller {
    fn tell(&self, told: Told) {
        // Nobody listens any more at the end.
        let _ = self.0.send(told);
    }
}

type Done<T> = Result<T, amqprs::error::Error>;

#[async_trait]
impl ConnectionCallback for Teller {
    async fn close(&mut self, _: &Connection, close: Close) -> Done<()> {
        self.tell(Told::ConnectionClosed(close.reply_code(), close.reply_text().clone()));
        Ok(())
    }

    async fn blocked(&mut self, _: &Connection, _: String) {
        self.tell(Told::Blocked);
    }

    async fn unblocked(&mut self, _: &Connection) {}

    async fn secret_updated(&mut self, _: &Connection) {}
}

#[async_trait]
impl ChannelCallback for Teller {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Done<()> {
        self.tell(Told::ChannelClosed(close.reply_code()));
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, cancel: Cancel) -> Done<()> {
        self.tell(Told::Cancel(cancel.consumer_tag().clone()));
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Done<bool> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.tell(Told::Ack { tag: ack.delivery_tag(), multiple: ack.mutiple() });
    }

    async fn publish_nack(&mut self, _: &Channel, _: Nack) {
        self.tell(Told::Nack);
    }

    async fn publish_return(&mut self, _: &Channel, ret: Return, _: BasicProperties, body: Vec<u8>) {
        let (code, text) = (ret.reply_code(), ret.reply_text().clone());
        self.tell(Told::Return { code, text, body });
    }
}

/// A connection with a channel in confirm mode, and what their callbacks are told.
struct Session {
    connection: Connection,
    channel: Channel,
    told: UnboundedReceiver<Told>,
}

impl Session {
    async fn open(outage: &Outage) -> Self {
        let address = outage.address();
        let ip = address.ip().to_string();
        let arguments = OpenConnectionArguments::new(&ip, address.port(), "guest", "guest");
        let connection = Connection::open(&arguments).await.unwrap();
        let (sender, told) = unbounded_channel();
        connection.register_callback(Teller(sender.clone())).await.unwrap();
        let channel = connection.open_channel(None).await.unwrap();
        channel.register_callback(Teller(sender)).await.unwrap();
        channel.confirm_select(ConfirmSelectArguments::default()).await.unwrap();
        Self { connection, channel, told }
    }

    async fn next(&mut self) -> Told {
        tokio::time::timeout(EVENT_WAIT_MAX, self.told.recv()).await.expect("told in time").unwrap()
    }

    /// Publishes to a queue, as mandatory.
    async fn publish(&self, queue: &str, body: Vec<u8>) {
        let arguments = BasicPublishArguments::new("", queue).mandatory(true).finish();
        self.channel.basic_publish(BasicProperties::default(), body, arguments).await.unwrap();
    }

    /// Waits until all of the first `count` publishes are acknowledged.
    async fn acknowledged(&mut self, count: u64) {
        let (mut below, mut alone) = (0, std::collections::BTreeSet::new());
        while below < count {
            match self.next().await {
                Told::Ack { tag, multiple: true } => below = below.max(tag),
                Told::Ack { tag, multiple: false } => assert!(alone.insert(tag), "acknowledged twice: {tag}"),
                other => panic!("an acknowledgement wanted, not {other:?}"),
            }
            while alone.contains(&(below + 1)) {
                below += 1;
            }
        }
    }

    async fn declare(&self, name: &str, exclusive: bool) {
        let arguments = QueueDeclareArguments::new(name).exclusive(exclusive).finish();
        self.channel.queue_declare(arguments).await.unwrap();
    }

    async fn consume(&self, queue: &str) -> UnboundedReceiver<ConsumerMessage> {
        let arguments = BasicConsumeArguments::new(queue, "mine").manual_ack(false).finish();
        self.channel.basic_consume_rx(arguments).await.unwrap().1
    }
}

fn with_outages(test: impl AsyncFnOnce(Arc<Outage>)) {
    let builder = Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--memory-mib=16");
    let builder = builder.argument("--memory-paging-percent=100");
    let outage = Arc::new(Outage::new(builder));
    limited(async || test(outage).await);
}

#[test]
fn twenty_thousand_confirms() {
    with_outages(async |outage| {
        let mut session = Session::open(&outage).await;
        session.declare("load", true).await;
        let persistent = BasicProperties::default().with_delivery_mode(DELIVERY_MODE_PERSISTENT).finish();
        for number in 0..20_000_u32 {
            let arguments = BasicPublishArguments::new("", "load");
            let body = number.to_be_bytes().to_vec();
            session.channel.basic_publish(persistent.clone(), body, arguments).await.unwrap();
        }
        session.acknowledged(20_000).await;
        let purged = session.channel.queue_purge(QueuePurgeArguments::new("load")).await.unwrap();
        assert_eq!(purged, Some(20_000));
    });
}

#[test]
fn returned_and_then_acknowledged() {
    with_outages(async |outage| {
        let mut session = Session::open(&outage).await;
        session.publish("nobody", b"x".to_vec()).await;
        let returned = Told::Return { code: 312, text: "NO_ROUTE".into(), body: b"x".to_vec() };
        assert_eq!(session.next().await, returned);
        session.acknowledged(1).await;
    });
}

#[test]
fn replies_come_without_a_queue() {
    const REPLY_TO: &str = "amq.rabbitmq.reply-to";
    with_outages(async |outage| {
        let (asking, serving) = (Session::open(&outage).await, Session::open(&outage).await);
        serving.declare("served", true).await;
        let (mut requests, mut replies) = (serving.consume("served").await, asking.consume(REPLY_TO).await);
        for number in 0..100_u32 {
            let body = number.to_be_bytes().to_vec();
            let asks = BasicProperties::default().with_reply_to(REPLY_TO).finish();
            let to = BasicPublishArguments::new("", "served");
            asking.channel.basic_publish(asks, body.clone(), to).await.unwrap();
            let request = requests.recv().await.unwrap();
            let to = BasicPublishArguments::new("", request.basic_properties.unwrap().reply_to().unwrap());
            let content = request.content.unwrap();
            serving.channel.basic_publish(BasicProperties::default(), content, to).await.unwrap();
            assert_eq!(replies.recv().await.unwrap().content.unwrap(), body);
        }
    });
}

#[test]
fn cancelled_by_the_broker() {
    with_outages(async |outage| {
        let mut session = Session::open(&outage).await;
        session.declare("short-lived", true).await;
        let mut deliveries = session.consume("short-lived").await;
        let other = session.connection.open_channel(None).await.unwrap();
        other.queue_delete(QueueDeleteArguments::new("short-lived")).await.unwrap();
        assert_eq!(session.next().await, Told::Cancel("mine".into()));
        assert!(deliveries.recv().await.is_none());
    });
}

#[test]
fn a_forced_close_says_why_and_an_exclusive_queue_may_be_declared_again() {
    with_outages(async |outage| {
        let name = unique_name("exclusive");
        for _ in 0..2 {
            let mut session = Session::open(&outage).await;
            session.declare(&name, true).await;
            let mut deliveries = session.consume(&name).await;
            session.publish(&name, b"x".to_vec()).await;
            session.acknowledged(1).await;
            assert_eq!(deliveries.recv().await.unwrap().content.unwrap(), b"x");
            let asked = Arc::clone(&outage);
            let restarting = tokio::task::spawn_blocking(move || asked.bring("restart"));
            let why = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
            assert_eq!(session.next().await, Told::ConnectionClosed(320, why.into()));
            restarting.await.unwrap();
        }
    });
}

#[test]
fn held_back_while_memory_is_short() {
    with_outages(async |outage| {
        let (mut session, other) = (Session::open(&outage).await, Session::open(&outage).await);
        session.declare("full", false).await;
        // More than the broker is to hold. This client cannot be told that it is blocked.
        for _ in 0..100 {
            session.publish("full", vec![0; 256 << 10]).await;
        }
        let mut deliveries = other.consume("full").await;
        for _ in 0..100 {
            deliveries.recv().await.expect("all of them come");
        }
        session.acknowledged(100).await;
    });
}
