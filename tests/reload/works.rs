//! Components that serve: new ones, new versions under load, and those that come back.

use super::deploy::{Way, deploy, remove};
use super::session::*;
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicRejectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Consumer, ExchangeKind};
use leveret_testkit::{Broker, guests, unique_name};
use std::cell::Cell;

fn started() -> Broker {
    Broker::start(env!("CARGO_BIN_EXE_leveret"))
}

/// A durable exchange, which does not go with its last binding.
pub(crate) async fn lasting_exchange(channel: &Channel, kind: &str) -> ShortString {
    let name = ShortString::from(unique_name("exchange"));
    let kind = ExchangeKind::Custom(kind.into());
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(name.clone(), kind, options, FieldTable::default()).await.unwrap();
    name
}

#[test]
fn a_new_file_brings_a_new_type() {
    for way in [Way::InPlace, Way::Renamed] {
        let broker = started();
        deploy(&broker, way, "example_02_exchange_type", "prefix.wasm");
        on_broker(&broker, async |broker| {
            let connection = connect(broker).await;
            let channel = confirming(&connection).await;
            let exchange = own_exchange(&channel, "x-longest-prefix").await;
            let (short, long) = (own_queue(&channel).await, own_queue(&channel).await);
            bind(&channel, &short, &exchange, "order.", FieldTable::default()).await;
            bind(&channel, &long, &exchange, "order.eu.", FieldTable::default()).await;
            assert!(publish(&channel, &exchange, "order.eu.1", b"x", true).await.unwrap().is_ack());
            assert_eq!((drain(&channel, &short).await.len(), drain(&channel, &long).await.len()), (0, 1));
        });
    }
}

#[test]
fn a_file_that_is_there_at_the_start_serves_from_the_start() {
    let component = guests::component("versioned_v1");
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret")).plugin(component).start();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        own_exchange(&confirming(&connection).await, "x-versioned").await;
    });
}

/// The number of the message in a body, and the version whose binding it came by.
pub(crate) async fn next_number(consumer: &mut Consumer) -> u32 {
    let delivery = consumer.next().await.unwrap().unwrap();
    u32::from_be_bytes(delivery.data.try_into().unwrap())
}

/// Publishes without a pause while version 1 is replaced by version 2. Version 1 sends the key `k`
/// to the binding `k.v1`, version 2 to `k.v2`; each message must come out of exactly one of the two
/// queues, in order, the first ones by version 1 and the last ones by version 2.
fn replaced_under_load(way: Way) {
    let broker = started();
    deploy(&broker, way, "versioned_v1", "versioned.wasm");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let receiving = connection.create_channel().await.unwrap();
        let exchange = lasting_exchange(&channel, "x-versioned").await;
        let (old, new) = (own_queue(&receiving).await, own_queue(&receiving).await);
        bind(&channel, &old, &exchange, "k.v1", FieldTable::default()).await;
        bind(&channel, &new, &exchange, "k.v2", FieldTable::default()).await;

        let replaced = Cell::new(false);
        let replacing = async {
            // Some messages go by the old version first.
            await_count(&receiving, &old, 200).await;
            replace(broker, way);
            await_count(&receiving, &new, 1).await;
            replaced.set(true);
        };
        let publishing = publish_past(&channel, &exchange, &replaced);
        let (published, ()) = futures_util::future::join(publishing, replacing).await;

        let (by_old, by_new) = (ready(&receiving, &old).await, ready(&receiving, &new).await);
        assert_eq!(by_old + by_new, published, "every message exactly once");
        assert!(by_old >= 200 && by_new >= 500, "{by_old} by version 1, {by_new} by version 2");
        // The change of version is one point in the order of the channel.
        for (queue, numbers) in [(&old, 0..by_old), (&new, by_old..published)] {
            let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
            let consuming = receiving.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
            let mut consumer = consuming.await.unwrap();
            for number in numbers {
                assert_eq!(next_number(&mut consumer).await, number);
            }
        }
    });
}

/// Puts version 2 in the place of version 1, and does not wait.
fn replace(broker: &Broker, way: Way) {
    let component = std::fs::read(guests::component("versioned_v2")).unwrap();
    let path = broker.plugins_directory().join("versioned.wasm");
    match way {
        Way::InPlace => std::fs::write(path, component).unwrap(),
        Way::Renamed => {
            let aside = broker.aside().join("written-aside");
            std::fs::write(&aside, component).unwrap();
            std::fs::rename(aside, path).unwrap();
        }
    }
}

