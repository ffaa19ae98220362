//! `leveret bench` against a broker: what it puts on goes through, and it says so.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;
mod outstanding;
mod scripted;
mod shown;
mod standstill;

use leveret_testkit::process::Finished;
use leveret_testkit::{Broker, process};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// For a load that measures for less than a second.
const LOAD_MAX: Duration = Duration::from_secs(120);

/// Runs `leveret bench` on that broker with those words; what it said on standard output and on standard error.
fn bench(broker: &Broker, words: &str) -> (Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.arg("bench").args(words.split_whitespace());
    command.env("LEVERET_BENCH_ADDRESS", broker.address().to_string());
    let finished = process::run_successfully(&mut command, LOAD_MAX).expect("the broker's program is there");
    (serde_json::from_str(&finished.stdout).expect("a line of JSON"), finished.stderr)
}

/// Runs `leveret bench` on the broker at that address with those words, however it ends.
fn bench_at(address: SocketAddr, words: &str) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.arg("bench").args(words.split_whitespace());
    command.env("LEVERET_BENCH_ADDRESS", address.to_string());
    process::run(&mut command, LOAD_MAX).expect("the broker's program is there")
}

/// What it says where a load is refused.
fn refused(broker: &Broker, words: &str) -> String {
    let finished = bench_at(broker.address(), words);
    assert!(!finished.status.success(), "{}", finished.report());
    finished.stderr
}

fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} is missing in {report}"))
}

const BRIEFLY: &str = "--seconds 0.5 --warm-up 0.1";

/// Runs it briefly, and longer where the machine is so busy that nothing came through in that time.
fn bench_until_something_comes(broker: &Broker, words: &str) -> (Value, String) {
    let mut seconds = 0.5;
    loop {
        let (report, table) = bench(broker, &format!("{words} --seconds {seconds} --warm-up 0.1"));
        let comes = |name: &str| report.get(name).is_none_or(|rate| rate.as_f64() > Some(0.0));
        if comes("consumed_per_second") && comes("confirmed_per_second") {
            return (report, table);
        }
        seconds *= 4.0;
        assert!(seconds < LOAD_MAX.as_secs_f64(), "nothing came through: {report}");
    }
}

#[test]
fn messages_go_through_exchanges_of_every_type() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let patterns = "--bindings 20 --binding bench.{}.* --key bench.{20}.{}";
    for (load, bindings) in [
        (String::new(), 0),
        ("-e direct -k 10 -q 2 -c 2".to_owned(), 10),
        ("-e fanout -q 3 -c 3 --fan-out".to_owned(), 3),
        (format!("-e topic -k 100 {patterns}"), 20),
        (format!("-e topic {patterns} --key-order new --idle-bindings 5"), 25),
        (format!("-e topic -k 100 {patterns} --key-order zipf:1.2"), 20),
        ("-e headers -k 10 --key-order random".to_owned(), 10),
        ("-e x-consistent-hash -k 1000 --bindings 4 --binding 1 -q 4 -c 4".to_owned(), 4),
        ("--persistent --queue-type quorum --confirm 100 --ack each".to_owned(), 0),
    ] {
        let (report, _) = bench_until_something_comes(&broker, &load);
        assert_eq!(report["bindings"], bindings, "{load}: {report}");
        assert_eq!(report["refused"], 0, "{load}: {report}");
        assert!(number(&report["latency_us"], "p50") > 0.0, "{load}: {report}");
    }
    // Nothing of it is left.
    let (report, _) = bench(&broker, &format!("-e topic {BRIEFLY}"));
    assert!(number(&report, "consumed_per_second") > 0.0, "{report}");
}

