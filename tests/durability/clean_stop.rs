//! SIGTERM: nothing is lost, and nothing is marked that nobody had.

use crate::{BINARY, session, simple};
use lapin::{
    options::{BasicAckOptions, ExchangeDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use leveret_testkit::{Broker, EVENT_WAIT_MAX};
use session::on_broker;

#[test]
fn what_nobody_had_is_not_marked_and_what_somebody_had_is() {
    let broker = Broker::start(BINARY);
    on_broker(&broker, async |broker| {
        let (connection, channel) = simple::connect(broker).await;
        simple::declare(&channel).await;
        for number in 0..20 {
            // One of them has a file of its own.
            simple::publish(&channel, number, if number == 9 { 300_000 } else { 200 }, true).await;
        }
        simple::publish(&channel, 20, 200, false).await;
        let mut tags = Vec::new();
        for number in 0..4 {
            let delivery = session::get(&channel, &simple::QUEUE.into(), false).await.unwrap();
            assert_eq!((simple::number_of(&delivery), delivery.redelivered), (number, false));
            tags.push(delivery.delivery_tag);
        }
        channel.basic_ack(tags[1], BasicAckOptions { multiple: false }).await.unwrap();
        connection.close(200, "done".into()).await.unwrap();
    });
    let mut expected: Vec<(u32, bool)> = (0..20).map(|number| (number, number < 4)).collect();
    expected.remove(1);
    // Twice: what was there before and not touched is not marked the second time either.
    let broker = broker.stop_for_a_while().start().stop_for_a_while().start();
    on_broker(&broker, async |broker| {
        let (connection, channel) = simple::connect(broker).await;
        assert_eq!(simple::drain(&channel).await, expected);
        connection.close(200, "done".into()).await.unwrap();
    });
    let broker = broker.stop_for_a_while().start();
    on_broker(&broker, async |broker| {
        let (_connection, channel) = simple::connect(broker).await;
        assert_eq!(simple::drain(&channel).await, [], "what was acked is gone");
    });
}

#[test]
fn a_client_that_is_there_when_the_broker_stops_loses_nothing() {
    let broker = Broker::start(BINARY);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // It stays connected, and has messages, while the broker stops.
    let client = runtime.block_on(async {
        let (connection, channel) = simple::connect(&broker).await;
        simple::declare(&channel).await;
        for number in 0..6 {
            simple::publish(&channel, number, 100, true).await;
        }
        for number in 0..3 {
            let delivery = session::get(&channel, &simple::QUEUE.into(), false).await.unwrap();
            assert_eq!(simple::number_of(&delivery), number);
        }
        (connection, channel)
    });
    let broker = broker.stop_for_a_while().start();
    drop(client);
    on_broker(&broker, async |broker| {
        let (_connection, channel) = simple::connect(broker).await;
        let expected: Vec<_> = (0..6).map(|number| (number, number < 3)).collect();
        assert_eq!(simple::drain(&channel).await, expected);
    });
}

#[test]
fn a_message_that_is_held_comes_after_the_start() {
    let broker = Broker::start(BINARY);
    on_broker(&broker, async |broker| {
        let (connection, channel) = simple::connect(broker).await;
        simple::declare(&channel).await;
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-delayed-type".into(), AMQPValue::LongString("fanout".into()));
        let (name, kind) =
            (ShortString::from("later"), lapin::ExchangeKind::Custom("x-delayed-message".into()));
        channel.exchange_declare(name.clone(), kind, options, arguments).await.unwrap();
        session::bind(&channel, &simple::QUEUE.into(), &name, "", FieldTable::default()).await;
        let mut headers = FieldTable::default();
        headers.insert("x-delay".into(), AMQPValue::LongInt(1500));
        for (number, persistent) in [(7, true), (8, false)] {
            let properties = lapin::BasicProperties::default()
                .with_message_id(number.to_string().into())
                .with_delivery_mode(if persistent { 2 } else { 1 })
                .with_headers(headers.clone());
            let body = simple::body(number, 50);
            let sent = session::publish_with(&channel, &name, "", &body, Default::default(), properties);
            assert!(sent.await.unwrap().is_ack());
        }
        connection.close(200, "done".into()).await.unwrap();
    });
    let broker = broker.stop_for_a_while().start();
    on_broker(&broker, async |broker| {
        let (_connection, channel) = simple::connect(broker).await;
        let options = lapin::options::BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = channel.basic_consume(simple::QUEUE.into(), "".into(), options, FieldTable::default());
        let mut consumer = consumer.await.unwrap();
        let next = tokio::time::timeout(EVENT_WAIT_MAX, futures_util::StreamExt::next(&mut consumer)).await;
        let delivery = next.expect("it is not lost").unwrap().unwrap();
        assert_eq!((simple::number_of(&delivery), delivery.redelivered), (7, false));
        // Of the same time and transient: if it were there it would have come with the other.
        assert_eq!(simple::drain(&channel).await, []);
    });
}
