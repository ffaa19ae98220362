//! A message at which the broker ends each time: after some times it is given to nobody, and the rest is served.

use crate::{BINARY, session, simple};
use futures_util::StreamExt as _;
use lapin::{
    Channel, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions, QueuePurgeOptions},
    types::{AMQPValue, FieldTable},
};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, WatchedDisk};
use serde_json::{Value, json};
use simple::{QUEUE, number_of};

const MESSAGES: u32 = 5;
/// The number of the third message in its queue.
const POISON: u64 = 2;
/// Until the broker notes what it has in hand.
const ENDS_UNNOTED: u32 = 2;
/// One end that names the burst, and two that name the message.
const ENDS_NOTED: u32 = 3;

fn suspects(broker: &Broker) -> Value {
    let url = format!("http://{}/api/store", broker.http_address());
    let request = ureq::get(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
    let body = request.call().unwrap().into_body().read_to_vec().unwrap();
    serde_json::from_slice::<Value>(&body).unwrap()["suspects"].take()
}

async fn prepare(broker: &Broker, kind: &str) {
    let (_connection, channel) = simple::connect(broker).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(QUEUE.into(), options, arguments).await.unwrap();
    for number in 1..=MESSAGES {
        simple::publish(&channel, number, 10, true).await;
    }
}

async fn consume(channel: &Channel) -> lapin::Result<Consumer> {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await
}

/// Consumes until the broker ends.
async fn meet_poison(broker: &Broker) {
    let (_connection, channel) = simple::connect(broker).await;
    let Ok(mut consumer) = consume(&channel).await else { return };
    if let Some(Ok(delivery)) = consumer.next().await {
        panic!("message {} came", number_of(&delivery));
    }
}

fn a_message_at_which_the_broker_ends_is_given_up(kind: &str) {
    let disk = WatchedDisk::new();
    let mut broker = disk.watch(Broker::builder(BINARY)).start();
    session::on_broker(&broker, async |broker| prepare(broker, kind).await);
    for _ in 0..ENDS_UNNOTED {
        broker = broker.kill_for_a_while().start();
    }
    disk.end_at(POISON);
    for _ in 0..ENDS_NOTED {
        session::on_broker(&broker, async |broker| meet_poison(broker).await);
        broker = broker.kill_for_a_while().start();
    }
    broker.wait_for_log("message 2 of queue 'q' in virtual host '/' was in hand", EVENT_WAIT_MAX);
    session::on_broker(&broker, async |broker| {
        let (connection, channel) = simple::connect(broker).await;
        let mut consumer = consume(&channel).await.unwrap();
        for number in [1, 2, 4, 5] {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(number_of(&delivery), number, "{kind}");
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
        connection.close(200, "done".into()).await.unwrap();
    });
    let told = suspects(&broker);
    let told = told.as_array().unwrap().iter().find(|suspect| suspect["message"] == 2).unwrap();
    let told = ["queue", "crashes", "set_aside"].map(|field| &told[field]);
    assert_eq!(told, [&json!(QUEUE), &json!(3), &json!(true)]);

    // So it is after a clean stop, and until somebody purges.
    let broker = broker.stop_for_a_while().start();
    session::on_broker(&broker, async |broker| {
        let (_connection, channel) = simple::connect(broker).await;
        assert_eq!(simple::drain(&channel).await, []);
        let purged = channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await.unwrap();
        assert_eq!(purged, 1);
    });
    let broker = broker.stop_for_a_while().start();
    assert_eq!(suspects(&broker), json!([]));
}

#[test]
fn a_message_of_a_classic_queue_at_which_the_broker_ends_is_given_up() {
    a_message_at_which_the_broker_ends_is_given_up("classic");
}

#[test]
fn a_message_of_a_quorum_queue_without_dead_letters_is_given_up_too() {
    a_message_at_which_the_broker_ends_is_given_up("quorum");
}

/// What clients had when the broker was killed is none of its doing.
#[test]
fn what_only_clients_have_is_never_given_up() {
    let mut broker = Broker::builder(BINARY).start();
    session::on_broker(&broker, async |broker| prepare(broker, "classic").await);
    for _ in 0..8 {
        session::on_broker(&broker, async |broker| {
            let (_connection, channel) = simple::connect(broker).await;
            let mut consumer = consume(&channel).await.unwrap();
            for number in 1..=MESSAGES {
                assert_eq!(number_of(&consumer.next().await.unwrap().unwrap()), number);
            }
        });
        broker = broker.kill_for_a_while().start();
    }
    broker.wait_for_log("it notes what it hands out", EVENT_WAIT_MAX);
    assert_eq!(suspects(&broker), json!([]));
}
