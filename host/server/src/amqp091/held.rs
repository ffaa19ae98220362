//! Channels that wait: what a client sends on a channel while the broker's answer for one of its publishes
//! is pending, or a change that it asked for is being made (`beside.rs`).
//!
//! *In:* publishes that the broker did not deal with yet, or such a change, and the frames that come behind
//! them. *Out:* the same in the same order, once the channel was woken. Frames are kept as they came, whole, and the session
//! gets them when it is their turn: so whatever the channel sends, a bind, a get or its close, comes
//! behind what it published before, and the other channels of the connection go on.
//!
//! *Held back.* While the connection's publishes are held back, for want of memory or of disk, its channels wait from
//! their first publish or commit on. Nothing of that was answered: what a channel has waiting so is dropped when its
//! close or that of the connection comes, which is answered at once. What such a channel settles goes past what it has
//! waiting, for that is what makes room, and counts before its close; but not where it has transactions, in which
//! settlements wait for their commit.
//!
//! *Limits:* [`HELD_BYTES_MAX`] and [`HELD_PUBLISHES_MAX`] of a connection, while it is held back what `stash.rs` gives.
//! Beyond them, and before a connection.close, nothing more of the connection is handled until less waits.

use super::{beside::Change, stash::Share};
use crate::connection::ConnectionWake;
use leveret_amqp091::{FrameAhead, Matter, Publish, Session, frame_bytes, matter_of};
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

/// By how many bytes the room for a channel's frames grows at least.
const GROWTH_BYTES: usize = 1024;

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
pub(super) struct Held {
    channels: Vec<Waiting>,
    bytes: usize,
    publishes: usize,
    /// A frame that is being kept.
    partial: Option<Partial>,
    /// A connection.close waits in the input.
    closing: bool,
    /// Publishes are held back.
    holds_back: bool,
    /// There is no room for more of what is held back.
    stash_full: bool,
    share: Share,
    dropped_bytes: usize,
}

/// A channel that waits, or has frames that waited.
struct Waiting {
    number: u16,
    wake: Arc<ChannelWake>,
    /// The broker is to be asked about these again.
    publishes: VecDeque<Publish<'static>>,
    /// This is being made.
    change: Option<Change>,
    /// Its publishes are held back, of which `frames` begins with one.
    stashed: bool,
    /// While they are, what it settles waits with them.
    keeps_order: bool,
    /// `frames` begins within transactions.
    in_transaction: bool,
    /// It is about to be closed, and what it began to publish was dropped.
    cut: bool,
    /// What came behind them.
    frames: Vec<u8>,
    /// What it settles, of frames that came before it was known that they are held back.
    settlements: Vec<u8>,
}

/// A channel that is open, as far as what is kept of it goes.
pub(super) struct OpenChannel {
    pub(super) wake: Arc<ChannelWake>,
    /// Its publishes and settlements wait for a commit.
    pub(super) in_transaction: bool,
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
    /// Give it to the session, past what its channel has waiting.
    Settle,
    /// So many bytes of it were kept.
    Kept(usize),
    /// Nothing: it waits where it is.
    Wait,
}

impl Held {
    pub(super) fn new(share: Share) -> Self {
        Self {
            channels: Vec::new(),
            bytes: 0,
            publishes: 0,
            partial: None,
            closing: false,
            holds_back: false,
            stash_full: false,
            share,
            dropped_bytes: 0,
        }
    }

    /// Whether anything waits or is to wait, so that [`Self::next`] is to be asked.
    #[inline]
    pub(super) fn any(&self) -> bool {
        !self.channels.is_empty() || self.partial.is_some() || self.holds_back
    }

    /// Whether publishes are held back.
    pub(super) fn holds_back(&self) -> bool {
        self.holds_back
    }

