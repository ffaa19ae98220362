//! The headers of segments and batches.

use super::{
    BLOCK_BYTES, FORMAT, Malformed, SEGMENT_FORMAT, Take, check,
    key::{KEY_BYTES, Key},
};

/// The bytes of a segment's header that say anything.
pub const SEGMENT_HEADER_BYTES: usize = 32 + KEY_BYTES;
/// Where they are once more: what damages one sector leaves the key.
pub const SEGMENT_HEADER_AGAIN_AT: u64 = 2048;
/// The bytes before a batch's groups.
pub const BATCH_HEADER_BYTES: usize = 40;

const SEGMENT_MAGIC: &[u8; 8] = b"LEVERETJ";
const BATCH_MAGIC: &[u8; 4] = b"LVHB";
/// No batch has a higher number: at a million in a second that is for a hundred thousand years.
const NUMBER_MAX: u64 = 1 << 62;

/// What the header of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its number; later ones are higher.
    pub number: u64,
    /// The length of the file.
    pub bytes: u64,
    /// The key of its batches; none makes it one of format 1.
    pub key: Key,
}

/// What the bytes at the start of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A segment.
    Segment(SegmentHeader),
    /// A segment of a later format.
    Newer(u32),
    /// Nothing that can be read.
    Unreadable,
}

impl SegmentHeader {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let (format, key) =
            if self.key.is_none() { (FORMAT, [0; KEY_BYTES]) } else { (SEGMENT_FORMAT, self.key.encode()) };
        bytes[32..].copy_from_slice(&key);
        let (start, rest) = bytes[..32].split_at_mut(16);
        rest[..8].copy_from_slice(&self.number.to_le_bytes());
        rest[8..].copy_from_slice(&self.bytes.to_le_bytes());
        start[..8].copy_from_slice(SEGMENT_MAGIC);
        start[8..12].copy_from_slice(&format.to_le_bytes());
        let check = check::append(check::check(&start[..12]), rest);
        start[12..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads the start of a file.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Opening {
        let read = || {
            let mut take = Take(bytes);
            if take.bytes(8)? != SEGMENT_MAGIC {
                return Err(Malformed);
            }
            let format = take.u32()?;
            let check = take.u32()?;
            let found = check::check(bytes.get(..12).ok_or(Malformed)?);
            if check != check::append(found, take.0.get(..16).ok_or(Malformed)?) {
                return Err(Malformed);
            }
            if format > SEGMENT_FORMAT {
                return Ok(Opening::Newer(format));
            }
            let (number, bytes) = (take.u64()?, take.u64()?);
            let key = if format == SEGMENT_FORMAT { Key::take(&mut take)? } else { Key::default() };
            Ok(Opening::Segment(Self { number, bytes, key }))
        };
        read().unwrap_or(Opening::Unreadable)
    }
}

/// What the header of a batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The bytes of its groups.
    pub bytes: u32,
    /// Its number.
    pub number: u64,
    /// The last batch that was known to be synced.
    pub synced: u64,
    /// The segment it is in.
    pub segment: u64,
    /// How many groups it has.
    pub groups: u32,
}

impl BatchHeader {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self, key: Key) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        bytes[..4].copy_from_slice(BATCH_MAGIC);
        bytes[4..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.synced.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.segment.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.groups.to_le_bytes());
        let check = check::check(&bytes[..36]) ^ key.of_header(self.number);
        bytes[36..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads the header of a batch in that segment.
    ///
    /// # Errors
    /// If there is none, or one of another segment, or of another key.
    pub fn decode(bytes: &[u8], segment: u64, key: Key) -> Result<Self, Malformed> {
        let mut take = Take(bytes);
        if take.bytes(4)? != BATCH_MAGIC {
            return Err(Malformed);
        }
        let header = Self {
            bytes: take.u32()?,
            number: take.u64()?,
            synced: take.u64()?,
            segment: take.u64()?,
            groups: take.u32()?,
        };
        let check = check::check(bytes.get(..36).ok_or(Malformed)?) ^ key.of_header(header.number);
        let checked = take.u32()? == check && header.number.max(header.synced) <= NUMBER_MAX;
        if checked && header.segment == segment { Ok(header) } else { Err(Malformed) }
    }

    /// Where the next batch begins, for one at that place.
    #[must_use]
    pub fn end(&self, offset: u64) -> u64 {
        (offset + BATCH_HEADER_BYTES as u64 + u64::from(self.bytes)).next_multiple_of(BLOCK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written_and_no_bit_may_be_wrong() {
        let key = Key::random();
        let segment = SegmentHeader { number: 7, bytes: 1 << 26, key };
        let batch = BatchHeader { bytes: 100, number: 9, synced: 5, segment: 7, groups: 3 };
        assert_eq!(SegmentHeader::decode(&segment.encode()), Opening::Segment(segment));
        assert_eq!(BatchHeader::decode(&batch.encode(key), 7, key), Ok(batch));
        assert_eq!(BatchHeader::decode(&batch.encode(key), 8, key), Err(Malformed));
        assert_eq!(BatchHeader::decode(&batch.encode(Key::default()), 7, key), Err(Malformed));
        let far = BatchHeader { number: u64::MAX, ..batch };
        assert_eq!(BatchHeader::decode(&far.encode(key), 7, key), Err(Malformed));
        for bit in 0..SEGMENT_HEADER_BYTES * 8 {
            let mut bytes = segment.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(SegmentHeader::decode(&bytes), Opening::Segment(_)), "bit {bit}");
        }
        for bit in 0..BATCH_HEADER_BYTES * 8 {
            let mut bytes = batch.encode(key);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&bytes, 7, key), Err(Malformed), "bit {bit}");
        }
    }

    #[test]
    fn a_later_format_is_told_from_damage() {
        let mut bytes = SegmentHeader { number: 7, bytes: 1 << 26, key: Key::random() }.encode();
        bytes[8] = 9;
        assert_eq!(SegmentHeader::decode(&bytes), Opening::Unreadable);
        let check = check::append(check::check(&bytes[..12]), &bytes[16..32]);
        bytes[12..16].copy_from_slice(&check.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Opening::Newer(9));
    }

    #[test]
    fn a_batch_ends_at_a_block() {
        let batch = BatchHeader { bytes: 4056, number: 1, synced: 0, segment: 0, groups: 1 };
        assert_eq!(batch.end(4096), 8192);
        assert_eq!(BatchHeader { bytes: 4057, ..batch }.end(4096), 12288);
    }
}
