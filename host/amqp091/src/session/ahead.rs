//! What comes next, seen before the session gets it: for callers who keep the frames of a channel back
//! while something on it waits, and give them to [`Session::next_frame`] later. Frames of different channels
//! may be given in any order, those of one channel in theirs; a frame that was begun is given to its end
//! first ([`Session::is_within_frame`]).

use super::{Event, Phase, Session, handshake::decode_method};
use crate::{
    close::Failure,
    content::Slot,
    frame::{BODY, FrameHeader, HEADER, HEADER_BYTES, METHOD, OVERHEAD_BYTES},
};

/// How many bytes class and method take.
const IDS_BYTES: usize = 4;

/// What matters of a frame to whoever keeps frames back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// It is a connection.close.
    ClosesConnection,
    /// It is a channel.close.
    ClosesChannel,
    /// It belongs to a publish, or is a tx.commit.
    Publishes,
    /// It is a basic.ack, basic.reject or basic.nack.
    Settles,
    /// It is a tx.select: what settles behind it waits for a commit.
    BeginsTransactions,
    /// Anything else.
    Other,
}

/// A frame, as far as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameAhead {
    /// Its channel.
    pub channel: u16,
    /// Its length, of which not everything has to be there.
    pub length_bytes: usize,
    /// What it is about.
    pub matter: Matter,
}

/// What the frame that begins at the front of `bytes` is about. [`Matter::Other`] where that cannot be told yet.
#[must_use]
pub fn matter_of(bytes: &[u8]) -> Matter {
    let Some(header) = FrameHeader::read(bytes) else { return Matter::Other };
    if matches!(header.kind, HEADER | BODY) && header.channel != 0 {
        return Matter::Publishes;
    }
    if header.kind != METHOD || (header.payload_bytes as usize) < IDS_BYTES {
        return Matter::Other;
    }
    let ids = bytes.get(HEADER_BYTES..).and_then(<[u8]>::first_chunk::<IDS_BYTES>);
    match (header.channel, ids) {
        (0, Some([0, 10, 0, 50])) => Matter::ClosesConnection,
        (0, _) => Matter::Other,
        (_, Some([0, 20, 0, 40])) => Matter::ClosesChannel,
        (_, Some([0, 60, 0, 40] | [0, 90, 0, 20])) => Matter::Publishes,
        (_, Some([0, 60, 0, 80 | 90 | 120])) => Matter::Settles,
        (_, Some([0, 90, 0, 10])) => Matter::BeginsTransactions,
        _ => Matter::Other,
    }
}

/// The length of the frame that begins at the front of `bytes`, of which not everything has to be there.
#[must_use]
pub fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    Some(FrameHeader::read(bytes)?.payload_bytes as usize + OVERHEAD_BYTES)
}

impl Session {
    /// The frame that begins at the front of `bytes`. `None` where the session alone can tell: the
    /// header, or the name of the method, is not whole, the frame is too large, it is not the beginning of one, or the
    /// connection is not open.
    #[must_use]
    pub fn look_ahead(&self, bytes: &[u8]) -> Option<FrameAhead> {
        if self.phase != Phase::Running || self.is_within_frame() {
            return None;
        }
        let header = FrameHeader::read(bytes)?;
        let payload_bytes = header.payload_bytes as usize;
        let is_named = header.kind != METHOD || bytes.len() >= HEADER_BYTES + payload_bytes.min(IDS_BYTES);
        (payload_bytes <= self.payload_bytes_max && is_named).then_some(FrameAhead {
            channel: header.channel,
            length_bytes: payload_bytes + OVERHEAD_BYTES,
            matter: matter_of(bytes),
        })
    }

    /// Takes a whole frame that settles ([`Matter::Settles`]) from the front of `bytes`, past what was kept back of its
    /// channel, also where a message was begun of which the rest was. Else as [`Self::next`].
    pub fn next_settlement<'b>(&mut self, bytes: &'b [u8]) -> (usize, Option<Event<'b>>) {
        let channel = FrameHeader::read(bytes).map_or(0, |header| header.channel);
        if !self.notices.is_empty() || self.phase != Phase::Running || !self.is_channel_open(channel) {
            return self.next(bytes);
        }
        match self.settlement(bytes) {
            Ok(Some((took, event))) => (took, Some(event)),
            Ok(None) => (0, None),
            Err(failure) => {
                self.fail(&failure);
                (self.drop_frame(bytes), None)
            }
        }
    }

    fn settlement<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<(usize, Event<'b>)>, Failure> {
        let Some(frame) = self.frame(bytes)? else { return Ok(None) };
        let method = decode_method(frame.payload)?;
        Ok(Some((frame.length_bytes, Event::Request { channel: frame.channel, method })))
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
