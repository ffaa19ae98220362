//! Frames (section 4.2.3).
//!
//! ```text
//! u8 type, u16 channel, u32 payload length, payload, 0xCE
//!   type 1  method: class, number, arguments (`methods`)
//!   type 2  content header: u16 class, u16 weight = 0, u64 body length, properties (`properties`)
//!   type 3  content body
//!   type 8  heartbeat: channel 0, no payload
//! ```
//! A connection begins with eight bytes that are no frame: `AMQP 0 0 9 1`.

use crate::Method;
use alloc::vec::Vec;

/// Type of a method frame.
pub const METHOD: u8 = 1;
/// Type of a content header frame.
pub const HEADER: u8 = 2;
/// Type of a content body frame.
pub const BODY: u8 = 3;
/// Type of a heartbeat frame.
pub const HEARTBEAT: u8 = 8;
/// The last byte of every frame.
pub const END: u8 = 0xce;
/// Bytes in front of a payload.
pub const HEADER_BYTES: usize = 7;
/// Bytes of a frame that are not payload.
pub const OVERHEAD_BYTES: usize = 8;
/// The smallest frame-max that may be negotiated, and the one before negotiation, in bytes.
pub const FRAME_BYTES_MIN: u32 = 8192;
/// A whole heartbeat frame.
pub const HEARTBEAT_FRAME: [u8; OVERHEAD_BYTES] = [HEARTBEAT, 0, 0, 0, 0, 0, 0, END];
/// How a connection of this version begins.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// How clients of version 0-9 begin; they are served as if they spoke 0-9-1.
pub const PROTOCOL_HEADER_0_9: [u8; 8] = *b"AMQP\x01\x01\x00\x09";

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The type.
    pub kind: u8,
    /// The channel.
    pub channel: u16,
    /// How many bytes the payload has.
    pub payload_bytes: u32,
}

impl FrameHeader {
    /// Reads it, if all of it is there.
    #[must_use]
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [kind, c0, c1, s0, s1, s2, s3] = *bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Self {
            kind,
            channel: u16::from_be_bytes([c0, c1]),
            payload_bytes: u32::from_be_bytes([s0, s1, s2, s3]),
        })
    }

    /// The whole frame, if all of it is there.
    #[must_use]
    #[inline]
    pub fn frame<'b>(&self, bytes: &'b [u8]) -> Option<Frame<'b>> {
        let payload_end = HEADER_BYTES.checked_add(usize::try_from(self.payload_bytes).ok()?)?;
        let payload = bytes.get(HEADER_BYTES..payload_end)?;
        let end = *bytes.get(payload_end)?;
        Some(Frame { kind: self.kind, channel: self.channel, payload, end, length_bytes: payload_end + 1 })
    }
}

/// A whole frame, whose last byte may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    /// The type.
    pub kind: u8,
    /// The channel.
    pub channel: u16,
    /// The payload.
    pub payload: &'b [u8],
    /// The last byte, which should be [`END`].
    pub end: u8,
    /// The length of the whole frame.
    pub length_bytes: usize,
}

/// The most payload of a frame, in bytes, for a negotiated frame-max.
#[must_use]
pub fn payload_bytes_max(frame_bytes_max: u32) -> usize {
    usize::try_from(frame_bytes_max).unwrap_or(usize::MAX).saturating_sub(OVERHEAD_BYTES).max(1)
}

/// Appends a method frame.
pub fn put_method(out: &mut Vec<u8>, channel: u16, method: &Method<'_>) {
    let start = out.len();
    let [c0, c1] = channel.to_be_bytes();
    out.extend_from_slice(&[METHOD, c0, c1, 0, 0, 0, 0]);
    method.encode(out);
    let payload = u32::try_from(out.len() - start - HEADER_BYTES).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start + 3..start + HEADER_BYTES) {
        place.copy_from_slice(&payload.to_be_bytes());
    }
    out.push(END);
}

/// Appends a content header frame and the body frames it needs. `properties` begin with the
/// property flags.
#[inline]
pub fn put_content(out: &mut Vec<u8>, channel: u16, properties: &[u8], body: &[u8], frame_bytes_max: u32) {
    put_header(out, channel, properties, body.len() as u64);
    put_body(out, channel, body, frame_bytes_max);
}

/// Appends the header frame of a content whose body has so many bytes. `properties` begin with the property flags.
#[inline]
pub fn put_header(out: &mut Vec<u8>, channel: u16, properties: &[u8], body_bytes: u64) {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = u32::try_from(12 + properties.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[HEADER, c0, c1, s0, s1, s2, s3, 0, 60, 0, 0]);
    out.extend_from_slice(&body_bytes.to_be_bytes());
    out.extend_from_slice(properties);
    out.push(END);
}

/// Appends the frames of a body: as many as it needs, none for an empty one.
#[inline]
pub fn put_body(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_bytes_max: u32) {
    let [c0, c1] = channel.to_be_bytes();
    for chunk in body.chunks(payload_bytes_max(frame_bytes_max)) {
        let [s0, s1, s2, s3] = u32::try_from(chunk.len()).unwrap_or(u32::MAX).to_be_bytes();
        out.extend_from_slice(&[BODY, c0, c1, s0, s1, s2, s3]);
        out.extend_from_slice(chunk);
        out.push(END);
    }
}

/// How many bytes [`put_content`] appends.
#[must_use]
#[inline]
pub fn content_bytes(properties: &[u8], body: &[u8], frame_bytes_max: u32) -> usize {
    let frames = body.len().div_ceil(payload_bytes_max(frame_bytes_max));
    OVERHEAD_BYTES + 12 + properties.len() + body.len() + frames * OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_frame_is_the_stored_one() {
        let mut out = Vec::new();
        put_method(&mut out, 258, &Method::ChannelFlow { active: true });
        assert_eq!(out, b"\x01\x01\x02\0\0\0\x05\0\x14\0\x14\x01\xce");
        let header = FrameHeader::read(&out).unwrap();
        assert_eq!(header, FrameHeader { kind: METHOD, channel: 258, payload_bytes: 5 });
        let frame = Frame { kind: METHOD, channel: 258, payload: &out[7..12], end: END, length_bytes: 13 };
        assert_eq!(header.frame(&out), Some(frame));
        assert_eq!(header.frame(&out[..12]), None);
        assert_eq!(FrameHeader::read(&out[..6]), None);
    }

    #[test]
    fn content_is_split_by_the_frame_size() {
        let mut out = Vec::new();
        put_content(&mut out, 1, &[0, 0], b"abcde", 10);
        let expected = b"\x02\0\x01\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\x05\0\0\xce\
            \x03\0\x01\0\0\0\x02ab\xce\x03\0\x01\0\0\0\x02cd\xce\x03\0\x01\0\0\0\x01e\xce";
        assert_eq!(out, expected);
        assert_eq!(out.len(), content_bytes(&[0, 0], b"abcde", 10));
        out.clear();
        put_content(&mut out, 1, &[0, 0], b"", 10);
        assert_eq!(out.len(), 22);
        assert_eq!(out.len(), content_bytes(&[0, 0], b"", 10));
    }

    #[test]
    fn a_payload_length_that_no_buffer_has_is_not_a_frame() {
        let header = FrameHeader { kind: 1, channel: 0, payload_bytes: u32::MAX };
        assert_eq!(header.frame(&[0; 64]), None);
    }
}
