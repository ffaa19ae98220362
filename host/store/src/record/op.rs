//! Operations: what a group is made of.

use super::{KEY_BYTES_MAX, Malformed, Take};

/// A queue, or whatever else keeps messages by a number (held ones, a plugin's). Given by the caller, and
/// never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct QueueId(pub u64);

/// Whose values: the topology, the state of one plugin at one exchange. Given by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Space(pub u64);

/// A place in a queue: the caller numbers messages in the order in which they are to come out.
pub type Sequence = u64;

/// The body of a message that is a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentRef {
    /// Its number, never used again.
    pub number: u64,
    /// Its length.
    pub bytes: u64,
    /// Its checksum.
    pub check: u32,
}

/// Numbers that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub first: Sequence,
    /// How many.
    pub count: u32,
}

/// A message and the queues that get it.
#[derive(Clone, Copy, Debug)]
pub struct Enqueue<'a> {
    /// It was there before, and its bytes are written again where they stay; queues that no longer have
    /// it do not get it.
    pub moved: bool,
    /// It was delivered before.
    pub redelivered: bool,
    /// The length of its payload, which is behind the operations.
    pub payload_bytes: u32,
    /// The checksum of its payload.
    pub payload_check: u32,
    /// Its body, if that is apart.
    pub extent: Option<ExtentRef>,
    targets: &'a [u8],
}

/// Ranges of one queue.
#[derive(Clone, Copy, Debug)]
pub struct Ranges<'a> {
    /// The queue.
    pub queue: QueueId,
    ranges: &'a [u8],
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// Queues get a message.
    Enqueue(Enqueue<'a>),
    /// A queue no longer has messages.
    Ack(Ranges<'a>),
    /// Messages were delivered once more.
    Delivered(Ranges<'a>),
    /// There is a queue.
    Create(QueueId),
    /// The queue and all its messages are gone.
    Delete(QueueId),
    /// A value is kept.
    Set {
        /// Where.
        space: Space,
        /// Under what key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
        /// When it ends, in milliseconds since 1970; 0 for never.
        expires_ms: u64,
    },
    /// A value is gone.
    Unset {
        /// Where it was.
        space: Space,
        /// Its key.
        key: &'a [u8],
    },
    /// All values of a space are gone.
    Clear(Space),
}

pub(super) mod kind {
    pub(in crate::record) const ENQUEUE: u8 = 1;
    pub(in crate::record) const MOVED: u8 = 2;
    pub(in crate::record) const ACK: u8 = 3;
    pub(in crate::record) const DELIVERED: u8 = 4;
    pub(in crate::record) const CREATE: u8 = 5;
    pub(in crate::record) const DELETE: u8 = 6;
    pub(in crate::record) const SET: u8 = 7;
    pub(in crate::record) const UNSET: u8 = 8;
    pub(in crate::record) const CLEAR: u8 = 9;
}

pub(super) const EXTENT: u8 = 1;
pub(super) const REDELIVERED: u8 = 2;
const TARGET_BYTES: usize = 16;
pub(super) const RANGE_BYTES: usize = 12;

impl<'a> Enqueue<'a> {
    /// The queues, and its place in each.
    pub fn targets(&self) -> impl ExactSizeIterator<Item = (QueueId, Sequence)> + use<'a> {
        self.targets.chunks_exact(TARGET_BYTES).map(|target| {
            let (queue, sequence) = target.split_at(8);
            (QueueId(number(queue)), number(sequence))
        })
    }
}

impl<'a> Ranges<'a> {
    /// The ranges.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range> + use<'a> {
        self.ranges.chunks_exact(RANGE_BYTES).map(|range| {
            let (first, count) = range.split_at(8);
            Range { first: number(first), count: number(count) as u32 }
        })
    }
}

/// Of at most eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl<'a> Op<'a> {
    /// Takes an operation from the front, whatever these bytes are.
    ///
    /// # Errors
    /// If there is none.
    pub fn take(take: &mut Take<'a>) -> Result<Self, Malformed> {
        Ok(match take.u8()? {
            op @ (kind::ENQUEUE | kind::MOVED) => Self::Enqueue(take_enqueue(op == kind::MOVED, take)?),
            kind::ACK => Self::Ack(take_ranges(take)?),
            kind::DELIVERED => Self::Delivered(take_ranges(take)?),
            kind::CREATE => Self::Create(QueueId(take.u64()?)),
            kind::DELETE => Self::Delete(QueueId(take.u64()?)),
            kind::SET => {
                let (space, expires_ms) = (Space(take.u64()?), take.u64()?);
                let (key_bytes, value_bytes) = (take.u32()? as usize, take.u32()? as usize);
                let key = take_key(key_bytes, take)?;
                Self::Set { space, key, value: take.bytes(value_bytes)?, expires_ms }
            }
            kind::UNSET => {
                let space = Space(take.u64()?);
                let key_bytes = take.u32()? as usize;
                Self::Unset { space, key: take_key(key_bytes, take)? }
            }
            kind::CLEAR => Self::Clear(Space(take.u64()?)),
            _ => return Err(Malformed),
        })
    }
}

fn take_key<'a>(bytes: usize, take: &mut Take<'a>) -> Result<&'a [u8], Malformed> {
    if bytes <= KEY_BYTES_MAX { take.bytes(bytes) } else { Err(Malformed) }
}

fn take_enqueue<'a>(moved: bool, take: &mut Take<'a>) -> Result<Enqueue<'a>, Malformed> {
    let flags = take.u8()?;
    if flags & !(EXTENT | REDELIVERED) != 0 {
        return Err(Malformed);
    }
    let targets = usize::from(take.u16()?);
    let (payload_bytes, payload_check) = (take.u32()?, take.u32()?);
    let extent = if flags & EXTENT != 0 {
        Some(ExtentRef { number: take.u64()?, bytes: take.u64()?, check: take.u32()? })
    } else {
        None
    };
    let targets = take.bytes(targets * TARGET_BYTES)?;
    let redelivered = flags & REDELIVERED != 0;
    Ok(Enqueue { moved, redelivered, payload_bytes, payload_check, extent, targets })
}

fn take_ranges<'a>(take: &mut Take<'a>) -> Result<Ranges<'a>, Malformed> {
    let queue = QueueId(take.u64()?);
    let count = take.u32()? as usize;
    let ranges = take.bytes(count.checked_mul(RANGE_BYTES).ok_or(Malformed)?)?;
    let ranges = Ranges { queue, ranges };
    // No range goes past the last number.
    let fits = |range: Range| range.count > 0 && range.first.checked_add(range.count.into()).is_some();
    if ranges.iter().all(fits) { Ok(ranges) } else { Err(Malformed) }
}
