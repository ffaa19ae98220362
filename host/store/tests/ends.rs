//! The last files of the journal go, or lose what they had: a start says so, with real files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, commit, numbers, publish, read_all, small, until};
use leveret_store::{
    Group, OpenError, Problem, Refusal, Report, Store, Sync,
    disk::real::RealDisk,
    inspect::Look,
    record::manifest::{MANIFEST_BYTES, PLACE_BYTES, Read, Record},
};
use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What became of the last segment that was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Removed,
    Zeros,
    /// Its header is there still.
    Emptied,
}

fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("ends-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    path
}

fn open(path: &Path) -> (Store, Report) {
    Store::open(Arc::new(RealDisk::open(path).unwrap()), small()).unwrap()
}

fn named(path: &Path, prefix: &str) -> Vec<String> {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

fn manifest(path: &Path) -> Record {
    let bytes = fs::read(path.join("manifest")).unwrap();
    let places = bytes.chunks(PLACE_BYTES).filter_map(|place| match Record::decode(place) {
        Read::Record(record) => Some(record),
        _ => None,
    });
    places.max_by_key(|record| record.number).unwrap()
}

/// A process that confirmed so many messages and was killed, once it had written down what was synced.
fn killed(path: &Path, messages: u64) {
    let (store, _) = open(path);
    let mut group = Group::default();
    group.create(QUEUE);
    commit(&store, &mut group, Sync::Always).unwrap();
    publish(&store, 0..messages).unwrap();
    let last = store.stat().batches;
    until("the manifest has the last batch", || manifest(path).synced == last);
    drop(store);
}

/// The file of the last segment that has something.
fn last_written(path: &Path) -> PathBuf {
    let has_batches = |name: &&String| {
        let bytes = fs::read(path.join(name)).unwrap();
        bytes[4096..].iter().any(|byte| *byte != 0)
    };
    path.join(named(path, "segment-").iter().rev().find(has_batches).unwrap())
}

fn meet(fate: Fate, file: &Path) {
    if fate == Fate::Removed {
        return fs::remove_file(file).unwrap();
    }
    let from = if fate == Fate::Zeros { 0 } else { 4096 };
    let length = file.metadata().unwrap().len();
    let file = fs::File::options().write(true).open(file).unwrap();
    file.write_all_at(&vec![0; (length - from) as usize], from).unwrap();
}

#[test]
fn the_last_segment_that_is_gone_or_empty_is_told_and_the_rest_serves() {
    for fate in [Fate::Removed, Fate::Zeros, Fate::Emptied] {
        let path = folder(&format!("{fate:?}"));
        killed(&path, 200);
        let last = last_written(&path);
        let name = last.file_name().unwrap().to_str().unwrap().to_owned();
        meet(fate, &last);
        let looked = Look::open(Arc::new(RealDisk::open(&path).unwrap())).unwrap();
        let (store, report) = open(&path);
        assert_eq!(
            format!("{:?}", looked.report()),
            format!("{report:?}").replace(&set_aside(&report), "[]")
        );
        assert!(!report.is_sound() && report.verdict.refusal.is_none(), "{fate:?}: {report:?}");
        let is_told = |problem: &Problem| match (problem, fate) {
            (Problem::SegmentGone { file }, Fate::Removed) => *file == name,
            (Problem::SegmentBlank { file, .. }, Fate::Zeros) => *file == name,
            (Problem::BatchesLost { .. }, Fate::Emptied) => true,
            _ => false,
        };
        assert!(report.problems.iter().any(is_told), "{fate:?}: {report:?}");
        let left = numbers(&read_all(&store, QUEUE));
        let lost = 200 - left.len() as u64;
        assert!(lost > 0 && left == (0..200 - lost).collect::<Vec<_>>(), "{fate:?}: {left:?}");
        assert_eq!(report.verdict.lost.batches, lost, "{fate:?}: one batch a message: {report:?}");
        // It is told once, and what comes is kept.
        publish(&store, 200..210).unwrap();
        drop(store);
        let (store, report) = open(&path);
        assert!(report.is_sound(), "{fate:?}: {report:?}");
        assert_eq!(numbers(&read_all(&store, QUEUE)).len() as u64, 210 - lost);
        if fate != Fate::Removed {
            // Nothing writes to it again.
            let kept: Vec<_> = [named(&path, "damaged-"), named(&path, "set-aside.")].concat();
            let number = name.split_once('-').unwrap().1;
            assert!(kept.iter().any(|kept| kept.ends_with(number)), "{fate:?}: {kept:?}");
        }
        drop(store);
        fs::remove_dir_all(path).unwrap();
    }
}

fn set_aside(report: &Report) -> String {
    format!("{:?}", report.set_aside)
}

#[test]
fn a_segment_that_was_not_written_to_yet_is_missed_too() {
    let path = folder("ready");
    killed(&path, 3);
    let last = named(&path, "segment-").pop().unwrap();
    assert!(
        manifest(&path).segments.contains(&u64::from_str_radix(last.split_once('-').unwrap().1, 16).unwrap())
    );
    fs::remove_file(path.join(&last)).unwrap();
    let (store, report) = open(&path);
    assert!(matches!(&report.problems[..], [Problem::SegmentGone { file }] if *file == last), "{report:?}");
    assert_eq!(numbers(&read_all(&store, QUEUE)), [0, 1, 2]);
    drop(store);
    fs::remove_dir_all(path).unwrap();
}

#[test]
fn without_a_checkpoint_a_missing_end_is_not_served() {
    let path = folder("no-checkpoint");
    killed(&path, 3);
    for name in named(&path, "checkpoint-") {
        fs::remove_file(path.join(name)).unwrap();
    }
    fs::remove_file(last_written(&path)).unwrap();
    match Store::open(Arc::new(RealDisk::open(&path).unwrap()), small()) {
        Err(OpenError::Refused(Refusal::NoCheckpoint { first: 1, last: 4 })) => {}
        other => panic!("{:?}", other.map(|(_, report)| report)),
    }
    fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_store_that_was_closed_misses_no_segment_that_has_nothing() {
    let path = folder("closed");
    let (store, _) = open(&path);
    store.close();
    assert_eq!(manifest(&path).segments, []);
    named(&path, "segment-").iter().for_each(|name| fs::remove_file(path.join(name)).unwrap());
    let (store, report) = open(&path);
    assert!(report.is_sound() && report.clean, "{report:?}");
    drop(store);
    fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_manifest_that_is_damaged_is_told_and_set_aside_and_one_place_is_enough() {
    for both in [false, true] {
        let path = folder(&format!("manifest-{both}"));
        killed(&path, 3);
        let file = fs::File::options().write(true).open(path.join("manifest")).unwrap();
        let older = (manifest(&path).number + 1) % 2 * PLACE_BYTES as u64;
        file.write_all_at(&[7; 100], older).unwrap();
        if both {
            file.write_all_at(&[7; 100], MANIFEST_BYTES - PLACE_BYTES as u64 - older).unwrap();
        }
        let (store, report) = open(&path);
        assert_eq!(report.is_sound(), !both, "{report:?}");
        assert_eq!(report.set_aside, if both { vec!["set-aside.manifest"] } else { vec![] });
        assert_eq!(numbers(&read_all(&store, QUEUE)), [0, 1, 2]);
        drop(store);
        let (store, report) = open(&path);
        assert!(report.is_sound(), "{report:?}");
        drop(store);
        fs::remove_dir_all(path).unwrap();
    }
}
