//! Bodies that look like batches of the journal are bodies, wherever they lie and whenever the process ends.

use crate::{
    Config, Done, Failed, Group, QueueId, Range, Space, Store, Sync,
    disk::sim::SimDisk,
    journal::write::mix_groups,
    record::{
        BLOCK_BYTES,
        frame::{BATCH_HEADER_BYTES, BatchHeader},
        key::Key,
    },
};
use std::sync::{
    Arc,
    mpsc::{Sender, channel},
};

const QUEUE: QueueId = QueueId(1);
const VICTIM: QueueId = QueueId(66);
const SPACE: Space = Space(67);
/// So many segments there are by the end, at least.
const SEGMENTS: u64 = 48;
/// The first batch of a forged segment: no other comes near.
const FAR: u64 = 1 << 40;
const PER_RUN: u64 = 80;

fn config() -> Config {
    Config {
        segment_bytes: 1 << 20,
        own_segment_bytes: 700 * 1024,
        group_bytes_max: 700 * 1024,
        batch_bytes: 64 * 1024,
        pending_bytes_max: 1 << 20,
        checkpoint_bytes: 4 << 20,
        reserve_segments: 1,
        ..Config::default()
    }
}

/// A batch that nobody wrote, a block long: a message for a queue, and a value.
fn forged(segment: u64, number: u64) -> Vec<u8> {
    let mut group = Group::default();
    group.create(VICTIM);
    group.enqueue(&[b"never published"], false, &[(VICTIM, 1)]);
    group.set(SPACE, b"user", b"administrator", 0);
    let (bytes, synced) = (group.len_bytes() as u32, number - 1);
    // Without the key, as whoever has read this would do it.
    let key = Key::default();
    let mut page = BatchHeader { bytes, number, synced, segment, groups: 1 }.encode(key).to_vec();
    group.append_to(&group.header(), &mut page);
    mix_groups(&mut page, key.of_groups(number));
    assert_eq!(page.len(), BATCH_HEADER_BYTES + bytes as usize);
    page.resize(BLOCK_BYTES as usize, 0);
    page
}

/// Who waits for a group.
struct Told(Sender<Result<(), Failed>>);

impl Done for Told {
    fn done(&self, _: u64, outcome: Result<(), Failed>) {
        self.0.send(outcome).unwrap();
    }
}

/// Publishes so many, of which two stay, and ends as a crash of the process does, or a loss of power.
fn live(disk: &Arc<SimDisk>, run: u64, body: &[u8]) {
    let (store, report) = Store::open(disk.clone(), config()).unwrap();
    assert!(report.is_sound(), "run {run}: {report:?}");
    let there = || store.queues().iter().map(|(queue, ..)| *queue).collect::<Vec<_>>();
    assert!(run == 0 || there() == [QUEUE], "run {run}: {:?}", there());
    store.values_with(SPACE, b"", |key, _, _| panic!("{key:?} was never set"));
    let mut group = Group::default();
    if run == 0 {
        group.create(QUEUE);
    }
    for number in run * PER_RUN..(run + 1) * PER_RUN {
        group.enqueue(&[body], false, &[(QUEUE, number)]);
        if number >= 2 {
            group.ack(QUEUE, &[Range { first: number - 2, count: 1 }]);
        }
        let (told, when) = channel();
        let told: Arc<dyn Done> = Arc::new(Told(told));
        store.submit(&mut group, Sync::Always, Some((&told, 0))).unwrap();
        group.clear();
        assert_eq!(when.recv(), Ok(Ok(())));
    }
    drop(store);
    if run % 2 == 1 {
        disk.crash();
    }
}

#[test]
fn bodies_that_look_like_batches_are_never_taken_for_them() {
    // What stands before a body in its batch, of one with an ack: it begins at a block after that.
    let before = BATCH_HEADER_BYTES + 16 + 28 + 25 + 4;
    let mut body = vec![0; BLOCK_BYTES as usize - before];
    (0..SEGMENTS).for_each(|segment| body.extend(forged(segment, FAR + segment)));
    let disk = Arc::new(SimDisk::new(1));
    for run in 0..4 {
        live(&disk, run, &body);
    }
    // It would have been one: with the key of format 1 the page is a batch of that segment.
    let at = |segment: u64| BLOCK_BYTES as usize * (segment as usize + 1) - before;
    let header = BatchHeader::decode(&body[at(7)..], 7, Key::default()).unwrap();
    assert_eq!((header.number, header.groups), (FAR + 7, 1));
}

#[test]
fn numbers_beyond_all_are_no_batches() {
    let page = forged(0, u64::MAX);
    assert!(BatchHeader::decode(&page, 0, Key::default()).is_err());
}
