//! The client's side of the wire: what it sends, and the frames it gets. No state is kept here; a
//! client of a few methods keeps its own.
//!
//! The bytes are those of [`crate::frame`], [`crate::methods`] and [`crate::properties`]. A
//! connection begins with [`put_protocol_header`]; then the methods of the handshake go by
//! [`put_method`].

use crate::{
    Method,
    frame::{self, BODY, END, Frame, FrameHeader, HEADER, HEARTBEAT, METHOD},
    methods::DecodeError,
    wire::{self, Reader},
};
use alloc::vec::Vec;
use core::fmt;
use leveret_model::Table;

pub use crate::frame::put_method;

/// A frame that came from the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming<'b> {
    /// A method. After one with content come a header and body frames of the same channel.
    Method {
        /// On which channel.
        channel: u16,
        /// The method.
        method: Method<'b>,
    },
    /// A content header.
    Header {
        /// On which channel.
        channel: u16,
        /// How long the body will be, in bytes.
        body_bytes: u64,
        /// The properties, unchecked: read them with [`crate::properties::Properties`].
        properties: &'b [u8],
    },
    /// A piece of a body.
    Body {
        /// On which channel.
        channel: u16,
        /// The piece.
        bytes: &'b [u8],
    },
    /// The server lives.
    Heartbeat,
}

/// The server sent what is no frame, or none that a client can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveError {
    /// The server answers with a protocol header: it speaks another version.
    OtherProtocol([u8; 8]),
    /// A frame of an unknown type, too large, or without its end octet.
    Frame,
    /// A method that is not in the table, or whose arguments make no sense.
    Method {
        /// Its class.
        class: u16,
        /// Its number.
        method: u16,
    },
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherProtocol(header) => write!(f, "the server wants another protocol: {header:?}"),
            Self::Frame => f.write_str("the server sent what is no frame"),
            Self::Method { class, method } => {
                write!(f, "the server sent method {class}.{method}, which cannot be decoded")
            }
        }
    }
}

impl core::error::Error for ReceiveError {}

/// The frame at the front of `bytes` and how many bytes it takes, or `None` if more are needed.
///
/// # Errors
/// If what is there will never be a frame that a client can take.
#[inline]
pub fn next_frame(bytes: &[u8], frame_bytes_max: u32) -> Result<Option<(usize, Incoming<'_>)>, ReceiveError> {
    let Some(header) = FrameHeader::read(bytes) else {
        return Ok(None);
    };
    if bytes.starts_with(b"AMQP") {
        return bytes.first_chunk().map_or(Ok(None), |header| Err(ReceiveError::OtherProtocol(*header)));
    }
    if header.payload_bytes > frame_bytes_max {
        return Err(ReceiveError::Frame);
    }
    let Some(Frame { kind, channel, payload, end, length_bytes }) = header.frame(bytes) else {
        return Ok(None);
    };
    let incoming = match (kind, end) {
        (METHOD, END) => {
            let mut reader = Reader::new(payload);
            let (Ok(class), Ok(id)) = (reader.short(), reader.short()) else {
                return Err(ReceiveError::Frame);
            };
            let method = Method::decode(class, id, reader.rest())
                .map_err(|_: DecodeError| ReceiveError::Method { class, method: id })?;
            Incoming::Method { channel, method }
        }
        (HEADER, END) => {
            let mut reader = Reader::new(payload);
            let (Ok(_class_and_weight), Ok(body_bytes)) = (reader.long(), reader.longlong()) else {
                return Err(ReceiveError::Frame);
            };
            Incoming::Header { channel, body_bytes, properties: reader.rest() }
        }
        (BODY, END) => Incoming::Body { channel, bytes: payload },
        (HEARTBEAT, END) => Incoming::Heartbeat,
        _ => return Err(ReceiveError::Frame),
    };
    Ok(Some((length_bytes, incoming)))
}

/// The next method, passing over all other frames: how many bytes up to its end, its channel, and
/// itself; `None` if more bytes are needed.
///
/// # Errors
/// As [`next_frame`].
pub fn next_method(bytes: &[u8]) -> Result<Option<(usize, u16, Method<'_>)>, ReceiveError> {
    let mut passed = 0;
    while let Some((took, incoming)) = next_frame(bytes.get(passed..).unwrap_or_default(), u32::MAX)? {
        passed += took;
        if let Incoming::Method { channel, method } = incoming {
            return Ok(Some((passed, channel, method)));
        }
    }
    Ok(None)
}

/// Appends the eight bytes with which a connection begins.
pub fn put_protocol_header(out: &mut Vec<u8>) {
    out.extend_from_slice(&frame::PROTOCOL_HEADER);
}

