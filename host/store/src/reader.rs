//! Reads messages of a queue, in order or those that are named, in few large reads.

use crate::{
    body::{BodyReader, Unreadable},
    disk::{Advice, File},
    error::DiskError,
    index::{
        Index,
        chunk::{EXTENT, Entry, Location},
        queue::Queue,
    },
    journal::{Core, segments::FileName},
    record::{
        check,
        group::PAYLOAD_HEADER_BYTES,
        op::{ExtentRef, QueueId, Sequence},
    },
};

use std::sync::Arc;

/// What is read at once at most, beside a message that is longer.
const READ_BYTES: u32 = 1 << 20;
/// So much after what was read is fetched from the disk meanwhile.
const AHEAD_BYTES: u64 = 4 << 20;
/// Two messages so close are read together with what is between.
const GAP_BYTES: u32 = 16 * 1024;

/// A message of a queue.
#[derive(Debug)]
pub struct Item<'a> {
    /// Its place.
    pub sequence: Sequence,
    /// Whether it counts as delivered before.
    pub redelivered: bool,
    /// How often it was delivered, as far as is known.
    pub deliveries: u16,
    /// What was enqueued; `None` if it cannot be read, is damaged, or its body is not there. Unless [`Self::is_later`]
    /// ack it to be rid of it.
    pub payload: Option<&'a [u8]>,
    /// It cannot be read now for want of a resource ([`DiskError::is_passing`]), and may be sound: read it again.
    pub is_later: bool,
    /// The body, where that is apart and not read in windows.
    pub body: Option<&'a [u8]>,
    /// How long the body is, where that is apart.
    pub body_bytes: u64,
}

#[derive(Clone, Copy)]
struct Wanted {
    sequence: Sequence,
    location: Location,
    bytes: u32,
    redelivered: bool,
    deliveries: u16,
    extent: Option<ExtentRef>,
}

/// Why nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    /// For want of a resource.
    Later,
    Damaged,
}

impl From<DiskError> for Unread {
    fn from(error: DiskError) -> Self {
        if error.is_passing() { Self::Later } else { Self::Damaged }
    }
}

/// Says of a payload whether its body is read in windows ([`crate::Store::body`]).
pub type Windowed = fn(&[u8]) -> bool;

/// What becomes of bodies that are apart.
#[derive(Clone, Copy, Default)]
enum Apart {
    /// They are handed over.
    #[default]
    Read,
    /// Likewise, but for those that are read in windows.
    ReadBut(Windowed),
    /// They are checked, if they are no longer than that.
    Check(u64),
}

/// Reads messages; kept by whoever does, for its buffers.
#[derive(Default)]
pub struct Reader {
    apart: Apart,
    wanted: Vec<Wanted>,
    bytes: Vec<u8>,
    body: Vec<u8>,
}

impl Reader {
    /// One that leaves bodies alone which are read in windows; of those it looks whether they are there.
    #[must_use]
    pub fn leaving(windowed: Windowed) -> Self {
        Self { apart: Apart::ReadBut(windowed), ..Self::default() }
    }

    /// One that hands over no body that is apart, but checks those of at most so many bytes, in windows.
    pub(crate) fn checking(bytes_max: u64) -> Self {
        Self { apart: Apart::Check(bytes_max), ..Self::default() }
    }

