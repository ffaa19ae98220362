//! Large messages on their way out: what stands in front of the body is sent when the message is taken from its queue, the
//! body as the session's window and the socket take it, read from its file a frame at a time.
//!
//! While a message goes out on a link no other one does; those of other links go on, a frame of each in turn.

use super::{Connection, settle::Delivered};
use crate::store::{FarReader, Patience};
use leveret_amqp10::connection::Sent;
use leveret_broker::{Settle, port::Router, store::FarBody};
use leveret_model::Stub;
use leveret_store::Unreadable;
use std::collections::VecDeque;

/// The most that is read at once.
const PART_BYTES_MAX: usize = 128 * 1024;

/// The messages that go out.
#[derive(Default)]
pub(super) struct Departing {
    /// The first has its turn next.
    messages: VecDeque<Departure>,
    /// They have their turn before other deliveries.
    first: bool,
    part: Vec<u8>,
}

/// One of them.
pub(super) struct Departure {
    pub(super) channel: u16,
    pub(super) handle: u32,
    /// Its number in the session, unless it was settled when it was sent.
    pub(super) id: Option<u32>,
    pub(super) stub: Stub,
    /// What comes behind the body.
    pub(super) footer: Box<[u8]>,
    /// Nobody else may have the file any more.
    pub(super) far: Option<FarBody>,
    pub(super) reader: Option<FarReader>,
    pub(super) patience: Patience,
    /// It is in its queue again: the client is to forget what it has of it.
    pub(super) is_taken_back: bool,
}

/// What became of a turn.
enum Turn {
    Went,
    Over,
    /// There is no room for it, or it cannot be read now.
    Waits,
    Failed(Unreadable),
}

impl Departure {
    /// It could not be read.
    fn failed(&mut self, why: Unreadable, now_ms: u64) -> Turn {
        self.patience.failed(why, now_ms).map_or_else(Turn::Failed, |()| Turn::Waits)
    }
}

impl Departing {
    /// A delivery was begun.
    pub(super) fn push(&mut self, departure: Departure) {
        self.messages.push_back(departure);
    }

    /// Whether a message goes out on a link.
    pub(super) fn is_busy(&self, channel: u16, handle: u32) -> bool {
        self.messages.iter().any(|message| (message.channel, message.handle) == (channel, handle))
    }

    /// A delivery is none any more. If its message goes out, that is given up in its next turn.
    pub(super) fn take_back(&mut self, channel: u16, id: u32) -> bool {
        let of_delivery = |message: &&mut Departure| (message.channel, message.id) == (channel, Some(id));
        let Some(message) = self.messages.iter_mut().find(of_delivery) else { return false };
        message.is_taken_back = true;
        // Its file is the queue's.
        (message.far, message.reader, message.patience) = Default::default();
        true
    }

    /// A link is gone.
    pub(super) fn forget(&mut self, channel: u16, handle: u32) {
        self.messages.retain(|message| (message.channel, message.handle) != (channel, handle));
    }

    /// A session is gone.
    pub(super) fn forget_session(&mut self, channel: u16) {
        self.messages.retain(|message| message.channel != channel);
    }

    /// Nothing goes out any more.
    pub(super) fn end(&mut self) {
        self.messages.clear();
    }

    /// When one is to be tried again that could not be read, in milliseconds since 1970.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.messages.iter().filter_map(|message| message.patience.due_ms()).min()
    }

    /// Whose turn is first changes each time.
    pub(super) fn takes_turns(&mut self) -> bool {
        self.first = !self.first && !self.messages.is_empty();
        self.first
    }
}

impl Connection {
    /// Sends parts of large messages, of each one in turn, until `output_bytes_max` wait for the socket. Whether one ended, or
    /// there is more than there is room for.
    pub(super) fn send_parts(&mut self, output_bytes_max: usize, router: &mut dyn Router) -> bool {
        if self.departing.messages.is_empty() {
            return false;
        }
        let (mut waiting, mut again) = (0, false);
        // Who has no turn for want of room is not waited for by the clock.
        let now_ms = router.now_ms();
        self.departing.messages.iter_mut().for_each(|message| _ = message.patience.waits(now_ms));
        while waiting < self.departing.messages.len() {
            if self.protocol.output_bytes() >= output_bytes_max {
                return true;
            }
            let Some(mut message) = self.departing.messages.pop_front() else { break };
            match self.send_part(&mut message, now_ms) {
                Turn::Went => {
                    waiting = 0;
                    self.departing.messages.push_back(message);
                }
                Turn::Waits => {
                    waiting += 1;
                    self.departing.messages.push_back(message);
                }
                Turn::Over => again = true,
                Turn::Failed(why) => {
                    again = true;
                    self.give_up_departure(&message, &why, router);
                }
            }
        }
        again
    }

    fn send_part(&mut self, message: &mut Departure, now_ms: u64) -> Turn {
        let (channel, handle) = (message.channel, message.handle);
        if message.patience.waits(now_ms) || !self.protocol.has_window(channel) {
            return Turn::Waits;
        }
        if message.is_taken_back {
            self.protocol.abort_delivery(channel, handle);
            return Turn::Over;
        }
        let reader = match &mut message.reader {
            Some(reader) => reader,
            none => match self.shared.store.open_body(&message.stub) {
                Ok(reader) => {
                    // The reader holds on to it from now on.
                    message.far = None;
                    none.insert(reader)
                }
                Err(error) => return message.failed(Unreadable::Disk(error), now_ms),
            },
        };
        let part = &mut self.departing.part;
        part.clear();
        if let Err(why) = reader.read(self.protocol.part_bytes_max().min(PART_BYTES_MAX), part) {
            return message.failed(why, now_ms);
        }
        message.patience.read();
        let more = reader.left_bytes() > 0;
        if !more {
            part.extend_from_slice(&message.footer);
        }
        match self.protocol.deliver_part(channel, handle, part, more) {
            Sent::Part if more => Turn::Went,
            Sent::Part | Sent::NoLink => Turn::Over,
            // It was looked at just now.
            Sent::NoWindow => Turn::Failed(Unreadable::Damaged),
        }
    }

    /// A message that cannot be read is as one that was rejected: the client is told to forget what it has of it.
    fn give_up_departure(&mut self, message: &Departure, why: &Unreadable, router: &mut dyn Router) {
        let (channel, handle) = (message.channel, message.handle);
        tracing::error!("{}: a large message cannot be delivered: {why}", self.peer);
        self.protocol.abort_delivery(channel, handle);
        let Some(open) = &mut self.open else { return };
        let mut taken: Option<Delivered> = None;
        if let (Some(session), Some(id)) = (open.sessions.get_mut(&channel), message.id) {
            session.sent.take(id, id, |_| false, |delivered| taken = Some(delivered));
        }
        if let Some(delivered) = taken {
            // It was delivered on this channel, and not settled since.
            let _ = open.client.settle(channel, delivered.tag, false, Settle::Rejected);
        }
        self.end_settling(&mut true, router);
    }
}

/// Whether a link can take a delivery: nothing large goes out on it.
pub(super) fn is_free(departing: &Departing, channel: u16, handle: Option<u32>) -> bool {
    departing.messages.is_empty() || handle.is_none_or(|handle| !departing.is_busy(channel, handle))
}
