//! A directory that an earlier version wrote is read as it was meant. Format 1 had no key.
//!
//! `LEVERET_STORE_WRITE_FIXTURE=1` writes it anew; only a new format has a reason to.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{QUEUE, commit, content, numbers, read_all};
use leveret_store::{
    Config, Group, Payload, QueueId, Range, Reader, Space, Store, Sync, disk::real::RealDisk,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

const FANOUT: QueueId = QueueId(2);
const DELETED: QueueId = QueueId(3);
const SPACE: Space = Space(7);
const CLEARED: Space = Space(8);

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"))
}

fn config() -> Config {
    // As little as can be: the fixture is to be small.
    Config { segment_bytes: 96 * 1024, reserve_segments: 1, checkpoint_bytes: 1 << 30, ..common::small() }
}

fn open(path: &Path) -> (Store, leveret_store::Report) {
    Store::open(Arc::new(RealDisk::open(path).unwrap()), config()).unwrap()
}

fn payload() -> Payload<'static> {
    Payload {
        form: 1,
        flags: 4,
        at_ms: 1_700_000_000_000,
        note: b"note",
        exchange: b"exchange",
        routing_key: b"key",
        properties: b"properties",
        body: b"body",
    }
}

/// Some of it is in the checkpoint, some in the journal after it; every operation is in both.
fn write(path: &Path) {
    let _ = fs::remove_dir_all(path);
    for run in 0..2 {
        let (store, _) = open(path);
        let mut group = Group::default();
        let at = run * 10;
        if run == 0 {
            [QUEUE, FANOUT].into_iter().for_each(|queue| group.create(queue));
        }
        group.create(QueueId(DELETED.0 + run));
        for number in at..at + 5 {
            group.enqueue(&[&content(number)], number == at + 4, &[(QUEUE, number), (FANOUT, number)]);
        }
        let head = payload().head().unwrap();
        group.enqueue(&payload().parts(&head), false, &[(FANOUT, at + 5)]);
        group.enqueue_apart(
            &[b"apart"],
            false,
            (store.next_extent(), Arc::new([7_u8; 1000])),
            &[(FANOUT, at + 6)],
        );
        group.enqueue(&[b"gone"], false, &[(QueueId(DELETED.0 + run), 0)]);
        group.set(SPACE, format!("kept {run}").as_bytes(), b"value", 1_800_000_000_000);
        group.set(SPACE, b"unset", b"value", 0);
        group.set(CLEARED, b"cleared", b"value", 0);
        commit(&store, &mut group, Sync::Always).unwrap();
        group.delivered(QUEUE, &[Range { first: at + 1, count: 1 }]);
        group.ack(QUEUE, &[Range { first: at + 2, count: 1 }]);
        group.delete(QueueId(DELETED.0 + run));
        group.unset(SPACE, b"unset");
        group.clear_space(CLEARED);
        commit(&store, &mut group, Sync::Always).unwrap();
        if run == 0 {
            store.close();
        }
    }
    // Files that are free say nothing of the format.
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("spare-") {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn what_format_1_wrote_is_read() {
    what_a_format_wrote_is_read(1);
}

#[test]
fn what_format_2_wrote_is_read() {
    if std::env::var_os("LEVERET_STORE_WRITE_FIXTURE").is_some() {
        write(&fixture(2));
    }
    what_a_format_wrote_is_read(2);
}

fn what_a_format_wrote_is_read(format: u32) {
    let path =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("format-{format}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    for entry in fs::read_dir(fixture(format)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
    }
    let (store, report) = open(&path);
    assert!(report.is_sound() && !report.clean && report.batches > 0, "{report:?}");
    let found = read_all(&store, QUEUE);
    assert_eq!(numbers(&found), [0, 1, 3, 4, 10, 11, 13, 14]);
    let mut reader = Reader::default();
    let mut seen = Vec::new();
    store.read(&mut reader, (QUEUE, 0), 1 << 20, &mut |item| seen.push((item.sequence, item.deliveries)));
    assert_eq!(seen, [(0, 0), (1, 1), (3, 0), (4, 0), (10, 0), (11, 1), (13, 0), (14, 0)]);
    seen.clear();
    store.read(&mut reader, (FANOUT, 0), 1 << 20, &mut |item| match item.sequence % 10 {
        5 => assert_eq!(Payload::decode(item.payload.unwrap()), Ok(payload())),
        6 => assert_eq!((item.payload, item.body), (Some(&b"apart"[..]), Some(&[7; 1000][..]))),
        _ => {
            assert_eq!(item.payload, Some(&content(item.sequence)[..]));
            seen.push((item.sequence, 0));
        }
    });
    assert_eq!(seen.len(), 10, "acked in one queue, a message stays in the other");
    let mut values = Vec::new();
    store.values(SPACE, |key, value, ends| values.push((key.to_vec(), value.to_vec(), ends)));
    let kept = |key: &str| (key.as_bytes().to_vec(), b"value".to_vec(), 1_800_000_000_000);
    assert_eq!(values, [kept("kept 0"), kept("kept 1")]);
    store.values(CLEARED, |key, _, _| panic!("{key:?} was cleared"));
    let queues: Vec<_> =
        store.queues().into_iter().map(|(queue, messages, next)| (queue.0, messages, next)).collect();
    assert_eq!(queues, [(1, 8, 15), (2, 14, 17)]);
    drop(store);
    fs::remove_dir_all(path).unwrap();
}
