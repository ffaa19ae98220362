//! Types that claim what they do not keep: they are found out by the audit of what is remembered, the log and
//! the list say so, and from then on they are asked each time, so that routing is right.

use super::{asking::get as told_of, *};
use leveret_testkit::process;
use std::{process::Command, time::Instant};

/// Publishes a key until the audit has found the type out, and says how its log line names the exchange.
async fn until_found_out(broker: &Broker, channel: &Channel, exchange: &ShortString, key: &str) -> String {
    const FOUND_OUT: &str = "the type claims to be pure and is not";
    let began = Instant::now();
    // Hits are audited one by one at first, then after twice as many each time.
    while !broker.log().contains(FOUND_OUT) {
        assert!(began.elapsed() < EVENT_WAIT_MAX, "it is not found out");
        assert!(publish(channel, exchange, key, b"x", true).await.unwrap().is_ack());
    }
    broker.wait_for_log(FOUND_OUT, EVENT_WAIT_MAX)
}

async fn unbind(channel: &Channel, queue: &ShortString, exchange: &ShortString, key: &str) {
    let (queue, exchange) = (queue.clone(), exchange.clone());
    channel.queue_unbind(queue, exchange, key.into(), FieldTable::default()).await.unwrap();
}

/// That the claim is withdrawn of this type, as operators see it, and of no other.
fn is_withdrawn_and_no_other(broker: &Broker, type_name: &str) {
    for told in told_of(broker, "plugins").as_array().unwrap() {
        let withdrawn = told["type"] == type_name;
        assert_eq!(told["purity_withdrawn"], withdrawn, "{told}");
        let core = ["direct", "fanout", "topic", "headers"].contains(&told["type"].as_str().unwrap());
        assert!(!core || told["pure"] == true, "{told}");
        assert!(!withdrawn || told["pure"] == false, "{told}");
    }
    let mut list = Command::new(env!("CARGO_BIN_EXE_leveret"));
    list.args(["plugin", "list", "--data-dir"]).arg(broker.data_directory());
    let listed = process::run(&mut list, EVENT_WAIT_MAX).unwrap();
    let rows: Vec<&str> = listed.stdout.lines().filter(|line| line.contains(" withdrawn ")).collect();
    assert!(matches!(rows[..], [row] if row.starts_with(type_name)), "{}", listed.report());
}

/// A type that takes turns though it claims to be pure: the first time that its answer is remembered
/// and used, it is found out; from then on it takes turns.
#[test]
fn about_purity() {
    let broker = with_guest("liar");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-liar").await;
        let queues = [own_queue(&channel).await, own_queue(&channel).await];
        for queue in &queues {
            bind(&channel, queue, &exchange, "key", FieldTable::default()).await;
        }
        until_found_out(broker, &channel, &exchange, "key").await;
        for queue in &queues {
            drain(&channel, queue).await;
        }
        for _ in 0..10 {
            assert!(publish(&channel, &exchange, "key", b"x", true).await.unwrap().is_ack());
        }
        assert_eq!(
            [drain(&channel, &queues[0]).await.len(), drain(&channel, &queues[1]).await.len()],
            [5, 5]
        );
        is_withdrawn_and_no_other(broker, "x-liar");
    });
}

/// A type whose bindings hide from the messages that they are for, so that what is remembered of these stays
/// when they are bound.
#[test]
fn about_marks() {
    let broker = with_guest("lies_about_marks");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-lies-about-marks").await;
        let queues = [own_queue(&channel).await, own_queue(&channel).await];
        bind(&channel, &queues[0], &exchange, "hidden", FieldTable::default()).await;
        // Remembered by now, and found to be right as often as it was looked at.
        for _ in 0..20 {
            assert!(publish(&channel, &exchange, "hidden", b"x", true).await.unwrap().is_ack());
        }
        bind(&channel, &queues[1], &exchange, "hidden", FieldTable::default()).await;
        let line = until_found_out(broker, &channel, &exchange, "hidden").await;
        let named = ["plugin=\"lies_about_marks\"", "exchange_type=x-lies-about-marks", "hidden"];
        assert!(named.iter().all(|word| line.contains(word)) && line.contains(exchange.as_str()), "{line}");
        is_withdrawn_and_no_other(broker, "x-lies-about-marks");
        for queue in &queues {
            drain(&channel, queue).await;
        }
        // Another binding that hides, and one that is gone: at once, for nothing is remembered.
        let third = own_queue(&channel).await;
        bind(&channel, &third, &exchange, "hidden", FieldTable::default()).await;
        unbind(&channel, &queues[0], &exchange, "hidden").await;
        assert!(publish(&channel, &exchange, "hidden", b"right", true).await.unwrap().is_ack());
        for (queue, expected) in [(&queues[0], 0), (&queues[1], 1), (&third, 1)] {
            assert_eq!(drain(&channel, queue).await.len(), expected);
        }
    });
}

/// A type whose bindings depend on each other though it claims that they do not: to what is remembered the
/// new binding is added, though it should take the older one's place.
#[test]
fn about_independence() {
    let broker = with_guest("lies_about_independence");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-lies-about-independence").await;
        let queues = [own_queue(&channel).await, own_queue(&channel).await];
        bind(&channel, &queues[0], &exchange, "key", FieldTable::default()).await;
        for _ in 0..20 {
            assert!(publish(&channel, &exchange, "key", b"x", true).await.unwrap().is_ack());
        }
        bind(&channel, &queues[1], &exchange, "key", FieldTable::default()).await;
        until_found_out(broker, &channel, &exchange, "key").await;
        is_withdrawn_and_no_other(broker, "x-lies-about-independence");
        for queue in &queues {
            drain(&channel, queue).await;
        }
        assert!(publish(&channel, &exchange, "key", b"right", true).await.unwrap().is_ack());
        assert_eq!(
            [drain(&channel, &queues[0]).await.len(), drain(&channel, &queues[1]).await.len()],
            [0, 1]
        );
        unbind(&channel, &queues[1], &exchange, "key").await;
        assert!(publish(&channel, &exchange, "key", b"right", true).await.unwrap().is_ack());
        assert_eq!(
            [drain(&channel, &queues[0]).await.len(), drain(&channel, &queues[1]).await.len()],
            [1, 0]
        );
    });
}
