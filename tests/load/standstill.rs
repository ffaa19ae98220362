//! A load that is interrupted while the broker stands still: it ends, says what it measured, and what it left.

use super::LOAD_MAX;
use super::scripted::{self, Then};
use leveret_amqp091::Method;
use leveret_testkit::ScratchDirectory;
use leveret_testkit::process::{self, Finished};
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs that load on a broker that stands still, all of it and for good, from the first method that `is_it` says; and
/// interrupts the load then.
fn interrupted_at(is_it: fn(&Method<'_>) -> bool, words: &str) -> Finished {
    let scratch = ScratchDirectory::new("standstill");
    let process_file = scratch.path().join("process");
    let (stands_still, of_process) = (Arc::new(AtomicBool::new(false)), process_file.clone());
    let address = scripted::start(131_072, move || {
        let (stands_still, of_process) = (Arc::clone(&stands_still), of_process.clone());
        move |method: &Method<'_>, _: &mut Vec<u8>| {
            if is_it(method) && !stands_still.swap(true, Ordering::SeqCst) {
                let process = fs::read_to_string(&of_process).unwrap();
                assert!(Command::new("kill").args(["-INT", process.trim()]).status().unwrap().success());
            }
            if stands_still.load(Ordering::SeqCst) { Then::StandStill } else { Then::GoOn }
        }
    });
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ >\"$0\"; exec \"$@\""]).arg(&process_file);
    command.arg(env!("CARGO_BIN_EXE_leveret")).arg("bench").args(words.split_whitespace());
    command.env("LEVERET_BENCH_ADDRESS", address.to_string());
    process::run(&mut command, LOAD_MAX).expect("a shell is there")
}

/// Such a load ends as one that was interrupted; its report, if it has one.
fn ends(is_it: fn(&Method<'_>) -> bool, words: &str) -> (Option<Value>, String) {
    let finished = interrupted_at(is_it, words);
    assert_eq!(finished.status.code(), Some(130), "{words}: {}", finished.report());
    assert!(finished.stderr.contains("interrupted"), "{words}: {}", finished.report());
    (serde_json::from_str(&finished.stdout).ok(), finished.stderr)
}

#[test]
fn a_load_that_is_interrupted_while_it_prepares_ends() {
    let logs_in: fn(&Method<'_>) -> bool = |method| matches!(method, Method::ConnectionStartOk { .. });
    let opens: fn(&Method<'_>) -> bool = |method| matches!(method, Method::ChannelOpen {});
    let declares: fn(&Method<'_>) -> bool = |method| matches!(method, Method::QueueDeclare { .. });
    let consumes: fn(&Method<'_>) -> bool = |method| matches!(method, Method::BasicConsume { .. });
    // Whether something may be left of it.
    let loads = [
        (logs_in, "-t 1000", false),
        (opens, "-t 1000 -e topic", false),
        (declares, "-t 1000", true),
        (consumes, "-t 1000", true),
        (logs_in, "churn queues -t 1000", false),
        (logs_in, "idle messages --broker-pid 1", false),
    ];
    std::thread::scope(|scope| {
        for (is_it, words, is_left) in loads {
            scope.spawn(move || {
                let (report, told) = ends(is_it, words);
                assert_eq!(report, None, "{words}");
                assert_eq!(told.contains("may still be there"), is_left, "{words}: {told}");
            });
        }
    });
}

#[test]
fn a_load_that_is_interrupted_in_its_midst_says_what_it_measured() {
    let publishes: fn(&Method<'_>) -> bool = |method| matches!(method, Method::BasicPublish { .. });
    let deletes: fn(&Method<'_>) -> bool = |method| matches!(method, Method::QueueDelete { .. });
    let loads = [
        (publishes, "-t 1000 --warm-up 0", "publish", true),
        (publishes, "-t 1000 --warm-up 0 -r 1000 --confirm 10 -e fanout", "publish", true),
        (deletes, "churn queues -t 1000", "came and went", false),
    ];
    std::thread::scope(|scope| {
        for (is_it, words, row, is_left) in loads {
            scope.spawn(move || {
                let (report, told) = ends(is_it, words);
                assert!(report.is_some_and(|report| report["seconds"].is_number()), "{words}: {told}");
                assert!(told.lines().any(|line| line.starts_with(row)), "{words}: {told}");
                assert_eq!(told.contains("may still be there"), is_left, "{words}: {told}");
            });
        }
    });
}
