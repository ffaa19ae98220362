//! Copies what is live of mostly dead segments forward.

use super::Keeper;
use crate::{
    disk::{Advice, File},
    index::chunk::Location,
    journal::{
        Core, Counts, Pass, Sync, Writer,
        room::OF_RESCUES,
        segments::{FIRST_BATCH_AT, Segment},
    },
    record::{
        BLOCK_BYTES, check,
        frame::{BATCH_HEADER_BYTES, BatchHeader},
        group::{Group, GroupView},
        key::Key,
        op::{Op, QueueId, Sequence},
    },
};
use std::sync::Arc;

/// A group of what is copied ends when it has so many bytes.
const GROUP_BYTES: usize = 256 * 1024;
/// How many segments there may be beyond twice the live bytes, and what starts read.
const SLACK_SEGMENTS: u64 = 4;
/// The same where room is short.
const SLACK_PRESSED: u64 = 1;

/// A segment whose live messages are being copied.
pub(super) struct Moving {
    segment: u64,
    file: Arc<dyn File>,
    bytes: u64,
    key: Key,
    offset: u64,
    group: Group,
}

impl Core {
    /// Copies what is live of a batch, or looks for a segment that is mostly dead.
    pub(super) fn move_step(&self, keeper: &mut Keeper, now_ms: u64) -> bool {
        if keeper.moving.is_none() {
            keeper.moving = self.find_sparse(self.floor(keeper));
        }
        let Some(moving) = &mut keeper.moving else { return false };
        if !moving.group.is_empty() {
            return self.hand_over(moving, now_ms);
        }
        if moving.offset >= moving.bytes {
            // Nobody reads it again.
            moving.file.advise(Advice::Done, 0, moving.bytes);
            self.moved_all(moving.segment);
            keeper.moving = None;
            return true;
        }
        self.move_batch(moving);
        true
    }

    /// Where room is short a segment must be left that has nothing but acks: only such a one is free again after
    /// a checkpoint. What waits to be written may take segments too, and so may what grows and can still come. The writer
    /// takes nothing out meanwhile, so that all of it is seen, waiting or written.
    fn leaves_room(&self, writer: &Writer) -> bool {
        let more = if self.room.is_full() { 0 } else { self.growth_bytes_max() };
        let waiting = writer.stuck_bytes() + self.inbox.lock().waiting_bytes() + more;
        let of_waiting = if waiting > 0 { self.of_taken(waiting) } else { 0 };
        let free = self.segments.lock().free();
        free >= 2 + OF_RESCUES + self.room.left_to_checkpoints() + of_waiting
    }

    /// Unless room is short only what starts do not read any more is looked at, which is what has batches up to `floor`
    /// alone. Other segments stay whether they have anything live or not, and where queues drain they have nothing by the
    /// time they could go.
    fn find_sparse(&self, floor: u64) -> Option<Moving> {
        let pressed = self.room.is_pressed();
        if pressed && !self.leaves_room(&self.writer.lock()) {
            return None;
        }
        let segments = self.segments.lock();
        if segments.free() < 2 {
            return None;
        }
        let index = self.index.lock();
        let slack = if pressed { SLACK_PRESSED } else { SLACK_SEGMENTS };
        let most = 2 * index.held.live.bytes + slack * self.config.segment_bytes;
        let used = |is_used: &dyn Fn(u64, &Segment) -> bool| -> u64 {
            let used = segments.files.iter().filter(|(number, segment)| is_used(**number, segment));
            used.map(|(_, segment)| segment.bytes).sum()
        };
        let could_go = |segment: &Segment| pressed || segment.last.is_some_and(|last| last <= floor);
        if used(&|_, segment| could_go(segment)) <= most {
            return None;
        }
        // What has nothing live goes by itself.
        let has_live = |number: u64| pressed || index.held.of(number as u32).messages > 0;
        if used(&|number, segment| could_go(segment) && has_live(number)) <= most {
            return None;
        }
        let sealed = segments.files.iter().filter(|(_, segment)| segment.last.is_some() && !segment.stuck);
        let sparse = sealed.filter(|(_, segment)| could_go(segment)).filter_map(|(number, segment)| {
            let live = index.held.of(*number as u32);
            // Where room is short what only filled up blocks counts too.
            let whole = if pressed { segment.bytes } else { live.placed_bytes };
            let is_sparse = live.messages > 0 && live.bytes * 2 <= whole;
            is_sparse.then_some((live.bytes, *number, segment))
        });
        let (_, segment, found) = sparse.min_by_key(|(live, number, _)| (*live, *number))?;
        let (file, bytes, key) = (found.file.clone(), found.bytes, found.key);
        Some(Moving { segment, file, bytes, key, offset: FIRST_BATCH_AT, group: Group::default() })
    }