    /// Hands messages of a queue to `each`, from a sequence on, in order, until they have about that many
    /// bytes; at least one if there is one. Gives the sequence from which to go on, `None` if there is no
    /// more.
    pub(crate) fn read(
        &mut self,
        core: &Core,
        (queue, from): (QueueId, Sequence),
        bytes_max: usize,
        each: &mut dyn FnMut(Item<'_>),
    ) -> Option<Sequence> {
        let more = self.look(core, (queue, from), bytes_max);
        self.hand_over_all(core, (queue, more.is_some()), each);
        more
    }

    /// Hands those of the messages of a queue that are there to `each`, in the order in which they are named,
    /// until they have about that many bytes; at least one. Gives how many of those that were named are done
    /// with.
    pub(crate) fn read_at(
        &mut self,
        core: &Core,
        (queue, named): (QueueId, &[Sequence]),
        bytes_max: usize,
        each: &mut dyn FnMut(Item<'_>),
    ) -> usize {
        let done = self.look_at(core, (queue, named), bytes_max);
        self.hand_over_all(core, (queue, false), each);
        done
    }

    /// Hands over what was looked up; `more` if what comes after it is read next.
    fn hand_over_all(&mut self, core: &Core, (queue, more): (QueueId, bool), each: &mut dyn FnMut(Item<'_>)) {
        let mut start = 0;
        while let Some(first) = self.wanted.get(start) {
            let location = first.location;
            let (mut end, mut last) = (start, location.offset);
            while let Some(next) = self.wanted.get(end) {
                let close = next.location.segment == location.segment
                    && next.location.offset >= last
                    && next.location.offset - last <= GAP_BYTES
                    && (end == start || next.location.offset + next.bytes - location.offset <= READ_BYTES);
                if !close {
                    break;
                }
                last = next.location.offset + next.bytes;
                end += 1;
            }
            let read = self.fetch(core, location, last - location.offset, more);
            for at in start..end {
                self.hand_over(core, (queue, at), read.then_some(location), each);
            }
            start = end;
        }
    }

    /// Looks up what there is.
    fn look(
        &mut self,
        core: &Core,
        (queue, from): (QueueId, Sequence),
        bytes_max: usize,
    ) -> Option<Sequence> {
        self.wanted.clear();
        let index = core.index.lock();
        let queue = index.queues.get(&queue)?;
        let mut bytes = 0;
        for (sequence, entry) in queue.from(from) {
            if bytes >= bytes_max {
                return Some(sequence);
            }
            bytes += self.want(&index, queue, (sequence, entry));
        }
        None
    }

    fn look_at(&mut self, core: &Core, (queue, named): (QueueId, &[Sequence]), bytes_max: usize) -> usize {
        self.wanted.clear();
        let index = core.index.lock();
        let Some(queue) = index.queues.get(&queue) else { return named.len() };
        let mut bytes = 0;
        for (at, sequence) in named.iter().enumerate() {
            if bytes >= bytes_max && !self.wanted.is_empty() {
                return at;
            }
            if let Some(entry) = queue.get(*sequence) {
                bytes += self.want(&index, queue, (*sequence, entry));
            }
        }
        named.len()
    }

    /// Notes what there is of a message; gives its bytes.
    fn want(&mut self, index: &Index, queue: &Queue, (sequence, entry): (Sequence, &Entry)) -> usize {
        let extent = if entry.has(EXTENT) { index.held.extents.get(&entry.location).copied() } else { None };
        self.wanted.push(Wanted {
            sequence,
            location: entry.location,
            bytes: entry.bytes,
            redelivered: queue.is_redelivered(sequence, entry),
            deliveries: entry.deliveries,
            extent,
        });
        entry.bytes as usize + extent.map_or(0, |extent| extent.bytes as usize)
    }

    fn fetch(&mut self, core: &Core, from: Location, bytes: u32, more: bool) -> bool {
        let segment = u64::from(from.segment);
        let file = core.segments.lock().files.get(&segment).map(|segment| segment.file.clone());
        self.bytes.clear();
        self.bytes.resize(bytes as usize, 0);
        file.is_some_and(|file| {
            let read = file.read_at(&mut self.bytes, from.offset.into()).is_ok();
            if more {
                file.advise(Advice::WillRead, u64::from(from.offset) + u64::from(bytes), AHEAD_BYTES);
            }
            read
        })
    }

    fn hand_over(
        &mut self,
        core: &Core,
        (queue, at): (QueueId, usize),
        read: Option<Location>,
        each: &mut dyn FnMut(Item<'_>),
    ) {
        let Some(wanted) = self.wanted.get(at).copied() else { return };
        // While it was read it may have been acked or moved, and its segment used again.
        let now = {
            let index = core.index.lock();
            let entry = index.queues.get(&queue).and_then(|queue| queue.get(wanted.sequence));
            entry.map(|entry| entry.location)
        };
        let Some(now) = now else { return };
        let from = if now == wanted.location { read } else { None };
        let (from, own) = match from {
            Some(from) => (Some(from), Ok(Vec::new())),
            None => (None, read_alone(core, now, wanted.bytes)),
        };
        let payload = match (from, &own) {
            (Some(from), _) => {
                let start = (wanted.location.offset - from.offset) as usize;
                let bytes = self.bytes.get(start..start + wanted.bytes as usize);
                bytes.and_then(checked).ok_or(Unread::Damaged)
            }
            (None, Ok(own)) => checked(own).ok_or(Unread::Damaged),
            (None, Err(unread)) => Err(*unread),
        };
        let body = match (payload, wanted.extent) {
            (Ok(payload), Some(extent)) => read_apart(core, extent, (self.apart, payload), &mut self.body),
            _ => Ok(false),
        };
        let body = body.map(|is_read| is_read.then_some(self.body.as_slice()));
        let read = payload.and_then(|payload| body.map(|body| (payload, body)));
        let body_bytes = wanted.extent.map_or(0, |extent| extent.bytes);
        let Wanted { sequence, redelivered, deliveries, .. } = wanted;
        let is_later = read == Err(Unread::Later);
        let (payload, body) = read.map_or((None, None), |(payload, body)| (Some(payload), body));
        each(Item { sequence, redelivered, deliveries, payload, is_later, body, body_bytes });
    }
}

fn read_alone(core: &Core, at: Location, bytes: u32) -> Result<Vec<u8>, Unread> {
    let file = core.segments.lock().files.get(&u64::from(at.segment)).map(|segment| segment.file.clone());
    let mut own = vec![0; bytes as usize];
    file.ok_or(Unread::Damaged)?.read_at(&mut own, at.offset.into())?;
    Ok(own)
}

/// Whether the payload at a place can be read.
pub(crate) fn payload_checks(core: &Core, at: Location, bytes: u32) -> bool {
    read_alone(core, at, bytes).is_ok_and(|bytes| checked(&bytes).is_some())
}

/// A payload that checks.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (check, payload) = bytes.split_first_chunk::<PAYLOAD_HEADER_BYTES>()?;
    (u32::from_le_bytes(*check) == check::check(payload)).then_some(payload)
}

/// Reads a body that is apart, or looks whether it is there; whether it was read.
fn read_apart(
    core: &Core,
    extent: ExtentRef,
    (apart, payload): (Apart, &[u8]),
    body: &mut Vec<u8>,
) -> Result<bool, Unread> {
    let file = core.disk.open(&FileName::Extent(extent.number).to_string())?;
    if file.len_bytes()? != extent.bytes {
        return Err(Unread::Damaged);
    }
    match apart {
        Apart::ReadBut(windowed) if windowed(payload) => return Ok(false),
        Apart::Check(bytes_max) if extent.bytes > bytes_max => return Ok(false),
        Apart::Check(_) => return check_body(file, extent).map(|()| false),
        Apart::Read | Apart::ReadBut(_) => {}
    }
    body.clear();
    body.resize(extent.bytes as usize, 0);
    file.read_at(body, 0)?;
    if check::check(body) == extent.check { Ok(true) } else { Err(Unread::Damaged) }
}

fn check_body(file: Arc<dyn File>, extent: ExtentRef) -> Result<(), Unread> {
    match BodyReader::new(file, extent).check_rest() {
        Ok(()) => Ok(()),
        Err(Unreadable::Disk(error)) => Err(error.into()),
        Err(Unreadable::Damaged) => Err(Unread::Damaged),
    }
}
