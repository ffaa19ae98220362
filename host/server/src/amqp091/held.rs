//! Channels that wait: what a client sends on a channel while the broker's answer for one of its publishes
//! is pending, or a change that it asked for is being made (`beside.rs`).
//!
//! *In:* publishes that the broker did not deal with yet, or such a change, and the frames that come behind
//! them. *Out:* the same in the same order, once the channel was woken. Frames are kept as they came, whole, and the session
//! gets them when it is their turn: so whatever the channel sends, a bind, a get or its close, comes
//! behind what it published before, and the other channels of the connection go on.
//!
//! *Limits:* [`HELD_BYTES_MAX`] and [`HELD_PUBLISHES_MAX`] of a connection. Beyond them, and before a
//! connection.close, nothing more of the connection is handled until less waits.

use super::beside::Change;
use crate::connection::ConnectionWake;
use leveret_amqp091::{Publish, Session};
use leveret_broker::port::Wake;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// How much may wait on the channels of a connection before it is not handled any more, in bytes. What one
/// read brings may come on top.
pub(super) const HELD_BYTES_MAX: usize = 1024 * 1024;
/// How many publishes that the broker was asked about may wait likewise.
pub(super) const HELD_PUBLISHES_MAX: usize = 4 * 1024;
/// What a publish that waits takes beside its bytes, about.
const PUBLISH_OVERHEAD_BYTES: usize = 128;

/// Wakes a channel: notes that it was, and wakes its connection.
pub(super) struct ChannelWake {
    woken: AtomicBool,
    connection: Arc<ConnectionWake>,
}

impl ChannelWake {
    pub(super) fn new(connection: Arc<ConnectionWake>) -> Self {
        Self { woken: AtomicBool::new(false), connection }
    }
}

impl Wake for ChannelWake {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.connection.wake();
    }
}

/// The channels of a connection that wait.
#[derive(Default)]
pub(super) struct Held {
    channels: Vec<Waiting>,
    bytes: usize,
    publishes: usize,
    /// A frame that is being kept.
    partial: Option<Partial>,
    /// A connection.close waits in the input.
    closing: bool,
}

/// A channel that waits, or has frames that waited.
struct Waiting {
    number: u16,
    wake: Arc<ChannelWake>,
    /// The broker is to be asked about these again.
    publishes: VecDeque<Publish<'static>>,
    /// This is being made.
    change: Option<Change>,
    /// What came behind them.
    frames: Vec<u8>,
}

/// A frame that lies at the end of its channel's and is not whole yet.
#[derive(Clone, Copy)]
struct Partial {
    channel: u16,
    kept_bytes: usize,
    left_bytes: usize,
}

/// What is to be done with what comes next.
pub(super) enum Next {
    /// Give it to the session.
    Handle,
    /// So many bytes of it were kept.
    Kept(usize),
    /// Nothing: it waits where it is.
    Wait,
}

impl Held {
    /// Whether anything waits, so that [`Self::next`] is to be asked.
    #[inline]
    pub(super) fn any(&self) -> bool {
        !self.channels.is_empty() || self.partial.is_some()
    }

    /// Whether something waits that can be dealt with when it is its turn: more than the beginning of a frame.
    pub(super) fn has_whole(&self) -> bool {
        self.channels.iter().any(|channel| channel.waits() || self.whole_bytes(channel) > 0)
    }

    /// The connection is over. Of a frame that is being kept the rest is still kept off the session.
    pub(super) fn end(&mut self) {
        *self = Self { partial: self.partial, ..Self::default() };
    }

    /// Whether so much waits that nothing more is to be handled.
    pub(super) fn is_full(&self) -> bool {
        self.closing || self.bytes > HELD_BYTES_MAX || self.publishes > HELD_PUBLISHES_MAX
    }

    /// Whether publishes of a channel wait, or a change.
    pub(super) fn waits(&self, number: u16) -> bool {
        self.channels.iter().any(|channel| channel.number == number && channel.waits())
    }

    /// Has publishes of a channel wait, behind those that do.
    pub(super) fn add(
        &mut self,
        number: u16,
        wake: &Arc<ChannelWake>,
        publishes: impl Iterator<Item = Publish<'static>>,
    ) {
        let Some(channel) = waiting(&mut self.channels, number, wake) else { return };
        for publish in publishes {
            self.bytes += bytes_of(&publish);
            self.publishes += 1;
            channel.publishes.push_back(publish);
        }
    }

    /// Has a channel wait for a change.
    pub(super) fn add_change(&mut self, number: u16, wake: &Arc<ChannelWake>, change: Change) {
        if let Some(channel) = waiting(&mut self.channels, number, wake) {
            channel.change = Some(change);
        }
    }

    /// Takes the change that a channel waits for.
    pub(super) fn take_change(&mut self, number: u16) -> Option<(Change, Arc<ChannelWake>)> {
        let channel = self.channels.iter_mut().find(|channel| channel.number == number)?;
        Some((channel.change.take()?, channel.wake.clone()))
    }

