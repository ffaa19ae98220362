//! Publish, consume, acknowledge, confirm, return.

use super::session::*;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, BasicRejectOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Consumer};
use leveret_testkit::unique_name;

async fn consume(channel: &Channel, queue: &ShortString, options: BasicConsumeOptions) -> Consumer {
    channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await.unwrap()
}

async fn ready_count(channel: &Channel, queue: &ShortString) -> u32 {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await.unwrap().message_count()
}

#[test]
fn a_message_comes_back_as_it_was_sent() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = own_queue(&channel).await;
        let mut headers = texts(&[("text", "ä")]);
        let list =
            FieldArray::from(vec![AMQPValue::ShortShortInt(-1), AMQPValue::Void, AMQPValue::Double(2.5)]);
        for (name, value) in [
            ("boolean", AMQPValue::Boolean(true)),
            ("octet", AMQPValue::ShortShortUInt(200)),
            ("short", AMQPValue::ShortInt(-300)),
            ("long", AMQPValue::LongInt(70_000)),
            ("unsigned", AMQPValue::LongUInt(4_000_000_000)),
            ("long-long", AMQPValue::LongLongInt(i64::MIN)),
            ("float", AMQPValue::Float(0.5)),
            ("timestamp", AMQPValue::Timestamp(1_700_000_000)),
            ("list", AMQPValue::FieldArray(list)),
            ("table", AMQPValue::FieldTable(texts(&[("inner", "x")]))),
        ] {
            headers.insert(name.into(), value);
        }
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("gzip".into())
            .with_headers(headers)
            .with_delivery_mode(2)
            .with_priority(7)
            .with_correlation_id("correlation".into())
            .with_reply_to("reply".into())
            .with_expiration("600000".into())
            .with_message_id("message".into())
            .with_timestamp(1_700_000_000)
            .with_type("kind".into())
            .with_user_id("guest".into())
            .with_app_id("app".into());
        let (default, options) = (ShortString::from(""), BasicPublishOptions::default());
        let confirmed = publish_with(&channel, &default, queue.as_str(), b"{}", options, properties.clone());
        assert!(confirmed.await.unwrap().is_ack());
        let delivery = get(&channel, &queue, true).await.unwrap();
        assert_eq!((delivery.data.as_slice(), delivery.properties), (b"{}".as_slice(), properties));
        assert_eq!(
            (delivery.exchange.as_str(), &delivery.routing_key, delivery.redelivered),
            ("", &queue, false)
        );
    });
}

#[test]
fn ten_thousand_messages_in_order_each_confirmed_once() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let (publisher, receiver) =
            (confirming(&connection).await, connection.create_channel().await.unwrap());
        let queue = own_queue(&receiver).await;
        receiver.basic_qos(500, BasicQosOptions::default()).await.unwrap();
        let mut deliveries = consume(&receiver, &queue, BasicConsumeOptions::default()).await;
        let count: u32 = 10_000;
        let publishing = async {
            let mut confirms = Vec::new();
            for number in 0..count {
                let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
                let body = number.to_be_bytes();
                let published = publisher.basic_publish("".into(), queue.clone(), options, &body, properties);
                confirms.push(published.await.unwrap());
            }
            for confirm in confirms {
                assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
            }
        };
        let receiving = async {
            for number in 0..count {
                let delivery = deliveries.next().await.unwrap().unwrap();
                assert_eq!(delivery.data, number.to_be_bytes());
                if number % 100 == 99 {
                    delivery.ack(BasicAckOptions { multiple: true }).await.unwrap();
                }
            }
        };
        futures_util::future::join(publishing, receiving).await;
        assert_eq!(ready_count(&receiver, &queue).await, 0);
    });
}

#[test]
fn replies_come_without_a_queue() {
    const REPLY_TO: &str = "amq.rabbitmq.reply-to";
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let (asking, serving) = (confirming(&connection).await, confirming(&connection).await);
        let (default, queue) = (ShortString::from(""), own_queue(&serving).await);
        let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut requests = consume(&serving, &queue, no_ack).await;
        let mut replies = consume(&asking, &REPLY_TO.into(), no_ack).await;
        for number in 0..100_u32 {
            let id = ShortString::from(number.to_string());
            let body = number.to_be_bytes();
            let asks =
                BasicProperties::default().with_reply_to(REPLY_TO.into()).with_correlation_id(id.clone());
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            publish_with(&asking, &default, queue.as_str(), &body, options, asks).await.unwrap();
            let request = requests.next().await.unwrap().unwrap();
            let to = request.properties.reply_to().clone().unwrap();
            let answers = BasicProperties::default()
                .with_correlation_id(request.properties.correlation_id().clone().unwrap());
            let confirmation =
                publish_with(&serving, &default, to.as_str(), &request.data, options, answers).await.unwrap();
            assert!(confirmation.is_ack() && confirmation.take_message().is_none());
            let reply = replies.next().await.unwrap().unwrap();
            assert_eq!((&reply.data[..], reply.properties.correlation_id()), (&body[..], &Some(id)));
        }
    });
}