    /// From now on publishes are held back, or no more; true if that ends.
    pub(super) fn hold_back(&mut self, holds_back: bool) -> bool {
        if self.holds_back == holds_back {
            return false;
        }
        self.holds_back = holds_back;
        if !holds_back {
            self.stash_full = false;
            self.channels.iter_mut().for_each(|channel| channel.stashed = false);
        }
        !holds_back
    }

    /// Whether something waits that can be dealt with when it is its turn: more than the beginning of a frame.
    pub(super) fn has_whole(&self) -> bool {
        self.channels.iter().any(|channel| channel.waits() || self.whole_bytes(channel) > 0)
    }

    /// The connection is over. Of a frame that is being kept the rest is still kept off the session.
    pub(super) fn end(&mut self) {
        let partial = self.partial;
        self.forget_all();
        self.partial = partial;
        self.hold_back(false);
    }

    /// Nothing waits any more.
    fn forget_all(&mut self) {
        self.channels = Vec::new();
        (self.bytes, self.publishes, self.partial, self.closing) = (0, 0, None, false);
        self.stash_full = false;
        self.share.shrink(0);
    }

    /// Whether so much waits that nothing more is to be handled.
    pub(super) fn is_full(&self) -> bool {
        let is_much = || self.bytes > HELD_BYTES_MAX || self.publishes > HELD_PUBLISHES_MAX;
        self.closing || if self.holds_back { self.stash_full } else { is_much() }
    }

    /// Whether publishes of a channel wait, or a change.
    pub(super) fn waits(&self, number: u16) -> bool {
        self.channels.iter().any(|channel| channel.number == number && channel.waits())
    }

    /// Whether an answer for publishes of a channel is due, or a change: what comes next is held back at most.
    pub(super) fn is_answer_due(&self, number: u16) -> bool {
        self.channels.iter().any(|channel| channel.number == number && channel.is_answer_due())
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
        let close_at = if channel.stashed { find_close(&frames) } else { None };
        frames.append(&mut channel.frames);
        channel.frames = frames;
        if let Some(close_at) = close_at {
            let dropped = channel.cut(close_at);
            self.bytes -= dropped;
            self.dropped_bytes += dropped;
        } else if channel.stashed && !self.closing {
            self.bytes -= channel.take_settlements_out();
        }
        if self.closing {
            self.drop_stashed();
        }
        self.forget_if_done(number);
    }

    /// Takes what a channel settles behind what was held back of what it had waiting: whole frames.
    pub(super) fn take_settlements(&mut self, number: u16) -> Vec<u8> {
        let channel = self.channels.iter_mut().find(|channel| channel.number == number);
        channel.map(|channel| std::mem::take(&mut channel.settlements)).unwrap_or_default()
    }

    /// Whether a channel is about to be closed that had begun to publish something; no more after that.
    pub(super) fn take_cut(&mut self, number: u16) -> bool {
        let channel = self.channels.iter_mut().find(|channel| channel.number == number);
        channel.is_some_and(|channel| std::mem::take(&mut channel.cut))
    }

    /// Whether a connection.close waits for what is in front of it.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Drops what is held back, since the connection is to be closed, but for what it settles.
    fn drop_stashed(&mut self) {
        for channel in self.channels.iter_mut().filter(|channel| channel.stashed) {
            let dropped = channel.cut(channel.frames.len());
            self.bytes -= dropped;
            self.dropped_bytes += dropped;
        }
        self.channels.retain(|channel| channel.waits() || !channel.frames.is_empty());
        self.share.shrink(self.bytes);
    }

