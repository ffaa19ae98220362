//! What a load does when it does not go as planned: confirms come in odd orders, the broker ends something, somebody
//! interrupts it. And that it is over then, since none of these loads would end by itself within the test's time.

use super::scripted::{self, CHANNEL, Then};
use super::{Finished, bench_at, number};
use leveret_amqp091::{Method, frame::put_method};
use leveret_testkit::Broker;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Longer than any test may run.
const ENDLESS: &str = "-t 100000 --warm-up 0";
const FRAME_MAX: u32 = 131_072;

/// What was declared and deleted on a broker, in order.
type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, method: &Method<'_>) {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let line = match method {
        Method::QueueDeclare { queue, .. } => format!("+{}", text(queue)),
        Method::ExchangeDeclare { exchange, .. } => format!("+{}", text(exchange)),
        Method::QueueDelete { queue, .. } => format!("-{}", text(queue)),
        Method::ExchangeDelete { exchange, .. } => format!("-{}", text(exchange)),
        _ => return,
    };
    log.lock().unwrap().push(line);
}

/// All that was declared was deleted.
fn nothing_is_left(log: &Log) {
    let lines = log.lock().unwrap();
    let of = |sign: char| {
        let mut names: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(sign)).collect();
        names.sort_unstable();
        names
    };
    assert!(!of('+').is_empty());
    assert_eq!(of('+'), of('-'));
}

/// A broker that does `on_publish` at every publish of a connection, of which it gets the number.
fn on_publish(
    log: &Log,
    on_publish: impl Fn(u64, &mut Vec<u8>, &Log) -> Then + Clone + Send + Sync + 'static,
) -> std::net::SocketAddr {
    let log = Arc::clone(log);
    scripted::start(FRAME_MAX, move || {
        let (log, on_publish, mut count) = (Arc::clone(&log), on_publish.clone(), 0);
        move |method: &Method<'_>, out: &mut Vec<u8>| {
            note(&log, method);
            if !matches!(method, Method::BasicPublish { .. }) {
                return Then::GoOn;
            }
            count += 1;
            on_publish(count, out, &log)
        }
    })
}

fn failed(finished: &Finished, why: &str) {
    assert_eq!(finished.status.code(), Some(1), "{}", finished.report());
    assert!(finished.stderr.contains(why), "{}", finished.report());
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.report()))
}

#[test]
fn a_confirm_of_one_message_makes_room_for_one() {
    const WINDOW: u64 = 10;
    for refuses in [false, true] {
        let published = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&published);
        // The last one of the window is confirmed, alone; the others never.
        let address = on_publish(&Log::default(), move |count, out, _| {
            *seen.lock().unwrap() = count;
            if count == WINDOW {
                let (delivery_tag, multiple) = (WINDOW, false);
                let confirm = if refuses {
                    Method::BasicNack { delivery_tag, multiple, requeue: false }
                } else {
                    Method::BasicAck { delivery_tag, multiple }
                };
                put_method(out, CHANNEL, &confirm);
            }
            Then::GoOn
        });
        let finished = bench_at(address, &format!("-c 0 --confirm {WINDOW} -t 0.5 --warm-up 0"));
        assert!(finished.status.success(), "{}", finished.report());
        assert!((1..=WINDOW + 1).contains(&*published.lock().unwrap()), "{published:?}");
    }
}

#[test]
fn an_exchange_that_goes_ends_a_publisher_with_or_without_confirms() {
    for more in ["", "-r 1000", "--confirm 10", "--confirm 10 -r 1000"] {
        let log = Log::default();
        let address = on_publish(&log, |count, out, _| {
            if count == 5 {
                let text = b"NOT_FOUND - no exchange";
                let (class_id, method_id) = (60, 40);
                let close = Method::ChannelClose { reply_code: 404, reply_text: text, class_id, method_id };
                put_method(out, CHANNEL, &close);
            }
            Then::GoOn
        });
        failed(&bench_at(address, &format!("-e fanout -c 0 {more} {ENDLESS}")), "NOT_FOUND - no exchange");
        nothing_is_left(&log);
    }
}

#[test]
fn a_consumer_that_is_cancelled_ends_the_load() {
    let log = Log::default();
    let noted = Arc::clone(&log);
    let address = scripted::start(FRAME_MAX, move || {
        let log = Arc::clone(&noted);
        move |method: &Method<'_>, out: &mut Vec<u8>| {
            note(&log, method);
            if let Method::BasicConsume { consumer_tag, .. } = method {
                put_method(out, CHANNEL, &Method::BasicCancel { consumer_tag, nowait: true });
            }
            Then::GoOn
        }
    });
    failed(&bench_at(address, &format!("-p 0 {ENDLESS}")), "cancelled a consumer");
    nothing_is_left(&log);
}