    /// What could not be moved stays where it is, and is not tried again until the next start.
    fn moved_all(&self, number: u64) {
        let mut segments = self.segments.lock();
        if let Some(segment) = segments.files.get_mut(&number) {
            segment.stuck = true;
        }
    }

    fn hand_over(&self, moving: &mut Moving, now_ms: u64) -> bool {
        let bytes = moving.group.len_bytes() as u64;
        // Until it is handed over; elsewhere the writer does not wait for that.
        let writer = self.room.is_pressed().then(|| self.writer.lock());
        if writer.as_ref().is_some_and(|writer| !self.leaves_room(writer)) {
            return false;
        }
        if self.take(&mut moving.group, (Sync::Never, None), now_ms, Pass::Copied).is_err() {
            return false;
        }
        Counts::add(&self.counts.moved_bytes, bytes);
        moving.group.clear();
        true
    }

    /// Reads batches until there is a group to hand over, or the end.
    fn move_batch(&self, moving: &mut Moving) {
        let mut bytes = Vec::new();
        while moving.offset < moving.bytes && moving.group.len_bytes() < GROUP_BYTES {
            let offset = moving.offset;
            let Some(header) = read_batch(moving, &mut bytes) else {
                moving.offset += BLOCK_BYTES;
                continue;
            };
            let together = moving.group.len_bytes() + header.bytes as usize;
            if !moving.group.is_empty() && together > self.config.own_segment_bytes {
                // The next group has it.
                return;
            }
            moving.offset = header.end(offset);
            let mut at = BATCH_HEADER_BYTES;
            while let Some(Ok(group)) =
                bytes.get(at..).map(|rest| GroupView::decode(rest, header.number, moving.key))
            {
                self.move_group(moving, &group, offset + at as u64);
                at += group.len_bytes;
            }
        }
    }

    fn move_group(&self, moving: &mut Moving, group: &GroupView<'_>, offset: u64) {
        let segment = moving.segment as u32;
        // What is damaged stays, to be told when it is read.
        let _ = group.each(|op, payload, at| {
            let Op::Enqueue(enqueue) = op else { return };
            let location = Location { segment, offset: (offset + at as u64) as u32 };
            let here = self.having(enqueue.targets(), location);
            if !here.is_empty() && check::check(payload) == enqueue.payload_check {
                moving.group.moved(payload, enqueue.extent, here.into_iter());
            }
        });
    }

    /// Those queues that have a message at that place.
    fn having(
        &self,
        targets: impl Iterator<Item = (QueueId, Sequence)>,
        location: Location,
    ) -> Vec<(QueueId, Sequence)> {
        let index = self.index.lock();
        let is_here = |(queue, sequence): &(QueueId, Sequence)| {
            let entry = index.queues.get(queue).and_then(|queue| queue.get(*sequence));
            entry.is_some_and(|entry| entry.location == location)
        };
        targets.filter(is_here).collect()
    }
}

/// Reads the batch at the place where it stands.
fn read_batch(moving: &Moving, bytes: &mut Vec<u8>) -> Option<BatchHeader> {
    bytes.clear();
    bytes.resize(BATCH_HEADER_BYTES, 0);
    moving.file.read_at(bytes, moving.offset).ok()?;
    let header = BatchHeader::decode(bytes, moving.segment, moving.key).ok()?;
    let length = BATCH_HEADER_BYTES + header.bytes as usize;
    if moving.offset + length as u64 > moving.bytes {
        return None;
    }
    bytes.resize(length, 0);
    let read = moving.file.read_at(bytes, moving.offset).ok()?;
    (read == length).then_some(header)
}
