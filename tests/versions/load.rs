//! Candidates come, answer, go and are promoted while messages flow: none is lost, none comes twice.

use super::bench::*;
use super::session::*;
use lapin::BasicProperties;
use lapin::Channel;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use leveret_testkit::{Broker, EVENT_WAIT_MAX, log_lines};
use std::cell::Cell;
use std::fs;

/// How many keys are published to.
const KEYS: usize = 16;
/// How many messages are published at least after the last change.
const AFTER: u32 = 400;

/// Publishes numbered messages to the keys in turn, in bursts, and at least [`AFTER`] once all is done. Each
/// must be confirmed and none returned. Gives their number.
async fn publish_past(channel: &Channel, exchange: &ShortString, keys: &[&str], done: &Cell<bool>) -> u32 {
    let (mut number, mut after) = (0_u32, 0);
    while after < AFTER {
        let mut confirms = Vec::new();
        for key in keys.iter().cycle().take(3 * KEYS) {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let (body, properties) = (number.to_be_bytes(), BasicProperties::default());
            let published =
                channel.basic_publish(exchange.clone(), (*key).into(), options, &body, properties);
            confirms.push(published.await.unwrap());
            number += 1;
            after += u32::from(done.get());
        }
        for confirm in confirms {
            let confirmation = confirm.await.unwrap();
            assert!(confirmation.is_ack(), "{confirmation:?}");
            assert!(confirmation.take_message().is_none(), "a message was routed to nowhere");
        }
    }
    number
}

/// Waits until the canary has answered for more messages.
async fn await_answered(broker: &Broker, more: u64) {
    let answered = |broker: &Broker| candidate(broker)["canary"]["answered"].as_u64().unwrap();
    let before = answered(broker);
    while answered(broker) < before + more {
        tokio::task::yield_now().await;
    }
}

/// Waits for a line of the log while others go on.
async fn await_log(broker: &Broker, from: usize, line: &str) {
    while !broker.log().lines().skip(from).any(|there| there.contains(line)) {
        tokio::task::yield_now().await;
    }
}

async fn put_candidate(broker: &Broker, guest: &str) {
    let (aside, before) = (broker.aside().join("written-aside"), broker.log_length());
    fs::write(&aside, guest_bytes(guest)).unwrap();
    fs::rename(aside, candidate_file(broker)).unwrap();
    await_log(broker, before, log_lines::CANDIDATE_TAKEN).await;
}

#[test]
fn nothing_is_lost_while_a_candidate_is_tried_withdrawn_and_promoted() {
    let broker = started();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let receiving = connection.create_channel().await.unwrap();
        let keys: Vec<String> = (0..KEYS).map(|n| format!("key.{n}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (exchange, first, second) = exchange_of(&receiving, &keys).await;

        let (done, from) = (Cell::new(false), broker.log_length());
        let trying = async {
            for round in 0..4 {
                put_candidate(broker, "versioned_v2").await;
                plugin(broker, &["canary", "versioned", "--percent", "50"], 0);
                await_answered(broker, 100).await;
                plugin(broker, &["canary", "versioned", "--percent", "80"], 0);
                await_answered(broker, 100).await;
                if round < 3 {
                    plugin(broker, &["withdraw", "versioned"], 0);
                }
            }
            let said = plugin(broker, &["promote", "versioned"], 0);
            assert!(said.contains("version 2.0.0 of plugin versioned (global) serves"), "{said}");
            done.set(true);
        };
        let publishing = publish_past(&channel, &exchange, &keys, &done);
        let (published, ()) = futures_util::future::join(publishing, trying).await;

        let (by_first, by_second) = (drain(&receiving, &first).await, drain(&receiving, &second).await);
        let number = |body: &Vec<u8>| u32::from_be_bytes(body.as_slice().try_into().unwrap());
        let mut all: Vec<u32> = by_first.iter().chain(&by_second).map(number).collect();
        all.sort_unstable();
        assert_eq!(all, (0..published).collect::<Vec<_>>(), "every message exactly once");
        assert!(by_second.iter().map(number).filter(|n| *n >= published - AFTER).count() as u32 == AFTER);
        // One key's messages stay in order wherever they go.
        for bodies in [&by_first, &by_second] {
            for key in 0..KEYS as u32 {
                let numbers: Vec<u32> =
                    bodies.iter().map(number).filter(|n| n % KEYS as u32 == key).collect();
                assert!(numbers.is_sorted(), "key {key}");
            }
        }

        // The folder says what serves: the file was moved, and is found unchanged.
        assert_eq!(fs::read(broker.plugins_directory().join(FILE)).unwrap(), guest_bytes("versioned_v2"));
        assert!(!candidate_file(broker).exists());
        let served = broker.log().lines().skip(from).filter(|l| l.contains(log_lines::PLUGIN_SERVES)).count();
        assert_eq!(served, 0, "nothing was put into service a second time");
    });
    let broker = broker.stop_for_a_while().start();
    broker.wait_for_log(log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
    assert!(plugin(&broker, &["info", "x-versioned"], 0).contains("2.0.0"));
}
