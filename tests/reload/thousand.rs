//! A thousand reloads under load: two versions take each other's place while publishers with confirms and
//! consumers work on connections of their own. Every confirmed message is consumed exactly once, in the
//! order of its channel.

use super::deploy::{Way, deploy};
use super::session::*;
use futures_util::{
    StreamExt,
    future::{join, join_all},
};
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Consumer, ExchangeKind};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, guests, log_lines};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

const RELOADS: usize = 1_000;
const PUBLISHERS: usize = 3;
/// How many messages of a publisher wait for their confirms.
const BURST: usize = 20;
const EXCHANGE: &str = "reloaded";

/// Puts the versions in each other's place, each as soon as the one before serves.
fn reload(broker: &Broker) {
    let versions = ["versioned_v2", "versioned_v1"].map(|guest| fs::read(guests::component(guest)).unwrap());
    let path = broker.plugins_directory().join("versioned.wasm");
    let aside = broker.aside().join("written-aside");
    for version in versions.iter().cycle().take(RELOADS) {
        let before = broker.log_length();
        fs::write(&aside, version).unwrap();
        fs::rename(&aside, &path).unwrap();
        broker.wait_for_log_after(before, log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
    }
}

fn key(publisher: usize) -> String {
    format!("p{publisher}")
}

/// Publishes numbered messages until it is told to stop; gives how many were confirmed.
async fn publish_until(broker: &Broker, publisher: usize, stop: &AtomicBool) -> u64 {
    let connection = connect(broker).await;
    let channel = confirming(&connection).await;
    let (exchange, key) = (ShortString::from(EXCHANGE), ShortString::from(key(publisher)));
    let mut published = 0_u64;
    let mut last = false;
    while !last {
        // One burst more when all reloads are done.
        last = stop.load(Ordering::SeqCst);
        let mut confirms = Vec::with_capacity(BURST);
        for _ in 0..BURST {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let (body, properties) = (published.to_be_bytes(), BasicProperties::default());
            let confirm = channel.basic_publish(exchange.clone(), key.clone(), options, &body, properties);
            confirms.push(confirm.await.unwrap());
            published += 1;
        }
        for confirm in confirms {
            let confirm = confirm.await.unwrap();
            assert!(confirm.is_ack(), "a message was refused: {confirm:?}");
            assert!(confirm.take_message().is_none(), "a message was routed to nowhere");
        }
    }
    published
}

/// A connection that consumes what one publisher sends.
struct Receiving {
    _connection: Connection,
    channel: Channel,
    queue: ShortString,
    consumer: Consumer,
    publisher: usize,
    next: u64,
}

impl Receiving {
    /// Whichever version serves, one binding of this publisher's matches.
    async fn of(broker: &Broker, publisher: usize) -> Self {
        let connection = connect(broker).await;
        let channel = connection.create_channel().await.unwrap();
        let queue = own_queue(&channel).await;
        for version in ["v1", "v2"] {
            let key = format!("{}.{version}", key(publisher));
            bind(&channel, &queue, &EXCHANGE.into(), &key, FieldTable::default()).await;
        }
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consuming = channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
        let consumer = consuming.await.unwrap();
        Self { _connection: connection, channel, queue, consumer, publisher, next: 0 }
    }

    /// Takes the next message, which must be the one that was published next.
    async fn take(&mut self) {
        let delivery = self.consumer.next().await.unwrap().unwrap();
        let number = u64::from_be_bytes(delivery.data.try_into().unwrap());
        assert_eq!(number, self.next, "of publisher {}", self.publisher);
        self.next += 1;
    }

    /// Takes messages until it is told how many there are, and then as many.
    async fn take_all(mut self, mut total: oneshot::Receiver<u64>) {
        let total = loop {
            tokio::select! {
                () = self.take() => {}
                total = &mut total => break total.unwrap(),
            }
        };
        while self.next < total {
            self.take().await;
        }
        assert!(get(&self.channel, &self.queue, true).await.is_none(), "more than was published");
    }
}

#[test]
fn nothing_is_lost_across_a_thousand_reloads_under_load() {
    let broker = Arc::new(Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--workers=2").start());
    deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
    let stop = Arc::new(AtomicBool::new(false));
    on_broker(&broker, async |shared| {
        let setting_up = connect(shared).await;
        let channel = setting_up.create_channel().await.unwrap();
        let kind = ExchangeKind::Custom("x-versioned".into());
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel.exchange_declare(EXCHANGE.into(), kind, options, FieldTable::default()).await.unwrap();

        let mut pairs = Vec::new();
        for publisher in 0..PUBLISHERS {
            let (tell, total) = oneshot::channel();
            let receiving = Receiving::of(shared, publisher).await;
            let stop = &*stop;
            let publishing = async move {
                let published = publish_until(shared, publisher, stop).await;
                tell.send(published).unwrap();
                published
            };
            pairs.push(async move { join(publishing, receiving.take_all(total)).await.0 });
        }
        let (reloading, stopping) = (broker.clone(), stop.clone());
        let reloads = tokio::task::spawn_blocking(move || {
            reload(&reloading);
            stopping.store(true, Ordering::SeqCst);
        });
        let (published, reloaded) = join(join_all(pairs), reloads).await;
        reloaded.unwrap();
        println!("{RELOADS} reloads while {published:?} messages were confirmed and consumed");
        assert!(published.iter().all(|published| *published > RELOADS as u64), "{published:?}");
    });
    let served = broker.log().lines().filter(|line| line.contains(log_lines::PLUGIN_SERVES)).count();
    assert_eq!(served, RELOADS + 1, "each file served");
}
