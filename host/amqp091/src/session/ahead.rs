//! What comes next, seen before the session gets it: for callers who keep the frames of a channel back
//! while something on it waits, and give them to [`Session::next`] later. Frames of different channels
//! may be given in any order, those of one channel in theirs; a frame that was begun is given to its end
//! first ([`Session::is_within_frame`]).

use super::{Phase, Session};
use crate::{
    content::Slot,
    frame::{BODY, FrameHeader, HEADER, HEADER_BYTES, METHOD, OVERHEAD_BYTES},
};

/// Class and method of connection.close.
const CONNECTION_CLOSE: [u8; 4] = [0, 10, 0, 50];
/// Of channel.close.
const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];
/// Of basic.publish and tx.commit.
const PUBLISHING: [[u8; 4]; 2] = [[0, 60, 0, 40], [0, 90, 0, 20]];

/// A frame, as far as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameAhead {
    /// Its channel.
    pub channel: u16,
    /// Its length, of which not everything has to be there.
    pub length_bytes: usize,
    /// It is a connection.close.
    pub closes_connection: bool,
    /// It belongs to a publish, or is a tx.commit.
    pub publishes: bool,
}

/// Class and method of the frame that begins at the front of `bytes`, if it is a method's.
fn method_of(bytes: &[u8]) -> Option<[u8; 4]> {
    let header = FrameHeader::read(bytes).filter(|header| header.kind == METHOD)?;
    (header.payload_bytes >= 4).then(|| bytes.get(HEADER_BYTES..)?.first_chunk().copied())?
}

/// Whether the frame that begins at the front of `bytes` is a channel.close.
#[must_use]
pub fn closes_channel(bytes: &[u8]) -> bool {
    method_of(bytes) == Some(CHANNEL_CLOSE)
}

/// The length of the frame that begins at the front of `bytes`, of which not everything has to be there.
#[must_use]
pub fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    Some(FrameHeader::read(bytes)?.payload_bytes as usize + OVERHEAD_BYTES)
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
        let method = method_of(bytes);
        let has_content = matches!(header.kind, HEADER | BODY);
        let publishes = has_content || method.is_some_and(|method| PUBLISHING.contains(&method));
        (payload_bytes <= self.payload_bytes_max).then_some(FrameAhead {
            channel: header.channel,
            length_bytes: payload_bytes + OVERHEAD_BYTES,
            closes_connection: method == Some(CONNECTION_CLOSE) && header.channel == 0,
            publishes: publishes && header.channel != 0,
        })
    }

    /// Forgets what was begun to be published on a channel: what it sends next is a method.
    pub fn abandon_content(&mut self, channel: u16) {
        if let Some(slot @ (Slot::AwaitHeader(_) | Slot::AwaitBody(_))) = self.channels.get_mut(channel) {
            *slot = Slot::Open;
        }
    }

    /// Whether a frame was begun whose rest has to come before anything else.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        self.body_frame.is_some()
    }
}
