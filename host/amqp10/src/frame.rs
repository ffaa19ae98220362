//! Protocol headers (sections 2.2, 5.2.1, 5.3.1) and frames (section 2.3).
//!
//! ```text
//! header  "AMQP", u8 id, u8 major = 1, u8 minor = 0, u8 revision = 0
//!   id 0 AMQP   2 TLS   3 SASL
//! frame   u32 size, u8 doff, u8 type, u16 channel, extended header, body
//!   size  of the whole frame, itself included     doff  where the body begins, in words of 4 bytes, 2 at least
//!   type 0  AMQP: a performative and, for a transfer, payload; nothing at all is a sign of life
//!   type 1  SASL: one of its frames; the channel means nothing
//! ```
//! The extended header is skipped, whatever it says.

use crate::{
    composite::Composite,
    condition::Condition,
    descriptor,
    performatives::Transfer,
    types::{
        code,
        write::{put_boolean, put_bytes, put_uint},
    },
};
use alloc::vec::Vec;
use core::fmt;

/// Bytes of a protocol header.
pub const PROTOCOL_HEADER_BYTES: usize = 8;
/// Bytes of a frame without extended header and body.
pub const HEADER_BYTES: usize = 8;
/// What every peer takes (`MIN-MAX-FRAME-SIZE`), in bytes: the largest frame before the open of the peer is known.
pub const FRAME_BYTES_MIN: u32 = 512;
/// The type of AMQP's frames.
pub const AMQP: u8 = 0;
/// The type of SASL's frames.
pub const SASL: u8 = 1;
/// A whole frame without a body, on channel 0.
pub const EMPTY_FRAME: [u8; HEADER_BYTES] = [0, 0, 0, 8, 2, AMQP, 0, 0];

/// What a protocol header begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolId {
    /// AMQP itself.
    Amqp,
    /// TLS, to be followed by another header within.
    Tls,
    /// SASL, likewise.
    Sasl,
}

impl ProtocolId {
    /// The header of version 1.0.0.
    #[must_use]
    pub const fn header(self) -> [u8; PROTOCOL_HEADER_BYTES] {
        let id = match self {
            Self::Amqp => 0,
            Self::Tls => 2,
            Self::Sasl => 3,
        };
        [b'A', b'M', b'Q', b'P', id, 1, 0, 0]
    }

    /// What eight bytes begin; `None` if they are no header of version 1.0.0. Then the header that is wanted is sent,
    /// and the socket is closed (section 2.2).
    #[must_use]
    pub fn of(header: [u8; PROTOCOL_HEADER_BYTES]) -> Option<Self> {
        [Self::Amqp, Self::Tls, Self::Sasl].into_iter().find(|id| id.header() == header)
    }
}

/// No frame begins here, so the next one cannot be found either; the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The size is less than that of a header.
    Size(u32),
    /// The frame is larger than was agreed.
    TooLarge {
        /// Its size.
        bytes: u32,
        /// The most that was agreed.
        bytes_max: u32,
    },
    /// The body would begin within the header, or beyond the frame.
    Doff(u8),
    /// A type that is not expected here.
    Kind(u8),
}

impl FrameError {
    /// The condition by which the specification names it: the connection is closed.
    #[must_use]
    pub fn condition(&self) -> Condition {
        Condition::FramingError
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(bytes) => write!(f, "a frame of {bytes} bytes has no room for its header"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "frame size ({bytes} bytes) > maximum frame size ({bytes_max} bytes)")
            }
            Self::Doff(doff) => write!(f, "a data offset of {doff} is not within the frame"),
            Self::Kind(kind) => write!(f, "a frame of type 0x{kind:02x} is not expected"),
        }
    }
}

impl core::error::Error for FrameError {}

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    /// The type: [`AMQP`] or [`SASL`].
    pub kind: u8,
    /// The channel; means nothing in SASL.
    pub channel: u16,
    /// What follows the extended header; empty is a sign of life in AMQP.
    pub body: &'b [u8],
    /// The length of the whole frame.
    pub length_bytes: usize,
}

/// The frame at the front of `bytes`; `None` if it is not all there. Then what comes next belongs behind `bytes`: they
/// are fewer than `frame_bytes_max`.
///
/// What is wrong with a frame is known as soon as its header is there.
///
/// # Errors
/// If there is no frame of the type `kind`, of at most `frame_bytes_max` bytes.
#[inline]
pub fn split(bytes: &[u8], kind: u8, frame_bytes_max: u32) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(size) = bytes.first_chunk::<4>() else { return Ok(None) };
    let size = u32::from_be_bytes(*size);
    if size > frame_bytes_max {
        return Err(FrameError::TooLarge { bytes: size, bytes_max: frame_bytes_max });
    }
    let length_bytes = usize::try_from(size).unwrap_or(usize::MAX);
    if length_bytes < HEADER_BYTES {
        return Err(FrameError::Size(size));
    }
    let Some([_, _, _, _, doff, found, c0, c1]) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let body_at = usize::from(*doff) * 4;
    if body_at < HEADER_BYTES || body_at > length_bytes {
        return Err(FrameError::Doff(*doff));
    }
    if *found != kind {
        return Err(FrameError::Kind(*found));
    }
    let body = bytes.get(body_at..length_bytes);
    let channel = u16::from_be_bytes([*c0, *c1]);
    Ok(body.map(|body| Frame { kind, channel, body, length_bytes }))
}

/// Whether a frame that begins here is a transfer, as far as its first bytes tell: of one whose performative is not
/// described in the shortest form nothing is said.
#[inline]
#[must_use]
pub fn is_transfer(bytes: &[u8]) -> bool {
    const DESCRIBED: [u8; 3] = [0, 0x53, descriptor::TRANSFER as u8];
    let Some([_, _, _, _, doff, AMQP, ..]) = bytes.first_chunk::<HEADER_BYTES>() else { return false };
    bytes.get(usize::from(*doff) * 4..).is_some_and(|body| body.starts_with(&DESCRIBED))
}

