//! The bytes of a segment. Format 2, and format 1, which has no key. All numbers are little-endian; checksums are CRC-32.
//!
//! ```text
//! segment     4,096 bytes of header, then batches, each at a multiple of 4,096
//! header      0  "LEVERETJ"                  8  u32 format      12 u32 checksum of bytes 0 to 12 and 16 to 32
//!            16  u64 number of the segment  24  u64 its length in bytes         format 1: then zeros
//!            32  the key of the folder, 16 bytes; u32 its checksum              then zeros;
//!                every later format begins with such a header; format 2 has it at 2,048 once more
//! batch       0  "LVHB"                      4  u32 bytes of its groups
//!             8  u64 number of the batch, one more than that of the batch before
//!            16  u64 the last batch that was known to be synced when this one was written
//!            24  u64 number of the segment  32  u32 number of groups
//!            36  u32 checksum of bytes 0 to 36, exclusive-or what key and batch number make (key.rs)
//!            40  groups, back to back
//! group       0  u32 bytes of operations     4  u32 bytes of payloads    8  u32 number of operations
//!            12  u32 checksum of bytes 0 to 12 and the operations, exclusive-or mixed batch number,
//!                exclusive-or what the key's other half makes of that
//!            16  operations, payloads in their order, zeros up to a multiple of 8
//! payload     0  u32 its checksum             4  its bytes
//! operation   u8 kind, then
//!   1 enqueue, 2 moved    u8 flags (1: the body is an extent, 2: delivered before), u16 number of targets,
//!                         u32 bytes of payload, u32 checksum of the payload,
//!                         with an extent: u64 its number, u64 its bytes, u32 its checksum,
//!                         then for each target u64 queue, u64 sequence
//!   3 ack, 4 delivered    u64 queue, u32 number of ranges, for each u64 first sequence, u32 count
//!   5 create, 6 delete    u64 queue
//!   7 set                 u64 space, u64 end of its life in ms since 1970 or 0, u32 bytes of the key,
//!                         u32 bytes of the value, key, value
//!   8 unset               u64 space, u32 bytes of the key, key
//!   9 clear               u64 space
//! manifest    two places of 4,096 bytes, written in turn; of those that check the one with the higher number counts
//!             0  "LEVERETM"                  8  u32 format      12 u32 checksum of all but these four bytes
//!            16  u64 its number, one more than that of the one before
//!            24  u64 the last batch that is known to be synced       32  u64 the segment that has it
//!            40  u64 how many segments are named                    48  u64 their numbers, then zeros
//! ```
//!
//! A *group* is atomic: all its operations are there or none. A message is written once in its group
//! however many queues have it. A dead-letter move is an enqueue and an ack in one group; a
//! transaction is a group.
//!
//! *Why batches begin at a multiple of 4,096:* no sector that was synced is written again, so what was
//! promised cannot be torn by what comes later; and after a damaged batch the next is found.
//!
//! *Why the number of the batch is in each group's checksum:* segments are used again without being
//! cleared. Of an earlier use there may be groups at the very same place; they do not check.
//!
//! *Why CRC-32:* it finds every burst up to 32 bits and every two bits that are wrong (up to 11 KiB every
//! three), which are the errors of disks, and it runs at the speed of memory. CRC-32C would find three at
//! any length; the difference is not worth a package that the broker does not have yet. What a wider hash
//! would add, one in four thousand million of large random damage, is not worth half the speed. It is no defence
//! against who may write or read the files. Against who may only publish the key is one: to be taken for a
//! group, bytes have to guess 64 bits, and are told nothing of how close they came.

pub(crate) mod check;
pub mod frame;
pub mod group;
pub mod key;
pub mod manifest;
pub mod message;
pub mod op;

/// The version of the format of checkpoints and manifests that is written, and the latest that is read.
pub const FORMAT: u32 = 1;
/// The same of segments. Those of format 1 have no key.
pub const SEGMENT_FORMAT: u32 = 2;
/// Segment headers and batches begin at multiples of this.
pub const BLOCK_BYTES: u64 = 4096;
/// Bodies of more bytes are extents: files of their own.
pub const EXTENT_BODY_BYTES: usize = 256 * 1024;
/// The most bytes that the key of a value may have.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Takes numbers and bytes from the front of bytes that may be anything. Numbers are little-endian. Each takes nothing
/// and gives [`Malformed`] where there are not enough bytes.
#[derive(Clone, Copy, Debug)]
pub struct Take<'a>(pub &'a [u8]);

impl<'a> Take<'a> {
    /// So many bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// As many bytes as the array has.
    ///
    /// # Errors
    /// There are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A number of one byte.
    ///
    /// # Errors
    /// There is none.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A number of two bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// A number of four bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number of eight bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }
}