    /// Takes the publishes of a channel, to ask about them again.
    pub(super) fn take_publishes(&mut self, number: u16) -> Vec<Publish<'static>> {
        let channel = self.channels.iter_mut().find(|channel| channel.number == number);
        let taken: Vec<_> = channel.map(|channel| channel.publishes.drain(..).collect()).unwrap_or_default();
        self.publishes = self.publishes.saturating_sub(taken.len());
        self.bytes = self.bytes.saturating_sub(taken.iter().map(bytes_of).sum());
        taken
    }

    /// The channels that were woken since.
    pub(super) fn take_woken(&self) -> Vec<u16> {
        let woken = self.channels.iter().filter(|channel| channel.wake.woken.swap(false, Ordering::AcqRel));
        woken.map(|channel| channel.number).collect()
    }

    /// A channel whose frames can be handled now.
    pub(super) fn ready(&self) -> Option<u16> {
        let ready = |channel: &&Waiting| !channel.waits() && self.whole_bytes(channel) > 0;
        self.channels.iter().find(ready).map(|channel| channel.number)
    }

    /// How many bytes of a channel's frames are whole frames.
    fn whole_bytes(&self, channel: &Waiting) -> usize {
        let partial = self.partial.filter(|partial| partial.channel == channel.number);
        channel.frames.len() - partial.map_or(0, |partial| partial.kept_bytes)
    }

    /// Takes the whole frames of a channel, to handle them.
    pub(super) fn take_frames(&mut self, number: u16) -> Vec<u8> {
        let Some(at) = self.channels.iter().position(|channel| channel.number == number) else {
            return Vec::new();
        };
        let whole = self.channels.get(at).map_or(0, |channel| self.whole_bytes(channel));
        let Some(channel) = self.channels.get_mut(at) else { return Vec::new() };
        let partial = channel.frames.split_off(whole);
        let frames = std::mem::replace(&mut channel.frames, partial);
        self.bytes = self.bytes.saturating_sub(frames.len());
        frames
    }

    /// Gives back those that could not be handled, which begin at `used`; forgets the channel if it has
    /// nothing more.
    pub(super) fn return_frames(&mut self, number: u16, mut frames: Vec<u8>, used: usize) {
        let Some(at) = self.channels.iter().position(|channel| channel.number == number) else { return };
        let Some(channel) = self.channels.get_mut(at) else { return };
        frames.drain(..used.min(frames.len()));
        self.bytes += frames.len();
        frames.append(&mut channel.frames);
        channel.frames = frames;
        self.forget_if_done(number);
    }

    /// Forgets a channel that has nothing more.
    pub(super) fn forget_if_done(&mut self, number: u16) {
        let done = |channel: &Waiting| !channel.waits() && channel.frames.is_empty();
        self.channels.retain(|channel| channel.number != number || !done(channel));
        if self.channels.is_empty() {
            *self = Self::default();
        }
    }

    /// The channel was closed: what it published and nobody dealt with is dropped, and nobody waits for its
    /// change.
    pub(super) fn drop_waiting(&mut self, number: u16) {
        self.take_publishes(number);
        self.take_change(number);
        self.forget_if_done(number);
    }

    /// What becomes of the frame at the front of `bytes`.
    pub(super) fn next(&mut self, session: &Session, bytes: &[u8]) -> Next {
        if let Some(partial) = self.partial {
            return self.keep(partial, bytes);
        }
        let Some(ahead) = session.look_ahead(bytes) else { return Next::Handle };
        if ahead.closes_connection {
            self.closing = true;
            return Next::Wait;
        }
        if !self.channels.iter().any(|channel| channel.number == ahead.channel) {
            return Next::Handle;
        }
        self.keep(Partial { channel: ahead.channel, kept_bytes: 0, left_bytes: ahead.length_bytes }, bytes)
    }

    /// Keeps more bytes of a frame.
    fn keep(&mut self, mut partial: Partial, bytes: &[u8]) -> Next {
        let piece = bytes.get(..partial.left_bytes).unwrap_or(bytes);
        partial.kept_bytes += piece.len();
        partial.left_bytes -= piece.len();
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.number == partial.channel) {
            channel.frames.extend_from_slice(piece);
            self.bytes += piece.len();
        }
        self.partial = Some(partial).filter(|partial| partial.left_bytes > 0);
        if piece.is_empty() { Next::Wait } else { Next::Kept(piece.len()) }
    }
}

impl Waiting {
    fn waits(&self) -> bool {
        !self.publishes.is_empty() || self.change.is_some()
    }
}

/// The channel of a number, which waits from now on.
fn waiting<'a>(
    channels: &'a mut Vec<Waiting>,
    number: u16,
    wake: &Arc<ChannelWake>,
) -> Option<&'a mut Waiting> {
    let known = channels.iter().position(|channel| channel.number == number);
    let at = known.unwrap_or_else(|| {
        let (publishes, frames) = (VecDeque::new(), Vec::new());
        channels.push(Waiting { number, wake: wake.clone(), publishes, change: None, frames });
        channels.len() - 1
    });
    let channel = channels.get_mut(at)?;
    channel.wake = wake.clone();
    Some(channel)
}

fn bytes_of(publish: &Publish<'_>) -> usize {
    let content = publish.properties.len() + publish.body.len();
    publish.exchange.len() + publish.routing_key.len() + content + PUBLISH_OVERHEAD_BYTES
}
