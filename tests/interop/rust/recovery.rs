//! lapin's own recovery, and confirms while the broker fails.

use super::session::*;
use crate::outage::Outage;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, Event, ExchangeKind};
use leveret_testkit::{Broker, unique_name};
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The client's pause between two attempts to connect, and how many of them it makes.
const RETRY_AFTER: Duration = Duration::from_millis(50);
const RETRIES_MAX: usize = 1000;

#[test]
fn blocked_and_unblocked() {
    const MESSAGES: usize = 100;
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret"))
        .argument("--memory-mib=16")
        .argument("--memory-paging-percent=100")
        .start();
    on_broker(&broker, async |broker| {
        let (connection, other) = (connect(broker).await, connect(broker).await);
        let mut events = Box::pin(connection.events_listener());
        let reader = other.create_channel().await.unwrap();
        let queue = own_queue(&reader).await;
        let channel = confirming(&connection).await;
        let (default, body) = (ShortString::from(""), vec![0; 256 << 10]);
        let publishing = futures_util::future::join_all(
            (0..MESSAGES).map(|_| publish(&channel, &default, queue.as_str(), &body, false)),
        );
        let reading = async {
            assert!(
                matches!(events.next().await, Some(Event::ConnectionBlocked(why)) if why == "low on memory")
            );
            let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
            let arguments = FieldTable::default();
            let mut consumer =
                reader.basic_consume(queue.clone(), "c".into(), no_ack, arguments).await.unwrap();
            for _ in 0..MESSAGES {
                consumer.next().await.unwrap().unwrap();
            }
            assert!(matches!(events.next().await, Some(Event::ConnectionUnblocked)));
        };
        let (confirmations, ()) = futures_util::future::join(publishing, reading).await;
        assert!(confirmations.into_iter().all(|confirmation| confirmation.unwrap().is_ack()));
    });
}

fn with_outages(test: impl AsyncFnOnce(Arc<Outage>)) {
    let outage = Arc::new(Outage::new(Broker::builder(env!("CARGO_BIN_EXE_leveret"))));
    limited(async || test(outage).await);
}

/// Brings one about; the client's own tasks go on meanwhile.
async fn bring(outage: &Arc<Outage>, what: &'static str) {
    let outage = Arc::clone(outage);
    tokio::task::spawn_blocking(move || outage.bring(what)).await.unwrap();
}

async fn recovering(outage: &Outage) -> Connection {
    let properties = ConnectionProperties::default()
        .configure_backoff(|backoff| {
            backoff.with_min_delay(RETRY_AFTER).with_max_delay(RETRY_AFTER).with_max_times(RETRIES_MAX)
        })
        .enable_auto_recover();
    Connection::connect(&outage.amqp_url(), properties).await.unwrap()
}

/// Publishes until it is confirmed: what an outage takes with it is published again.
async fn publish_surely(channel: &Channel, exchange: &ShortString, key: &str, body: &[u8]) {
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    loop {
        match publish_with(channel, exchange, key, body, options, persistent.clone()).await {
            Ok(confirmation) => {
                assert!(confirmation.is_ack(), "not taken: {confirmation:?}");
                // Returned if the client was still binding its queue again.
                if confirmation.take_message().is_none() {
                    return;
                }
            }
            Err(error) => channel.wait_for_recovery(error).await.unwrap(),
        }
    }
}

/// Takes the next delivery.
async fn next(consumer: &mut Consumer) -> Vec<u8> {
    let delivery = consumer.next().await.expect("the consumer goes on").unwrap();
    delivery.ack(BasicAckOptions::default()).await.unwrap();
    delivery.data
}

#[test]
fn consumers_and_topology_come_back() {
    with_outages(async |outage| {
        let connection = recovering(&outage).await;
        let channel = confirming(&connection).await;
        // It stays through the outages: this client may publish before it has declared all again.
        let exchange = ShortString::from(unique_name("topic"));
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let arguments = FieldTable::default();
        channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, durable, arguments).await.unwrap();
        let queue = ShortString::from(unique_name("exclusive"));
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        channel.queue_declare(queue.clone(), exclusive, FieldTable::default()).await.unwrap();
        bind(&channel, &queue, &exchange, "a.#", FieldTable::default()).await;
        let consuming = BasicConsumeOptions::default();
        let mut consumer =
            channel.basic_consume(queue, "mine".into(), consuming, FieldTable::default()).await.unwrap();
        for kind in ["cut", "restart", "kill", "cut"] {
            publish_surely(&channel, &exchange, "a.b", kind.as_bytes()).await;
            assert_eq!(next(&mut consumer).await, kind.as_bytes());
            bring(&outage, kind).await;
        }
        publish_surely(&channel, &exchange, "a.b", b"last").await;
        assert_eq!(next(&mut consumer).await, b"last");
    });
}

/// Publishes those on a connection of its own until the next outage is over, and gives those that were confirmed. The
/// client's recovery is not asked for: under load it may send what was on its way before the header of the protocol, and
/// gives up then. Nor is it waited for: whose socket ends while it logs in never hears that it did.
async fn confirmed_until_an_outage(
    outage: &Outage,
    over: &mut watch::Receiver<()>,
    queue: &ShortString,
    left: &HashSet<u32>,
) -> Vec<u32> {
    let confirmed = RefCell::new(Vec::new());
    let publishing = async {
        let connection =
            Connection::connect(&outage.amqp_url(), ConnectionProperties::default()).await.ok()?;
        let channel = connection.create_channel().await.ok()?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.ok()?;
        let (default, persistent) = (ShortString::from(""), BasicProperties::default().with_delivery_mode(2));
        let publish = |number: u32| {
            let (channel, default, persistent) = (&channel, &default, persistent.clone());
            let confirmed = &confirmed;
            async move {
                let (body, options) = (number.to_be_bytes(), BasicPublishOptions::default());
                let published =
                    publish_with(channel, default, queue.as_str(), &body, options, persistent).await;
                if let Ok(confirmation) = published {
                    assert!(confirmation.is_ack(), "not taken: {confirmation:?}");
                    confirmed.borrow_mut().push(number);
                }
            }
        };
        futures_util::stream::iter(left.iter().copied()).for_each_concurrent(300, publish).await;
        Some(())
    };
    tokio::select! {
        _ = publishing => {}
        changed = over.changed() => changed.expect("whoever brings outages about stays"),
    }
    confirmed.into_inner()
}

#[test]
fn nothing_confirmed_is_lost_in_outages_under_load() {
    const MESSAGES: u32 = 5000;
    with_outages(async |outage| {
        let connection = recovering(&outage).await;
        let channel = confirming(&connection).await;
        let queue = ShortString::from(unique_name("load"));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.clone(), durable, FieldTable::default()).await.unwrap();
        connection.close(200, "".into()).await.unwrap();
        let (is_over, mut over) = watch::channel(());
        let publishing = async {
            let mut left: HashSet<u32> = (0..MESSAGES).collect();
            while !left.is_empty() {
                for number in confirmed_until_an_outage(&outage, &mut over, &queue, &left).await {
                    left.remove(&number);
                }
            }
        };
        let failing = async {
            for kind in ["cut", "kill", "cut"] {
                bring(&outage, kind).await;
                is_over.send_replace(());
            }
        };
        futures_util::future::join(publishing, failing).await;
        let reading = recovering(&outage).await.create_channel().await.unwrap();
        let found: HashSet<Vec<u8>> = drain(&reading, &queue).await.into_iter().collect();
        assert_eq!(found.len(), MESSAGES as usize);
    });
}
