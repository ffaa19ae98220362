//! What is fuzzed by hand holds in every run for the inputs that were kept, and for many others that are close.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, unreachable_pub, reason = "the library of the fuzzing is a part of this test")]

#[path = "../fuzz/src/amqp10.rs"]
mod amqp10;
#[path = "../fuzz/src/checks.rs"]
mod checks;
#[path = "../fuzz/src/filter.rs"]
mod filter;
#[path = "../fuzz/src/seeds.rs"]
mod seeds;

use proptest::prelude::*;
use std::fs;

const TARGETS: [&str; 12] = [
    "frames",
    "method",
    "table",
    "content",
    "session",
    "journal",
    "values10",
    "frames10",
    "message10",
    "sasl10",
    "connection10",
    "filter",
];

/// The kept inputs of a target, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = leveret_testkit::workspace().join("tests/fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = files
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn the_corpus_has_what_our_encoders_make_now() {
    for (target, name, bytes) in seeds::all() {
        let kept = corpus(target).into_iter().find(|(kept, _)| *kept == name);
        assert!(
            kept.is_some_and(|(_, kept)| kept == bytes),
            "{target}/{name}: cargo run --bin seed in tests/fuzz"
        );
    }
}

#[test]
fn every_target_holds_for_its_corpus() {
    for target in TARGETS {
        let inputs = corpus(target);
        assert!(!inputs.is_empty(), "{target} has no corpus");
        let check = checks::named(target).unwrap();
        inputs.iter().for_each(|(_, bytes)| check(bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn every_target_holds_near_its_corpus(
        target in prop::sample::select(&TARGETS),
        of in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
        is_cut in prop::bool::weighted(0.2),
    ) {
        let inputs = corpus(target);
        let mut bytes = inputs[of.index(inputs.len())].1.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(end.index(bytes.len()));
        }
        checks::named(target).unwrap()(&bytes);
    }
}
