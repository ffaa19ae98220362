//! The bytes of a manifest.

use super::{FORMAT, Malformed, Take, check};

/// What is written at once, and where the second place begins.
pub const PLACE_BYTES: usize = 4096;
/// The length of the file: two places.
pub const MANIFEST_BYTES: u64 = 2 * PLACE_BYTES as u64;
/// How many segments it can name.
pub const SEGMENTS_MAX: usize = (PLACE_BYTES - HEADER_BYTES) / 8;

const MAGIC: &[u8; 8] = b"LEVERETM";
const HEADER_BYTES: usize = 48;

/// What a manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// One more than that of the one before.
    pub number: u64,
    /// Up to this batch all is on disk.
    pub synced: u64,
    /// The segment that has that batch.
    pub segment: u64,
    /// Segments that are there under their names, from that one on.
    pub segments: Vec<u64>,
}

/// What the bytes of a place are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A manifest.
    Record(Record),
    /// One of a later format.
    Newer(u32),
    /// Nothing that can be read.
    Unreadable,
}

impl Record {
    /// Its bytes, as they are in a place. Of too many segments the highest are named.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let named = &self.segments[self.segments.len().saturating_sub(SEGMENTS_MAX)..];
        let mut bytes = Vec::with_capacity(PLACE_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.synced.to_le_bytes());
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&(named.len() as u64).to_le_bytes());
        named.iter().for_each(|segment| bytes.extend_from_slice(&segment.to_le_bytes()));
        bytes.resize(PLACE_BYTES, 0);
        let check = check_of(&bytes).unwrap_or_default();
        bytes[12..16].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a place.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Read {
        let read = || {
            let mut take = Take(bytes.get(..PLACE_BYTES).ok_or(Malformed)?);
            if take.bytes(8)? != MAGIC {
                return Err(Malformed);
            }
            let (format, check) = (take.u32()?, take.u32()?);
            if Some(check) != check_of(bytes) {
                return Err(Malformed);
            }
            if format != FORMAT {
                return Ok(Read::Newer(format));
            }
            let (number, synced, segment) = (take.u64()?, take.u64()?, take.u64()?);
            let count = usize::try_from(take.u64()?).ok().filter(|count| *count <= SEGMENTS_MAX);
            let segments = (0..count.ok_or(Malformed)?).map(|_| take.u64()).collect::<Result<_, _>>()?;
            Ok(Read::Record(Self { number, synced, segment, segments }))
        };
        read().unwrap_or(Read::Unreadable)
    }
}

/// The checksum of a place, but for that itself.
fn check_of(bytes: &[u8]) -> Option<u32> {
    Some(check::append(check::check(bytes.get(..12)?), bytes.get(16..PLACE_BYTES)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_no_bit_may_be_wrong() {
        let record = Record { number: 3, synced: 77, segment: 4, segments: vec![4, 5, 9] };
        let bytes = record.encode();
        assert_eq!((bytes.len(), Record::decode(&bytes)), (PLACE_BYTES, Read::Record(record)));
        for bit in 0..PLACE_BYTES * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(Record::decode(&bytes), Read::Record(_)), "bit {bit}");
        }
        assert_eq!(Record::decode(&bytes[1..]), Read::Unreadable);
    }

    /// A place that was written before, byte for byte: those that are there are to be read for ever.
    #[test]
    fn a_manifest_of_the_first_format_is_read() {
        let written = include_bytes!("../../tests/fixtures/manifest-1");
        let record = Record { number: 3, synced: 77, segment: 4, segments: vec![4, 5, 9] };
        assert_eq!(Record::decode(written), Read::Record(record));
    }

    #[test]
    fn the_highest_of_too_many_segments_are_named() {
        let record = Record { segments: (0..1000).collect(), ..Record::default() };
        let Read::Record(read) = Record::decode(&record.encode()) else { panic!("it cannot be read") };
        assert_eq!(read.segments, (1000 - SEGMENTS_MAX as u64..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_later_format_is_told_from_damage() {
        let mut bytes = Record::default().encode();
        bytes[8] = 9;
        let check = check_of(&bytes).unwrap();
        bytes[12..16].copy_from_slice(&check.to_le_bytes());
        assert_eq!(Record::decode(&bytes), Read::Newer(9));
    }
}
