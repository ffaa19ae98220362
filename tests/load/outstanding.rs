//! What has not come when a load ends counts, whatever the messages went through.

use super::{bench_at, number};
use leveret_testkit::{Broker, Relay};
use serde_json::Value;

/// Messages a second.
const RATE: f64 = 1000.0;
const SECONDS: f64 = 2.0;
/// A connection carries about a third of what the load sends in that time; the consumers' stand still then, for good.
const CARRIED_BYTES: u64 = 60_000;

/// The report of that load through a relay that stands still in the middle.
fn stalled(load: &str) -> (Value, String) {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let relay = Relay::that_stands_still(broker.address(), CARRIED_BYTES);
    let words = format!("-r {RATE} -s 64 -t {SECONDS} --warm-up 0 {load}");
    let finished = bench_at(relay.address(), &words);
    assert!(finished.status.success(), "{}", finished.report());
    (serde_json::from_str(&finished.stdout).expect("a line of JSON"), finished.stderr)
}

#[test]
fn what_a_broker_that_stands_still_does_not_deliver_is_in_the_percentiles() {
    // How many copies of each message are to come, and of how many of the messages.
    for (load, copies) in [
        ("", 1.0),
        ("-e topic --binding a.{}.* --bindings 10 --key a.{10}.{} -k 100", 1.0),
        ("-e topic --binding a.{}.* --bindings 10 --key a.{10}.{} --key-order new", 1.0),
        ("-e x-consistent-hash --binding 1 --bindings 2 -q 2 -c 2 -k 100", 1.0),
        ("-e direct -k 2 --bindings 1", 0.5),
        ("-q 4 -c 1", 0.25),
        ("-e fanout --fan-out -q 2 -c 2", 2.0),
        ("-e headers -k 10 --protocol 1.0", 1.0),
    ] {
        let (report, table) = stalled(load);
        let (undelivered, seconds) = (number(&report, "undelivered"), number(&report, "seconds"));
        let came = number(&report, "consumed_per_second") * seconds;
        let to_come = RATE * seconds * copies;
        // What was due in the last moments may not count, and the measuring begins a moment after the sending.
        let is_all = (undelivered + came - to_come).abs() < 0.2 * to_come;
        assert!(undelivered > 0.0 && is_all, "{load}: {to_come} of {report}");
        // The first that did not come was due long before the end.
        let waited = (to_come - came) / to_come * seconds * 1e6;
        assert!(number(&report["latency_us"], "max") > waited / 2.0, "{load}: {report}");
        assert!(number(&report["latency_us"], "p99") > waited / 2.0, "{load}: {report}");
        assert!(table.contains("undelivered at the end"), "{load}: {table}");
    }
}

#[test]
fn what_cannot_be_known_is_said_to_be_unknown() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let words = "-e x-consistent-hash --binding 1 --bindings 2 -q 2 -c 1 -k 100 -t 0.1 --warm-up 0";
    let finished = bench_at(broker.address(), words);
    let report: Value = serde_json::from_str(&finished.stdout).expect("a line of JSON");
    assert_eq!(report["undelivered"], Value::Null, "{report}");
    assert!(finished.stderr.contains("not known, and in no percentile"), "{}", finished.stderr);
    // What leads nowhere is told, and is not undelivered.
    let words = "-e direct -k 3 --bindings 1 -c 0 -t 0.1 --warm-up 0";
    let finished = bench_at(broker.address(), words);
    let report: Value = serde_json::from_str(&finished.stdout).expect("a line of JSON");
    assert_eq!((&report["undelivered"], &report["keys_unbound"]), (&0.into(), &2.into()), "{report}");
    assert!(finished.stderr.contains("keys without a binding"), "{}", finished.stderr);
}
