//! What a plugin shows and sees: time, chance, log, metrics, queues.

use crate::*;
use lapin::options::BasicConsumeOptions;
use std::time::{SystemTime, UNIX_EPOCH};

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

#[test]
fn the_clock_shows_the_time_and_stands_while_a_message_is_decided() {
    on_obeys(async |peer| {
        let before = now_ms();
        let said = peer.ask("now");
        let after = now_ms();
        let (one, two) = said.trim_matches(['(', ')']).split_once(", ").unwrap();
        assert_eq!(one, two);
        assert!((before..=after).contains(&one.parse().unwrap()), "{said} is not in {before}..={after}");
    });
}

#[test]
fn a_seed_makes_chance_repeatable() {
    let vhosts = ["seven", "seven-too", "eight", "unseeded"];
    let mut configuration = format!("vhosts = {vhosts:?}\n{}", all_granted());
    for (vhost, seed) in [("seven", 7), ("seven-too", 7), ("eight", 8)] {
        configuration += &format!("[vhost.{vhost}.plugins.obeys]\nrandom-seed = {seed}\n");
    }
    let (broker, _kept) = start(&configuration, &[]);
    on_broker(&broker, async |broker| {
        let mut series = Vec::new();
        for vhost in vhosts {
            let peer = Peer::connect(broker, vhost, "x-obeys").await;
            assert_eq!(peer.ask("bytes 16"), "16");
            assert_eq!(peer.ask("bytes 2000"), "1024", "at most");
            series.push([peer.ask("random"), peer.ask("random")]);
        }
        assert_eq!(series[0], series[1]);
        assert_ne!(series[0], series[2]);
        assert_ne!(series[0], series[3]);
        assert_ne!(series[0][0], series[0][1]);
    });
}

#[test]
fn lines_in_the_log_are_limited_in_number_and_length_and_are_one_line_each() {
    on_obeys(async |peer| {
        peer.queue("").await;
        peer.tell("log 1 5000").await;
        let line = peer.broker.wait_for_log(&"z".repeat(1_024), EVENT_WAIT_MAX);
        assert!(!line.contains(&"z".repeat(1_025)), "longer than it may be");
        assert!(line.contains("plugin=\"obeys\""), "{line}");
        peer.tell("escape").await;
        let line = peer.broker.wait_for_log("red ", EVENT_WAIT_MAX);
        assert!(line.contains("\\u{1b}[31m\\nand a line"), "{line}");
        peer.tell("log 100 7").await;
        // The next line that passes tells of those that did not.
        while !peer.broker.log().contains(" lines before were left out") {
            peer.tell("log 1 3").await;
        }
        let log = peer.broker.log();
        let lines = log.lines().filter(|line| line.contains(&format!(" {} plugin=", "z".repeat(7)))).count();
        assert!((1..=20).contains(&lines), "{lines} lines of 100 passed");
    });
}

#[test]
fn metrics_are_shown_by_name_and_there_are_so_many() {
    on_obeys(async |peer| {
        peer.queue("").await;
        peer.tell("count seen 2;gauge height 7").await;
        peer.tell("count seen 3;gauge height 5").await;
        // As what it was used first it stays.
        peer.tell("gauge seen 99").await;
        let seen = peer.seen("x-obeys");
        assert_eq!(seen["metrics"], json!({"seen": 5.0, "height": 5.0}));
        let long = "n".repeat(65);
        peer.tell(&format!("metrics 70;count {long} 1")).await;
        let seen = peer.seen("x-obeys");
        assert_eq!(seen["metrics"].as_object().unwrap().len(), 64);
        assert_eq!(seen["metrics_ignored"], 2 + 70 - 64 + 1);
    });
}

#[test]
fn the_length_and_the_consumers_of_the_queues_of_bindings_are_seen() {
    on_obeys(async |peer| {
        assert_eq!(peer.ask("queue"), "None", "there is no binding");
        let queue = peer.queue("").await;
        peer.tell("1").await;
        peer.tell("2").await;
        assert_eq!(peer.ask("queue"), "Some((2, 0))");
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumed = peer.channel.basic_consume(queue, "".into(), options, FieldTable::default()).await;
        let _consumer = consumed.unwrap();
        until("they are delivered", || peer.ask("queue") == "Some((0, 1))");
    });
}
