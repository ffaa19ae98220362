//! What comes next, seen before the session gets it: for callers who keep the frames of a channel back
//! while something on it waits, and give them to [`Session::next`] later. Frames of different channels
//! may be given in any order, those of one channel in theirs; a frame that was begun is given to its end
//! first ([`Session::is_within_frame`]).

use super::{Phase, Session};
use crate::frame::{FrameHeader, HEADER_BYTES, METHOD, OVERHEAD_BYTES};

/// A frame, as far as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameAhead {
    /// Its channel.
    pub channel: u16,
    /// Its length, of which not everything has to be there.
    pub length_bytes: usize,
    /// It is a connection.close.
    pub closes_connection: bool,
}

impl Session {
    /// The frame that begins at the front of `bytes`. `None` where the session alone can tell: the
    /// header is not whole, the frame is too large, it is not the beginning of one, or the connection is
    /// not open.
    #[must_use]
    pub fn look_ahead(&self, bytes: &[u8]) -> Option<FrameAhead> {
        if self.phase != Phase::Running || self.is_within_frame() {
            return None;
        }
        let header = FrameHeader::read(bytes)?;
        let payload_bytes = header.payload_bytes as usize;
        let closes = bytes.get(HEADER_BYTES..HEADER_BYTES + 4) == Some(&[0, 10, 0, 50]);
        (payload_bytes <= self.payload_bytes_max).then_some(FrameAhead {
            channel: header.channel,
            length_bytes: payload_bytes + OVERHEAD_BYTES,
            closes_connection: closes && (header.kind, header.channel) == (METHOD, 0),
        })
    }

    /// Whether a frame was begun whose rest has to come before anything else.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        self.body_frame.is_some()
    }
}