#[test]
fn a_body_larger_than_many_frames() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = own_queue(&channel).await;
        let body: Vec<u8> = (0..1_048_576_u32).map(|place| (place % 251) as u8).collect();
        assert!(publish(&channel, &"".into(), queue.as_str(), &body, false).await.unwrap().is_ack());
        let mut deliveries = consume(&channel, &queue, BasicConsumeOptions::default()).await;
        let delivery = deliveries.next().await.unwrap().unwrap();
        assert!(delivery.data == body, "the body came back changed");
    });
}

#[test]
fn two_hundred_channels() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let mut open = Vec::new();
        for _ in 0..200 {
            let channel = confirming(&connection).await;
            let queue = own_queue(&channel).await;
            open.push((channel, queue));
        }
        for (channel, queue) in &open {
            assert!(
                publish(channel, &"".into(), queue.as_str(), queue.as_str().as_bytes(), false)
                    .await
                    .unwrap()
                    .is_ack()
            );
        }
        for (channel, queue) in open.iter().rev() {
            assert_eq!(drain(channel, queue).await, [queue.as_str().as_bytes()]);
        }
    });
}

#[test]
fn requeued_comes_again_marked() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = own_queue(&channel).await;
        for body in [b"1", b"2", b"3"] {
            publish(&channel, &"".into(), queue.as_str(), body, false).await.unwrap();
        }
        let first = get(&channel, &queue, false).await.unwrap();
        first.nack(BasicNackOptions { requeue: true, multiple: false }).await.unwrap();
        let again = get(&channel, &queue, false).await.unwrap();
        assert_eq!((again.data.as_slice(), again.redelivered), (b"1".as_slice(), true));
        again.reject(BasicRejectOptions { requeue: false }).await.unwrap();
        let second = get(&channel, &queue, false).await.unwrap();
        assert_eq!((second.data.as_slice(), second.redelivered), (b"2".as_slice(), false));
        second.ack(BasicAckOptions::default()).await.unwrap();
        assert_eq!(drain(&channel, &queue).await, [b"3"]);
    });
}

#[test]
fn a_lost_connection_gives_back() {
    on_broker_under_test(async |broker| {
        let keeper = connect(broker).await;
        let channel = confirming(&keeper).await;
        let queue = ShortString::from(unique_name("given-back"));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.clone(), options, FieldTable::default()).await.unwrap();
        publish(&channel, &"".into(), queue.as_str(), b"x", false).await.unwrap();

        let other = connect(broker).await;
        let taking = other.create_channel().await.unwrap();
        assert!(!get(&taking, &queue, false).await.unwrap().redelivered);
        assert_eq!(ready_count(&channel, &queue).await, 0);
        other.close(200, "done".into()).await.unwrap();

        // close-ok comes after the channels of that connection have ended.
        let again = get(&channel, &queue, true).await.unwrap();
        assert!(again.redelivered);
        channel.queue_delete(queue, Default::default()).await.unwrap();
    });
}

#[test]
fn prefetch_holds_the_rest_back() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = own_queue(&channel).await;
        for _ in 0..10 {
            publish(&channel, &"".into(), queue.as_str(), b"x", false).await.unwrap();
        }
        channel.basic_qos(4, BasicQosOptions::default()).await.unwrap();
        let mut deliveries = consume(&channel, &queue, BasicConsumeOptions::default()).await;
        let mut last = None;
        for _ in 0..4 {
            last = Some(deliveries.next().await.unwrap().unwrap());
        }
        assert_eq!(ready_count(&channel, &queue).await, 6);
        last.unwrap().ack(BasicAckOptions { multiple: true }).await.unwrap();
        for _ in 0..4 {
            deliveries.next().await.unwrap().unwrap();
        }
        assert_eq!(ready_count(&channel, &queue).await, 2);
        assert_eq!(channel.queue_purge(queue, QueuePurgeOptions::default()).await.unwrap(), 2);
    });
}

#[test]
fn a_cancelled_consumer_gets_no_more() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = own_queue(&channel).await;
        let consumer = consume(&channel, &queue, BasicConsumeOptions::default()).await;
        assert!(consumer.tag().as_str().starts_with("amq.ctag-"), "{}", consumer.tag());
        channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await.unwrap();
        publish(&channel, &"".into(), queue.as_str(), b"x", false).await.unwrap();
        assert_eq!(ready_count(&channel, &queue).await, 1);
    });
}

#[test]
fn the_broker_cancels_when_the_queue_is_deleted() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = own_queue(&channel).await;
        let mut consumer = consume(&channel, &queue, BasicConsumeOptions::default()).await;
        let other = connection.create_channel().await.unwrap();
        other.queue_delete(queue, Default::default()).await.unwrap();
        assert!(consumer.next().await.is_none(), "the stream of a cancelled consumer ends");
    });
}

#[test]
fn returned_and_then_acknowledged() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let key = unique_name("nobody");
        let direct = ShortString::from("amq.direct");
        let confirmation = publish(&channel, &direct, &key, b"body", true).await.unwrap();
        assert!(confirmation.is_ack());
        // lapin attaches a return to the confirm that follows it: there is none unless it came first.
        let returned = confirmation.take_message().expect("the message is returned before its confirm");
        assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
        assert_eq!(
            (returned.delivery.exchange.as_str(), returned.delivery.routing_key.as_str()),
            ("amq.direct", &*key)
        );
        assert_eq!(returned.delivery.data, b"body");
        assert_eq!(publish(&channel, &direct, &key, b"body", false).await.unwrap(), Confirmation::Ack(None));
    });
}
