//! A broker in which version 1 serves, its folder of candidates, and its commands.

use super::asking::{BINARY, get};
use super::deploy::{Way, deploy};
use super::session::*;
use lapin::Channel;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, guests, log_lines, process, unique_name};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// The file of the plugin.
pub(crate) const FILE: &str = "versioned.wasm";

/// A broker in which version 1 serves.
pub(crate) fn started() -> Broker {
    let broker = Broker::start(BINARY);
    deploy(&broker, Way::Renamed, "versioned_v1", FILE);
    broker
}

pub(crate) fn candidate_file(broker: &Broker) -> PathBuf {
    broker.plugins_directory().join("candidates").join(FILE)
}

pub(crate) fn guest_bytes(guest: &str) -> Vec<u8> {
    fs::read(guests::component(guest)).unwrap()
}

/// Puts these bytes into the folder of candidates, and gives the line of the log that is awaited.
pub(crate) fn try_bytes(broker: &Broker, bytes: &[u8], awaited: &str) -> String {
    let (aside, before) = (broker.aside().join("written-aside"), broker.log_length());
    fs::write(&aside, bytes).unwrap();
    fs::rename(aside, candidate_file(broker)).unwrap();
    let line = broker.wait_for_log_after(before, awaited, EVENT_WAIT_MAX);
    assert!(line.contains(FILE), "the line does not name the file: {line}");
    line
}

/// Puts a guest there and waits until it is in shadow.
pub(crate) fn try_out(broker: &Broker, guest: &str) {
    try_bytes(broker, &guest_bytes(guest), log_lines::CANDIDATE_TAKEN);
}

/// `leveret plugin …`, which must end with that code. Gives what it prints, errors included.
pub(crate) fn plugin(broker: &Broker, arguments: &[&str], code: i32) -> String {
    let mut command = Command::new(BINARY);
    for variable in ["LEVERET_DATA_DIR", "LEVERET_CONFIG", "LEVERET_PASSWORD"] {
        command.env_remove(variable);
    }
    command.arg("plugin").args(arguments).arg("--data-dir").arg(broker.data_directory());
    let finished = process::run(&mut command, EVENT_WAIT_MAX).expect("the program is there");
    assert_eq!(finished.status.code(), Some(code), "{}", finished.report());
    finished.stdout + &finished.stderr
}

/// All that the API tells of the only candidate.
pub(crate) fn candidate(broker: &Broker) -> Value {
    let told = get(broker, "plugins-candidates");
    let all = told.as_array().unwrap();
    assert_eq!(all.len(), 1, "{told}");
    all[0].clone()
}

/// Asks until the candidate is as it should be; each question is a round trip, and there is a limit.
pub(crate) fn await_candidate(broker: &Broker, is: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let told = candidate(broker);
        if is(&told) {
            return told;
        }
        assert!(began.elapsed() < EVENT_WAIT_MAX, "{told}");
    }
}

/// A durable exchange of the type, which does not go with its last binding.
pub(crate) async fn lasting_exchange(channel: &Channel) -> ShortString {
    let name = ShortString::from(unique_name("exchange"));
    let kind = lapin::ExchangeKind::Custom("x-versioned".into());
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(name.clone(), kind, options, FieldTable::default()).await.unwrap();
    name
}

/// An exchange with a queue that gets these keys from version 1 and one that gets them from version 2. The
/// channel's worker has an instance for it.
pub(crate) async fn exchange_of(channel: &Channel, keys: &[&str]) -> (ShortString, ShortString, ShortString) {
    let exchange = lasting_exchange(channel).await;
    let (first, second) = (own_queue(channel).await, own_queue(channel).await);
    for key in keys {
        bind(channel, &first, &exchange, &format!("{key}.v1"), FieldTable::default()).await;
        bind(channel, &second, &exchange, &format!("{key}.v2"), FieldTable::default()).await;
    }
    assert!(!publish(channel, &exchange, "to nobody", b"", false).await.unwrap().is_nack());
    (exchange, first, second)
}

/// Publishes a message that must be confirmed and must not come back.
pub(crate) async fn publish_routed(channel: &Channel, exchange: &ShortString, key: &str, body: &[u8]) {
    let confirmation = publish(channel, exchange, key, body, true).await.unwrap();
    assert!(confirmation.is_ack(), "{confirmation:?}");
    assert!(confirmation.take_message().is_none(), "{key} was routed to nowhere");
}

pub(crate) async fn ready(channel: &Channel, queue: &ShortString) -> u32 {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await.unwrap().message_count()
}