#[test]
fn a_message_that_the_broker_refuses_ends_the_load_with_its_reason() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    failed(&bench_at(broker.address(), &format!("-s 20000000 {ENDLESS}")), "PRECONDITION_FAILED");
}

#[test]
fn a_broker_that_goes_ends_the_load_at_once() {
    for more in ["", "-r 1000", "--confirm 10", "--confirm 10 -r 1000"] {
        let log = Log::default();
        let address = on_publish(&log, |_, _, _| Then::Drop);
        failed(&bench_at(address, &format!("-c 0 {more} {ENDLESS}")), "broker");
        nothing_is_left(&log);
    }
}

#[test]
fn an_interrupted_load_says_what_it_measured_and_leaves_nothing() {
    let log = Log::default();
    let address = on_publish(&log, |count, _, log| {
        if count == 1000 {
            // Names have the process in them.
            let lines = log.lock().unwrap();
            let process = lines[0].split('.').nth(1).unwrap();
            assert!(Command::new("kill").args(["-INT", process]).status().unwrap().success());
        }
        Then::GoOn
    });
    let finished = bench_at(address, &format!("-e topic -q 2 -k 2 -c 0 --persistent {ENDLESS}"));
    assert_eq!(finished.status.code(), Some(130), "{}", finished.report());
    assert!(finished.stderr.contains("interrupted"), "{}", finished.report());
    let report = json(&finished);
    assert!(number(&report, "seconds") < 100_000.0, "{report}");
    assert_eq!(report["persistent"], true, "{report}");
    nothing_is_left(&log);
}

#[test]
fn things_that_were_made_are_removed_where_it_fails() {
    let none = u32::MAX - 1;
    for what in ["connections", "queues -n 3", "bindings", "messages"] {
        let log = Log::default();
        let on_third = |_: u64, _: &mut Vec<u8>, _: &Log| Then::Drop;
        let address = on_publish(&log, on_third);
        let finished = bench_at(address, &format!("idle {what} --broker-pid {none} --settle 0"));
        failed(&finished, "no process");
        let lines = log.lock().unwrap().clone();
        let left = lines.iter().filter_map(|line| line.strip_prefix('+'));
        left.for_each(|name| assert!(lines.contains(&format!("-{name}")), "{name}: {lines:?}"));
    }
}

#[test]
fn a_broker_is_found_by_name_and_its_limit_of_frames_is_kept() {
    const SMALL: u32 = 65_536;
    let tuned = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&tuned);
    // Frames that are larger are none to this broker: it drops the connection.
    let address = scripted::start(SMALL, move || {
        let seen = Arc::clone(&seen);
        move |method: &Method<'_>, _: &mut Vec<u8>| {
            if let Method::ConnectionTuneOk { frame_max, .. } = method {
                seen.lock().unwrap().push(*frame_max);
            }
            Then::GoOn
        }
    });
    let words = format!("-c 0 -s 100000 -t 0.2 --warm-up 0 --address localhost:{}", address.port());
    let finished = bench_at(address, &words);
    assert!(finished.status.success(), "{}", finished.report());
    let report = json(&finished);
    assert_eq!(report["broker"]["product"], "Scripted", "{report}");
    assert_eq!(report["broker"]["version"], "1.2.3", "{report}");
    let tuned = tuned.lock().unwrap();
    assert!(!tuned.is_empty() && tuned.iter().all(|frame_max| *frame_max == SMALL), "{tuned:?}");
}

#[test]
fn messages_go_round_the_queues() {
    for more in ["", "-e direct", "-e topic --key-order random"] {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let keys = Arc::clone(&seen);
        let address = scripted::start(FRAME_MAX, move || {
            let keys = Arc::clone(&keys);
            move |method: &Method<'_>, _: &mut Vec<u8>| {
                if let Method::BasicPublish { routing_key, .. } = method {
                    keys.lock().unwrap().insert(routing_key.to_vec());
                }
                Then::GoOn
            }
        });
        let finished = bench_at(address, &format!("-q 3 -c 0 {more} -t 0.3 --warm-up 0"));
        assert!(finished.status.success(), "{}", finished.report());
        assert_eq!(seen.lock().unwrap().len(), 3, "{more}");
    }
}
