//! A channel's place, and the assembly of a message that comes in several frames.
//!
//! ```text
//! content header frame's payload: u16 class = 60, u16 weight = 0, u64 body length, properties
//! body frames' payloads: the body, in pieces, until its length is reached
//! ```

use crate::{
    close::{Failure, ReplyCode},
    properties,
    wire::Reader,
};
use alloc::{boxed::Box, format, vec::Vec};

/// Class and method of basic.publish, the only method with content that a client sends.
pub(crate) const PUBLISH: (u16, u16) = (60, 40);
/// The longest body that can be spoken of at all, in bytes; the configured limit is lower.
pub(crate) const BODY_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// How much is set aside for a body before any of it has come, in bytes: little, since a header
/// that promises much costs its sender nothing.
const BODY_BYTES_RESERVED_MAX: usize = 16 * 1024;
/// The smallest payload of a content header.
const HEADER_PAYLOAD_BYTES_MIN: usize = 14;

/// What a channel number stands for.
#[derive(Debug, Default)]
pub(crate) enum Slot {
    /// It was never opened.
    #[default]
    Unused,
    /// It was open once.
    Closed,
    /// It is open.
    Open,
    /// It is open, and after basic.publish a content header must follow.
    AwaitHeader(Box<Content>),
    /// It is open, and body frames must follow.
    AwaitBody(Box<Content>),
    /// channel.close was sent; everything is dropped until close-ok comes.
    Closing,
}

impl Slot {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open | Self::AwaitHeader(_) | Self::AwaitBody(_))
    }
}

/// A message of which not everything has come.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) exchange: Vec<u8>,
    pub(crate) routing_key: Vec<u8>,
    pub(crate) mandatory: bool,
    pub(crate) properties: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) body_bytes: usize,
}

impl Content {
    pub(crate) fn new(exchange: &[u8], routing_key: &[u8], mandatory: bool) -> Box<Self> {
        Box::new(Self {
            exchange: exchange.to_vec(),
            routing_key: routing_key.to_vec(),
            mandatory,
            properties: Vec::new(),
            body: Vec::new(),
            body_bytes: 0,
        })
    }

    pub(crate) fn begin_body(&mut self, header: &ContentHeader<'_>) {
        self.properties = header.properties.to_vec();
        self.body_bytes = header.body_bytes;
        self.body = Vec::with_capacity(header.body_bytes.min(BODY_BYTES_RESERVED_MAX));
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.body.len() == self.body_bytes
    }

    pub(crate) fn missing_bytes(&self) -> usize {
        self.body_bytes.saturating_sub(self.body.len())
    }
}

/// A content header that was checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ContentHeader<'a> {
    pub(crate) body_bytes: usize,
    pub(crate) properties: &'a [u8],
}

/// Why a content header was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// The connection ends.
    Failure(Failure),
    /// Only the channel ends: the body is larger than is configured.
    BodyTooLarge {
        /// How large it would be.
        bytes: u64,
    },
}

impl<'a> ContentHeader<'a> {
    /// Reads and checks the payload of a header frame that follows basic.publish.
    pub(crate) fn read(payload: &'a [u8], body_bytes_max: u64) -> Result<Self, HeaderFault> {
        let fail = |code, text: &str| HeaderFault::Failure(Failure::new(code, text, PUBLISH));
        if payload.len() < HEADER_PAYLOAD_BYTES_MIN {
            return Err(HeaderFault::Failure(Failure::frame(
                crate::frame::HEADER,
                payload,
                &"unknown_frame",
            )));
        }
        let mut reader = Reader::new(payload);
        let (Ok(class), Ok(weight), Ok(bytes)) = (reader.short(), reader.short(), reader.longlong()) else {
            return Err(fail(ReplyCode::FrameError, "cannot decode content header"));
        };
        if class != PUBLISH.0 {
            let text = format!("expected content header for class 60, got one for class {class} instead");
            return Err(fail(ReplyCode::UnexpectedFrame, &text));
        }
        if weight != 0 {
            return Err(fail(ReplyCode::UnexpectedFrame, NO_HEADER));
        }
        if bytes > BODY_BYTES_MAX {
            let text = format!("content body size {bytes} exceeds maximum allowed size {BODY_BYTES_MAX}");
            return Err(fail(ReplyCode::FrameError, &text));
        }
        if properties::check(reader.rest()).is_err() {
            return Err(fail(ReplyCode::SyntaxError, "cannot decode content properties"));
        }
        match usize::try_from(bytes) {
            Ok(body_bytes) if bytes <= body_bytes_max => Ok(Self { body_bytes, properties: reader.rest() }),
            _ => Err(HeaderFault::BodyTooLarge { bytes }),
        }
    }
}

/// 505 where a content header was due.
pub(crate) const NO_HEADER: &str =
    "expected content header for class 60, got non content header frame instead";
/// 505 where a body frame was due.
pub(crate) const NO_BODY: &str = "expected content body, got non content body frame instead";
/// 505 where a method was due.
pub(crate) const NO_METHOD: &str = "expected method frame, got non method frame instead";

/// 505: something else than the content that was due.
pub(crate) fn content_due(explanation: &str) -> Failure {
    Failure::new(ReplyCode::UnexpectedFrame, explanation, PUBLISH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(fault: &HeaderFault) -> Option<u16> {
        if let HeaderFault::Failure(failure) = fault { Some(failure.code.number()) } else { None }
    }

    #[test]
    fn a_header_is_the_stored_one() {
        let payload = b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\x10\0\x02";
        let header = ContentHeader::read(payload, 5).unwrap();
        assert_eq!(header, ContentHeader { body_bytes: 5, properties: b"\x10\0\x02" });
        assert_eq!(ContentHeader::read(payload, 4), Err(HeaderFault::BodyTooLarge { bytes: 5 }));
    }

    #[test]
    fn each_fault_has_its_code() {
        let read = |payload: &[u8]| code(&ContentHeader::read(payload, u64::MAX).unwrap_err());
        assert_eq!(read(b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\0"), Some(501), "too short");
        assert_eq!(read(b"\0\x32\0\0\0\0\0\0\0\0\0\x05\0\0"), Some(505), "another class");
        assert_eq!(read(b"\0\x3c\0\x07\0\0\0\0\0\0\0\x05\0\0"), Some(505), "a weight");
        assert_eq!(read(b"\0\x3c\0\0\x80\0\0\0\0\0\0\0\0\0"), Some(501), "a body that cannot be");
        assert_eq!(read(b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\x80\0\x09a"), Some(502), "properties cut short");
    }
}