/// Appends connection.start-ok with mechanism PLAIN.
pub fn put_start_ok(out: &mut Vec<u8>, user: &[u8], password: &[u8], client_properties: Table) {
    let response = [b"\0", user, b"\0", password].concat();
    let start_ok = Method::ConnectionStartOk {
        client_properties,
        mechanism: b"PLAIN",
        response: &response,
        locale: b"en_US",
    };
    put_method(out, 0, &start_ok);
}

/// Appends basic.publish, not mandatory, with its content. Exchange and key have at most 255
/// bytes; properties are those of [`crate::properties::MessageProperties::encode`] or
/// [`crate::properties::NONE`]; `frame_bytes_max` is what was negotiated.
#[inline]
pub fn put_publish(
    out: &mut Vec<u8>,
    channel: u16,
    exchange: &[u8],
    routing_key: &[u8],
    properties: &[u8],
    body: &[u8],
    frame_bytes_max: u32,
) {
    let payload = 4 + 2 + 1 + exchange.len() + 1 + routing_key.len() + 1;
    out.reserve(frame::OVERHEAD_BYTES + payload + frame::content_bytes(properties, body, frame_bytes_max));
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = u32::try_from(payload).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[METHOD, c0, c1, s0, s1, s2, s3, 0, 60, 0, 40, 0, 0]);
    wire::put_shortstr(out, exchange);
    wire::put_shortstr(out, routing_key);
    out.extend_from_slice(&[0, END]);
    frame::put_content(out, channel, properties, body, frame_bytes_max);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::NONE;

    const PUBLISH: Method<'static> =
        Method::BasicPublish { exchange: b"ex", routing_key: b"key", mandatory: false, immediate: false };

    fn publish() -> Vec<u8> {
        let mut out = Vec::new();
        put_publish(&mut out, 5, b"ex", b"key", NONE, b"hello", 4096);
        out
    }

    #[test]
    fn a_publish_is_its_three_frames() {
        let mut expected = Vec::new();
        put_method(&mut expected, 5, &PUBLISH);
        frame::put_content(&mut expected, 5, NONE, b"hello", 4096);
        assert_eq!(publish(), expected);
    }

    #[test]
    fn frames_are_read_one_by_one() {
        let mut bytes = publish();
        bytes.extend_from_slice(&frame::HEARTBEAT_FRAME);
        let mut seen = Vec::new();
        let mut at = 0;
        while let Some((took, incoming)) = next_frame(&bytes[at..], 4096).unwrap() {
            assert_eq!(next_frame(&bytes[at..at + took - 1], 4096), Ok(None));
            at += took;
            seen.push(incoming);
        }
        let expected = [
            Incoming::Method { channel: 5, method: PUBLISH },
            Incoming::Header { channel: 5, body_bytes: 5, properties: NONE },
            Incoming::Body { channel: 5, bytes: b"hello" },
            Incoming::Heartbeat,
        ];
        assert_eq!(seen, expected);
        assert_eq!(at, bytes.len());
    }

    #[test]
    fn other_frames_are_passed_over() {
        let mut bytes = frame::HEARTBEAT_FRAME.to_vec();
        put_method(&mut bytes, 3, &Method::BasicAck { delivery_tag: 9, multiple: true });
        let length = bytes.len();
        bytes.extend(publish());
        let ack = Method::BasicAck { delivery_tag: 9, multiple: true };
        assert_eq!(next_method(&bytes), Ok(Some((length, 3, ack))));
        assert_eq!(next_method(&bytes[..length - 1]), Ok(None));
        assert_eq!(next_method(b"AMQP\0\0\x09\0"), Err(ReceiveError::OtherProtocol(*b"AMQP\0\0\x09\0")));
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        assert_eq!(next_frame(b"AMQP\0\0\x09", 4096), Ok(None));
        let other = next_frame(b"AMQP\x03\x01\0\0", 4096);
        assert_eq!(other, Err(ReceiveError::OtherProtocol(*b"AMQP\x03\x01\0\0")));
        assert_eq!(next_frame(b"\x01\0\0\0\0\x10\x01", 4096), Err(ReceiveError::Frame), "too large");
        assert_eq!(next_frame(b"\x08\0\0\0\0\0\0\0", 4096), Err(ReceiveError::Frame), "end octet");
        assert_eq!(next_frame(b"\x07\0\0\0\0\0\0\xce", 4096), Err(ReceiveError::Frame), "type");
        assert_eq!(
            next_frame(b"\x01\0\0\0\0\0\x03\0\x3c\0\xce", 4096),
            Err(ReceiveError::Frame),
            "too short"
        );
        let unknown = next_frame(b"\x01\0\x01\0\0\0\x04\0\x3c\0\x63\xce", 4096);
        assert_eq!(unknown, Err(ReceiveError::Method { class: 60, method: 99 }));
    }
}
