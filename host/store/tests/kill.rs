//! A process that publishes and acks with real files is killed, again and again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, content, numbers, read_all};
use leveret_store::{
    Config, Done, Failed, Group, Range, Refused, Store, Sync, disk::real::RealDisk, disk::sim::Dice,
};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

const CHILD: &str = "LEVERET_STORE_TEST_CHILD";

fn config() -> Config {
    Config {
        segment_bytes: 256 * 1024,
        own_segment_bytes: 64 * 1024,
        batch_bytes: 32 * 1024,
        ..common::small()
    }
}

fn open(path: &Path) -> (Store, leveret_store::Report) {
    Store::open(Arc::new(RealDisk::open(path).unwrap()), config()).unwrap()
}

/// Says what it hears, before anything else can happen to it.
struct Says;

impl Done for Says {
    fn done(&self, token: u64, outcome: Result<(), Failed>) {
        assert_eq!(outcome, Ok(()));
        let line = format!("\n+{token}.\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

/// Publishes from a number on until it is killed; acks every third message a little later.
fn child(path: &Path, from: u64) {
    let (store, _) = open(path);
    let done: Arc<dyn Done> = Arc::new(Says);
    let mut group = Group::default();
    group.create(QUEUE);
    let submit = |group: &mut Group, token: u64| {
        while let Err(refused) = store.submit(group, Sync::Always, Some((&done, token))) {
            assert_eq!(refused, Refused::Behind);
            std::thread::yield_now();
        }
        group.clear();
    };
    for number in from.. {
        group.enqueue(&[&content(number)], false, &[(QUEUE, number)]);
        submit(&mut group, number * 2);
        if number % 3 == 0 && number >= from + 30 {
            group.ack(QUEUE, &[Range { first: number - 30, count: 1 }]);
            submit(&mut group, (number - 30) * 2 + 1);
        }
    }
}

#[test]
fn what_was_confirmed_survives_kill_9() {
    if let Ok(argument) = std::env::var(CHILD) {
        let (from, path) = argument.split_once(' ').unwrap();
        return child(Path::new(path), from.parse().unwrap());
    }
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("kill-{}", std::process::id()));
    let (mut dice, mut next) = (Dice::new(1), 0);
    let (mut confirmed, mut acked) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_confirmed_survives_kill_9", "--nocapture"])
            .env(CHILD, format!("{next} {}", path.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let enough = 50 + dice.below(1500);
        let mut heard = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut hear = |line: String| {
            let token = line.strip_prefix('+').and_then(|line| line.strip_suffix('.'));
            if let Some(token) = token.and_then(|token| token.parse::<u64>().ok()) {
                if token % 2 == 0 {
                    confirmed.insert(token / 2)
                } else {
                    acked.insert(token / 2)
                };
                return 1;
            }
            0
        };
        for line in lines.by_ref() {
            heard += hear(line);
            if heard == enough {
                child.kill().unwrap();
                break;
            }
        }
        // What it said before it was killed counts too.
        for line in lines {
            hear(line);
        }
        child.wait().unwrap();
        let (store, report) = open(&path);
        assert!(report.is_sound() && !report.clean, "round {round}: {report:?}");
        let found = read_all(&store, QUEUE);
        assert!(found.values().all(|(_, redelivered)| *redelivered), "round {round}");
        let there: std::collections::BTreeSet<u64> = numbers(&found).into_iter().collect();
        assert_eq!(there.len(), found.len());
        // An ack that was not confirmed may have been safe all the same.
        let may_be_acked = |number: &u64| number.is_multiple_of(3);
        let lost: Vec<_> = confirmed.difference(&there).filter(|number| !may_be_acked(number)).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} were confirmed");
        let back: Vec<_> = acked.intersection(&there).collect();
        assert!(back.is_empty(), "round {round}: {back:?} are back");
        next = there.last().map_or(next, |last| last + 1).max(confirmed.last().map_or(0, |last| last + 1));
        drop(store);
    }
    assert!(confirmed.len() > 500 && acked.len() > 20, "{} {}", confirmed.len(), acked.len());
    std::fs::remove_dir_all(path).unwrap();
}