    /// How many bytes of what was held back were dropped since the last time.
    pub(super) fn take_dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped_bytes)
    }

    /// Forgets a channel that has nothing more.
    pub(super) fn forget_if_done(&mut self, number: u16) {
        let done = |channel: &Waiting| !channel.waits() && channel.frames.is_empty();
        self.channels.retain(|channel| channel.number != number || !done(channel));
        self.stash_full = false;
        self.share.shrink(self.bytes);
        if self.channels.is_empty() {
            self.forget_all();
        }
    }

    /// The channel was closed: what it published and nobody dealt with is dropped, and nobody waits for its
    /// change.
    pub(super) fn drop_waiting(&mut self, number: u16) {
        self.take_publishes(number);
        self.take_change(number);
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.number == number) {
            channel.stashed = false;
        }
        self.forget_if_done(number);
    }

    /// What becomes of the frame at the front of `bytes`. `open` knows the channels that are.
    pub(super) fn next(
        &mut self,
        session: &Session,
        bytes: &[u8],
        open: impl FnOnce(u16) -> Option<OpenChannel>,
    ) -> Next {
        if let Some(partial) = self.partial {
            return self.keep(partial, bytes);
        }
        let Some(ahead) = session.look_ahead(bytes) else { return Next::Handle };
        if ahead.matter == Matter::ClosesConnection {
            self.drop_stashed();
            self.closing = !self.channels.is_empty();
            return if self.closing { Next::Wait } else { Next::Handle };
        }
        let partial = Partial { channel: ahead.channel, kept_bytes: 0, left_bytes: ahead.length_bytes };
        match self.channels.iter_mut().find(|channel| channel.number == ahead.channel) {
            Some(channel) if channel.lets_past() && ahead.matter == Matter::Settles => {
                let is_whole = bytes.len() >= ahead.length_bytes;
                return if is_whole { Next::Settle } else { Next::Wait };
            }
            Some(channel) => channel.keeps_order |= ahead.matter == Matter::BeginsTransactions,
            None if !self.holds_back || ahead.matter != Matter::Publishes => return Next::Handle,
            None => {
                let Some(channel) = open(ahead.channel) else { return Next::Handle };
                if self.piece(partial, bytes).is_empty() {
                    return Next::Wait;
                }
                self.stash(ahead.channel, &channel);
            }
        }
        self.keep(partial, bytes)
    }

    /// Whether what a channel had waiting is to wait on, because the next of it is held back.
    pub(super) fn holds_next(
        &mut self,
        session: &Session,
        bytes: &[u8],
        open: impl FnOnce(u16) -> Option<OpenChannel>,
    ) -> bool {
        let publishes = |ahead: &FrameAhead| self.holds_back && ahead.matter == Matter::Publishes;
        let Some(ahead) = session.look_ahead(bytes).filter(publishes) else { return false };
        let Some(channel) = open(ahead.channel) else { return false };
        self.stash(ahead.channel, &channel);
        true
    }

    /// A channel's publishes are held back from now on.
    fn stash(&mut self, number: u16, open: &OpenChannel) {
        if let Some(channel) = waiting(&mut self.channels, number, &open.wake) {
            channel.stashed = true;
            (channel.keeps_order, channel.in_transaction) = (open.in_transaction, open.in_transaction);
        }
    }

    /// As much of a frame as is there, and as there is room for.
    fn piece<'b>(&mut self, partial: Partial, bytes: &'b [u8]) -> &'b [u8] {
        let mut length = partial.left_bytes.min(bytes.len());
        if self.holds_back {
            let room = self.share.room_for(self.bytes, length);
            self.stash_full = room < length;
            length = room;
        }
        bytes.get(..length).unwrap_or_default()
    }

    /// Keeps more bytes of a frame.
    fn keep(&mut self, mut partial: Partial, bytes: &[u8]) -> Next {
        let piece = self.piece(partial, bytes);
        if piece.is_empty() {
            return Next::Wait;
        }
        partial.kept_bytes += piece.len();
        partial.left_bytes -= piece.len();
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.number == partial.channel) {
            if channel.frames.capacity() - channel.frames.len() < piece.len() {
                // Not to twice of what is there, which would not be counted.
                let more = piece.len().max(channel.frames.len() / 8);
                channel.frames.reserve_exact(more.next_multiple_of(GROWTH_BYTES));
            }
            channel.frames.extend_from_slice(piece);
            self.bytes += piece.len();
            let start = channel.frames.len() - partial.kept_bytes;
            let is_whole = partial.left_bytes == 0;
            let frame = channel.frames.get(start..).unwrap_or_default();
            if is_whole && channel.stashed && matter_of(frame) == Matter::ClosesChannel {
                let dropped = channel.cut(start);
                self.bytes -= dropped;
                self.dropped_bytes += dropped;
            }
        }
        self.partial = Some(partial).filter(|partial| partial.left_bytes > 0);
        Next::Kept(piece.len())
    }
}