/// Publishes numbered messages in bursts of 50, and at least 500 more once the version is replaced.
/// Each must be acknowledged and none returned. Gives their number.
pub(crate) async fn publish_past(channel: &Channel, exchange: &ShortString, replaced: &Cell<bool>) -> u32 {
    let (mut number, mut after) = (0_u32, 0);
    while after < 500 {
        let mut confirms = Vec::new();
        for _ in 0..50 {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let (body, properties) = (number.to_be_bytes(), BasicProperties::default());
            let published = channel.basic_publish(exchange.clone(), "k".into(), options, &body, properties);
            confirms.push(published.await.unwrap());
            number += 1;
            after += u32::from(replaced.get());
        }
        for confirm in confirms {
            let confirmation = confirm.await.unwrap();
            assert!(confirmation.is_ack(), "{confirmation:?}");
            assert!(confirmation.take_message().is_none(), "a message was routed to nowhere");
        }
    }
    number
}

pub(crate) async fn ready(channel: &Channel, queue: &ShortString) -> u32 {
    let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await.unwrap().message_count()
}

/// Asks until so many messages are there; each question is a round trip, and the test has a limit.
pub(crate) async fn await_count(channel: &Channel, queue: &ShortString, count: u32) {
    while ready(channel, queue).await < count {}
}

#[test]
fn replaced_in_place_under_load() {
    replaced_under_load(Way::InPlace);
}

#[test]
fn replaced_by_rename_under_load() {
    replaced_under_load(Way::Renamed);
}

#[test]
fn removed_parks_and_back_again_serves_with_its_bindings() {
    let broker = started();
    deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = lasting_exchange(&channel, "x-versioned").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "k.v1", FieldTable::default()).await;
        assert!(publish(&channel, &exchange, "k", b"before", true).await.unwrap().is_ack());

        remove(broker, "versioned.wasm");
        let parked = confirming(&connection).await;
        let (code, text) =
            refusal(&publish(&parked, &exchange, "k", b"while parked", false).await.unwrap_err());
        assert_eq!(code, 406);
        assert!(text.contains(exchange.as_str()) && text.contains("x-versioned"), "{text}");
        // Others do not notice.
        let direct = ShortString::from("");
        assert!(publish(&channel, &direct, queue.as_str(), b"beside", true).await.unwrap().is_ack());

        deploy(broker, Way::Renamed, "versioned_v1", "versioned.wasm");
        assert!(publish(&channel, &exchange, "k", b"after", true).await.unwrap().take_message().is_none());
        assert_eq!(drain(&channel, &queue).await, [b"before".as_slice(), b"beside", b"after"]);
    });
}

#[test]
fn dead_letters_wait_for_a_parked_exchange() {
    let broker = started();
    deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = lasting_exchange(&channel, "x-versioned").await;
        let dead = own_queue(&channel).await;
        bind(&channel, &dead, &exchange, "k.v1", FieldTable::default()).await;
        let dead_lettering =
            texts(&[("x-dead-letter-exchange", exchange.as_str()), ("x-dead-letter-routing-key", "k")]);
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let work = channel.queue_declare("".into(), options, dead_lettering).await.unwrap().name().clone();
        remove(broker, "versioned.wasm");
        for body in [b"1", b"2"] {
            publish(&channel, &"".into(), work.as_str(), body, true).await.unwrap();
            let delivery = get(&channel, &work, false).await.unwrap();
            delivery.acker.reject(BasicRejectOptions { requeue: false }).await.unwrap();
        }
        assert_eq!((ready(&channel, &work).await, ready(&channel, &dead).await), (0, 0));

        deploy(broker, Way::Renamed, "versioned_v1", "versioned.wasm");
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consuming = channel.basic_consume(dead.clone(), "".into(), options, FieldTable::default());
        let mut consumer = consuming.await.unwrap();
        // Each is tried again in its own time.
        let mut bodies =
            [consumer.next().await, consumer.next().await].map(|next| next.unwrap().unwrap().data);
        bodies.sort();
        assert_eq!(bodies, [b"1", b"2"]);
        assert_eq!(ready(&channel, &work).await, 0);
    });
}