#[test]
fn messages_go_through_by_amqp_1_0() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    for load in [
        "",
        "--confirm 100 --ack each",
        "--confirm 1000 --ack 100 --prefetch 150",
        "-r 5000",
        "-r 5000 --confirm 10 --ack 7 --prefetch 7",
        "--persistent -s 1024 --confirm 200 --ack 50",
        "-q 3 -c 3 -k 3 -p 2",
        "-e topic -k 10",
        "-e topic --bindings 20 --binding bench.{}.* --key bench.{20}.{} --key-order new",
        "-e fanout -q 3 -c 3 --fan-out",
        "-e headers -k 5 --key-order random",
        // More than a frame, in settled and in unsettled transfers.
        "-s 300000",
        "-s 300000 --confirm 20 --ack each --prefetch 5",
    ] {
        let (report, table) = bench_until_something_comes(&broker, &format!("--protocol 1.0 {load}"));
        assert_eq!(report["protocol"], "1.0");
        assert_eq!(report["refused"], 0, "{load}: {report}");
        if load.contains("--confirm") {
            assert!(number(&report["confirm_latency_us"], "p50") > 0.0, "{load}: {report}");
        }
        if !load.contains("300000") {
            assert!(number(&report["latency_us"], "p50") > 0.0, "{load}: {report}");
            assert!(table.contains("publish to delivery"), "{load}: {table}");
        }
    }
    // Nothing of it is left.
    let (report, _) = bench(&broker, BRIEFLY);
    assert_eq!(report["protocol"], "0-9-1");
}

#[test]
fn outcomes_of_amqp_1_0_are_told_from_acceptance() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let nowhere = format!("--protocol 1.0 -e topic --binding other --bindings 1 --confirm 100 {BRIEFLY}");
    let (report, _) = bench(&broker, &nowhere);
    assert!(number(&report, "refused") > 0.0, "{report}");
    assert_eq!((&report["confirmed_per_second"], &report["consumed_per_second"]), (&0.into(), &0.into()));
}

/// Messages that fit into 16 MiB of memory, and no more: who publishes them waits from then on.
fn held_back(more: &str) -> Value {
    const BODY_BYTES: u64 = 64 * 1024;
    const RATE: u64 = 4000;
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret"))
        .argument("--memory-mib=16")
        .argument("--memory-paging-percent=100")
        .http_listen("none")
        .start();
    let load = format!("-c 0 -s {BODY_BYTES} -r {RATE} {more} --seconds 1 --warm-up 0");
    let (report, table) = bench(&broker, &load);
    // Sockets and the broker's own buffers hold some; most of what was due in a second was never sent.
    let unconfirmed = number(&report, "unconfirmed");
    assert!(unconfirmed > RATE as f64 / 2.0, "{report}");
    assert!(table.contains("unconfirmed"), "{table}");
    report
}

#[test]
fn what_a_broker_does_not_take_in_time_counts_as_late() {
    for protocol in ["0-9-1", "1.0"] {
        let report = held_back(&format!("--confirm 100 --protocol {protocol}"));
        // Half of a second's messages are of its first half.
        assert!(number(&report["confirm_latency_us"], "p50") > 200_000.0, "{report}");
        assert!(number(&report["confirm_latency_us"], "max") > 700_000.0, "{report}");
    }
}

#[test]
fn what_no_binding_takes_is_not_consumed() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let (report, _) = bench(&broker, &format!("-e topic --binding other --bindings 1 {BRIEFLY}"));
    assert!(number(&report, "published_per_second") > 0.0, "{report}");
    assert_eq!(report["consumed_per_second"], 0, "{report}");
}

#[test]
fn the_brokers_process_and_what_waits_show() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let process = broker.pid();
    let load = format!("--rate 2000 --confirm 100 --broker-pid {process} {BRIEFLY}");
    let (report, table) = bench(&broker, &load);
    // However short it is.
    assert!(number(&report, "generator_cpu_seconds_per_million") > 0.0, "{report}");
    assert!(number(&report, "broker_memory_bytes") > 1e6, "{report}");
    assert!(number(&report, "broker_cpu_seconds_per_million") >= 0.0, "{report}");
    assert!(number(&report["confirm_latency_us"], "p99") > 0.0, "{report}");
    for row in ["published", "confirmed", "consumed", "publish to confirm", "memory of the broker"] {
        assert!(table.lines().any(|line| line.starts_with(row)), "{row}: {table}");
    }
    let (_, quiet) = bench(&broker, &format!("--quiet {BRIEFLY}"));
    assert_eq!(quiet, "");
}