impl Waiting {
    fn waits(&self) -> bool {
        self.stashed || self.is_answer_due()
    }

    fn is_answer_due(&self) -> bool {
        !self.publishes.is_empty() || self.change.is_some()
    }

    /// Whether what it settles goes past what it has waiting. Not before an answer that is due: that comes soon, and
    /// what follows it comes in order.
    fn lets_past(&self) -> bool {
        self.stashed && !self.keeps_order && !self.is_answer_due()
    }

    /// Takes what settles out of what is held back of its frames; how many bytes. Where the last one is not whole, and
    /// may be one, what follows comes in order.
    fn take_settlements_out(&mut self) -> usize {
        let frames = std::mem::take(&mut self.frames);
        let (mut rest, before) = (&frames[..], self.settlements.len());
        let mut kept = Vec::with_capacity(frames.len());
        while self.lets_past() {
            let length = frame_bytes(rest).filter(|length| *length <= rest.len());
            let Some((frame, behind)) = length.map(|length| rest.split_at(length)) else {
                self.keeps_order = !rest.is_empty() && matter_of(rest) != Matter::Publishes;
                break;
            };
            match matter_of(frame) {
                Matter::Settles => self.settlements.extend_from_slice(frame),
                matter => {
                    self.keeps_order = matter == Matter::BeginsTransactions;
                    kept.extend_from_slice(frame);
                }
            }
            rest = behind;
        }
        kept.extend_from_slice(rest);
        self.frames = kept;
        self.settlements.len() - before
    }

    /// It is to be closed at `close_at`: of what is in front of that, whole frames, stays what it settles. How many
    /// bytes are dropped.
    fn cut(&mut self, close_at: usize) -> usize {
        let behind = self.frames.split_off(close_at);
        self.frames = settled_in(&self.frames, self.in_transaction);
        let dropped = close_at - self.frames.len();
        self.frames.extend_from_slice(&behind);
        (self.stashed, self.cut) = (false, true);
        dropped
    }
}

/// What settles of whole frames, up to where transactions begin.
fn settled_in(mut frames: &[u8], in_transaction: bool) -> Vec<u8> {
    let mut settled = Vec::new();
    while !in_transaction
        && let Some((frame, behind)) = frame_bytes(frames).and_then(|end| frames.split_at_checked(end))
    {
        match matter_of(frame) {
            Matter::Settles => settled.extend_from_slice(frame),
            Matter::BeginsTransactions => break,
            _ => {}
        }
        frames = behind;
    }
    settled
}

/// Where a channel.close begins in whole frames.
fn find_close(frames: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(rest) = frames.get(at..).filter(|rest| !rest.is_empty()) {
        if matter_of(rest) == Matter::ClosesChannel {
            return Some(at);
        }
        at += frame_bytes(rest)?;
    }
    None
}

/// The channel of a number, which waits from now on.
fn waiting<'a>(
    channels: &'a mut Vec<Waiting>,
    number: u16,
    wake: &Arc<ChannelWake>,
) -> Option<&'a mut Waiting> {
    let known = channels.iter().position(|channel| channel.number == number);
    let at = known.unwrap_or_else(|| {
        channels.push(Waiting {
            number,
            wake: wake.clone(),
            publishes: VecDeque::new(),
            change: None,
            stashed: false,
            keeps_order: false,
            in_transaction: false,
            cut: false,
            frames: Vec::new(),
            settlements: Vec::new(),
        });
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