/// Appends a frame whose body `fill` appends.
#[inline]
pub fn put_frame(out: &mut Vec<u8>, kind: u8, channel: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let [c0, c1] = channel.to_be_bytes();
    out.extend_from_slice(&[0, 0, 0, 0, 2, kind, c0, c1]);
    fill(out);
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&size.to_be_bytes());
    }
}

/// Appends a frame of AMQP.
pub fn put_performative<'a>(out: &mut Vec<u8>, channel: u16, performative: &impl Composite<'a>) {
    put_frame(out, AMQP, channel, |out| performative.encode(out));
}

/// Appends a frame of AMQP if it is of at most `frame_bytes_max` bytes; false if it is larger.
#[must_use]
pub fn put_within<'a>(
    out: &mut Vec<u8>,
    channel: u16,
    performative: &impl Composite<'a>,
    frame_bytes_max: u32,
) -> bool {
    let start = out.len();
    put_performative(out, channel, performative);
    let fits = out.len() - start <= usize::try_from(frame_bytes_max).unwrap_or(usize::MAX);
    if !fits {
        out.truncate(start);
    }
    fits
}

/// Appends a frame of SASL.
pub fn put_sasl<'a>(out: &mut Vec<u8>, frame: &impl Composite<'a>) {
    put_frame(out, SASL, 0, |out| frame.encode(out));
}

/// Appends a delivery, in as many transfers as it needs (section 2.6.14); how many. The message is what the pieces are
/// when they are put one behind the other.
///
/// The first has all fields of `transfer`, the others its handle alone; `more` is set in all but the last, and in the
/// last it is as given. A frame has at least one byte of the message, if there is any.
pub fn put_transfer(
    out: &mut Vec<u8>,
    channel: u16,
    transfer: &Transfer<'_>,
    pieces: &[&[u8]],
    frame_bytes_max: u32,
) -> u32 {
    let frame_bytes_max = usize::try_from(frame_bytes_max).unwrap_or(usize::MAX);
    let mut left_bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    if PLAIN_BYTES_MAX + left_bytes <= frame_bytes_max
        && put_plain(out, channel, transfer, pieces, left_bytes)
    {
        return 1;
    }
    let mut head = *transfer;
    let mut pieces = pieces.iter();
    let mut piece: &[u8] = &[];
    let mut transfers = 0;
    loop {
        let start = out.len();
        put_performative(out, channel, &head);
        if !head.more && out.len() - start + left_bytes > frame_bytes_max {
            out.truncate(start);
            put_performative(out, channel, &Transfer { more: true, ..head });
        }
        let mut room_bytes = frame_bytes_max.saturating_sub(out.len() - start).max(1);
        while room_bytes > 0 && left_bytes > 0 {
            if piece.is_empty() {
                piece = pieces.next().copied().unwrap_or_default();
            }
            let (part, rest) = piece.split_at_checked(room_bytes).unwrap_or((piece, &[]));
            out.extend_from_slice(part);
            piece = rest;
            room_bytes -= part.len();
            left_bytes -= part.len();
        }
        let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
        if let Some(place) = out.get_mut(start..start + 4) {
            place.copy_from_slice(&size.to_be_bytes());
        }
        transfers += 1;
        if left_bytes == 0 {
            return transfers;
        }
        head = Transfer { handle: transfer.handle, more: transfer.more, ..Transfer::default() };
    }
}

/// The most bytes in front of the message in a frame of [`put_plain`]: header, descriptor, head of the list, three numbers, a
/// tag of 32 bytes, and whether it is settled.
const PLAIN_BYTES_MAX: usize = HEADER_BYTES + 3 + 3 + 3 * 5 + 34 + 1;

/// Appends a delivery that is in one transfer which says nothing but what most say, as the fields one by one would be
/// written; false of any other.
#[inline]
fn put_plain(
    out: &mut Vec<u8>,
    channel: u16,
    transfer: &Transfer<'_>,
    pieces: &[&[u8]],
    message_bytes: usize,
) -> bool {
    let &Transfer {
        handle,
        delivery_id: Some(delivery_id),
        delivery_tag: Some(tag),
        message_format: Some(message_format),
        settled: Some(settled),
        more: false,
        rcv_settle_mode: None,
        state: None,
        resume: false,
        aborted: false,
        batchable: false,
    } = transfer
    else {
        return false;
    };
    const DESCRIPTOR: u8 = descriptor::TRANSFER as u8;
    const FIELDS: u8 = 5;
    let start = out.len();
    out.reserve(PLAIN_BYTES_MAX + message_bytes);
    let [c0, c1] = channel.to_be_bytes();
    let head =
        [0, 0, 0, 0, 2, AMQP, c0, c1, code::DESCRIBED, code::SMALL_ULONG, DESCRIPTOR, code::LIST8, 0, FIELDS];
    out.extend_from_slice(&head);
    put_uint(out, handle);
    put_uint(out, delivery_id);
    put_bytes(out, (code::VBIN8, code::VBIN32), tag.bytes());
    put_uint(out, message_format);
    put_boolean(out, settled);
    let list_bytes = out.len() - start - (head.len() - 1);
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..).and_then(|frame| frame.first_chunk_mut::<14>()) {
        let [a, b, c, d, .., list, _] = place;
        [*a, *b, *c, *d] = size.to_be_bytes();
        // Fewer than the most that there are, so they fit.
        *list = list_bytes as u8;
    }
    true
}