#[test]
fn things_come_and_go() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    for what in ["connections", "channels", "queues", "bindings", "consumers"] {
        let (report, table) = bench(&broker, &format!("churn {what} --workers 2 --seconds 0.3"));
        assert!(number(&report, "per_second") > 0.0, "{what}: {report}");
        assert!(number(&report["latency_us"], "max") > 0.0, "{what}: {report}");
        assert!(table.starts_with("came and went"), "{table}");
    }
}

#[test]
fn things_that_are_there_take_memory() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let process = broker.pid();
    let loads = [
        ("connections", 50),
        ("connections --protocol 1.0", 50),
        ("queues", 500),
        ("bindings", 500),
        ("messages", 20_000),
    ];
    for (what, count) in loads {
        let words = format!("idle {what} --count {count} --settle 0 --size 100 --broker-pid {process}");
        let (report, table) = bench(&broker, &words);
        assert_eq!(report["count"], count, "{report}");
        assert!(number(&report, "after_bytes") > number(&report, "before_bytes"), "{what}: {report}");
        assert!(table.starts_with("memory of the broker"), "{table}");
    }
    let (report, _) = bench(&broker, BRIEFLY);
    assert!(number(&report, "consumed_per_second") > 0.0, "{report}");
}

#[test]
fn a_load_that_cannot_be_is_refused_with_the_reason() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let (long, almost) = ("k".repeat(256), "k".repeat(254));
    for (load, why) in [
        ("-e no-such-type", "unknown exchange type 'no-such-type'"),
        ("-e topic --key-order new", "say with --binding"),
        ("--key-order often", "an order is turn, random, new, zipf or zipf:EXPONENT"),
        ("-e topic --key a{b}", "between { and } stands nothing or a number above 0"),
        ("--ack 2000", "waits for more messages than --prefetch 1000 allows"),
        ("churn queues --workers 0", "a number from 1 to"),
        ("churn queues -t nan", "a number of seconds from 0 to"),
        ("idle queues --broker-pid 1 --settle nan", "a number of seconds from 0 to"),
        ("-t nan", "a number of seconds from 0 to"),
        ("-t=-1", "a number of seconds from 0 to"),
        ("-t 1e30", "a number of seconds from 0 to"),
        ("-t 0", "less than 0.001 seconds"),
        ("--warm-up inf", "a number of seconds from 0 to"),
        ("-s 9999999999999", "a number from 0 to"),
        ("-c 99999999999999999", "a number from 0 to"),
        ("-r 18446744073709551614", "is not in 1..=100000000"),
        ("-k 99999999999", "a number from 1 to"),
        ("-e fanout --fan-out --bindings 10000 -q 10000", "more than 10000000 bindings"),
        ("--address nowhere", "is a HOST:PORT"),
        ("--fan-out", "--fan-out is for an exchange"),
        ("--key a", "--key is for an exchange"),
        ("--binding a", "--binding is for an exchange"),
        ("--bindings 1", "--bindings is for an exchange"),
        ("--idle-bindings 1", "--idle-bindings is for an exchange"),
        ("-q 3 -k 2", "leave out --keys"),
        ("-e topic -q 3 -k 2", "2 bindings reach 2 of 3 queues"),
        ("--broker-pid 4294967294", "no process 4294967294 here"),
        ("churn queues --protocol 1.0", "what comes and goes is of AMQP 0-9-1"),
        ("idle queues --protocol 1.0 --broker-pid 1", "of AMQP 1.0 there are connections alone"),
        ("--protocol 1.0 --password wrong", "is the password right?"),
        ("--protocol 1.0 --prefetch 0 --ack 5000", "waits for more messages than --prefetch 1000 allows"),
        (&format!("-e topic --key {long}"), "--key makes 256 bytes, and AMQP takes 255"),
        (&format!("-e topic --key {almost}{{}} -k 11"), "--key makes 256 bytes"),
        (&format!("-e topic --key a --binding {long}"), "--binding makes 256 bytes"),
        (&format!("-e {long}"), "--exchange-type makes 256 bytes"),
        (&format!("--vhost {long}"), "AMQP takes 255 bytes, this is 256"),
    ] {
        let said = refused(&broker, load);
        assert!(said.contains(why), "{load}: {said}");
    }
}
