//! Interceptors that take long: on publish, on deliver, on dead-letter.

use crate::*;
use futures_util::StreamExt;
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, BasicNackOptions, QueueDeclareOptions},
    types::LongString,
};

const MESSAGES: u32 = 60;

/// A broker at whose point the slow interceptor is attached.
fn intercepting(point: &str, place: &str) -> (Broker, ScratchDirectory) {
    let configuration = ScratchDirectory::new("slow-interceptors");
    let file = configuration.path().join("leveret.toml");
    let tables = format!(
        "[[intercept]]\ninterceptor = \"consider\"\npoint = \"{point}\"\n{place}\n\
         order = 1\narguments = {{ rounds = {ROUNDS} }}\n"
    );
    fs::write(&file, tables).unwrap();
    let builder = Broker::builder(BINARY).argument("--workers").argument("2").argument("--config");
    (builder.argument(&file).plugin(guests::component("considers")).start(), configuration)
}

fn is_considered(properties: &BasicProperties) -> bool {
    let value = properties.headers().as_ref().and_then(|headers| headers.inner().get("considered"));
    value == Some(&AMQPValue::LongString(LongString::from("yes")))
}

/// Publishes so many messages to a queue, by the default exchange; each is confirmed.
async fn fill(channel: &Channel, queue: &ShortString) {
    let mut confirms = Vec::new();
    for number in 0..MESSAGES {
        confirms.push(send(channel, &"".into(), queue.as_str(), &number.to_be_bytes()).await);
    }
    for confirm in confirms {
        assert!(confirm.await.unwrap().is_ack());
    }
}

async fn named_queue(channel: &Channel, name: &str, arguments: FieldTable) -> ShortString {
    let options = QueueDeclareOptions::default();
    channel.queue_declare(name.into(), options, arguments).await.unwrap().name().clone()
}

#[test]
fn on_publish_messages_keep_their_order() {
    let (broker, _configuration) = intercepting("publish", "");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = named_queue(&channel, "slow-queue", FieldTable::default()).await;
        fill(&channel, &queue).await;
        for number in 0..MESSAGES {
            let got = get(&channel, &queue, true).await.unwrap();
            assert_eq!(got.data, number.to_be_bytes());
            assert!(is_considered(&got.properties));
        }
    });
}

#[test]
fn on_deliver_a_consumer_gets_all_in_order() {
    let (broker, _configuration) = intercepting("deliver", "queue = \"slow-queue\"");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let queue = named_queue(&channel, "slow-queue", FieldTable::default()).await;
        fill(&channel, &queue).await;
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut consumer =
            channel.basic_consume(queue, "".into(), options, FieldTable::default()).await.unwrap();
        for number in 0..MESSAGES {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(delivery.data, number.to_be_bytes());
            assert!(is_considered(&delivery.properties));
        }
    });
}

#[test]
fn on_dead_letter_each_letter_arrives() {
    let (broker, _configuration) = intercepting("dead-letter", "queue = \"slow-queue\"");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let letters = named_queue(&channel, "letters", FieldTable::default()).await;
        bind(&channel, &letters, &"amq.fanout".into(), "", FieldTable::default()).await;
        let arguments = texts(&[("x-dead-letter-exchange", "amq.fanout")]);
        let queue = named_queue(&channel, "slow-queue", arguments).await;
        fill(&channel, &queue).await;
        for _ in 0..MESSAGES {
            let got = get(&channel, &queue, false).await.unwrap();
            got.nack(BasicNackOptions { requeue: false, ..Default::default() }).await.unwrap();
        }
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut consumer =
            channel.basic_consume(letters, "".into(), options, FieldTable::default()).await.unwrap();
        let mut arrived = Vec::new();
        for _ in 0..MESSAGES {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert!(is_considered(&delivery.properties));
            arrived.push(delivery.data);
        }
        arrived.sort();
        assert!(arrived.into_iter().eq((0..MESSAGES).map(|number| number.to_be_bytes().to_vec())));
    });
}
