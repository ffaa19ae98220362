//! From the queues to the connection: what happens after a wake. Messages of queues where interceptors
//! are attached go past them in between (`intercepted.rs`).

use super::{
    Client,
    ready_list::ConsumerAt,
    unacked::{Entry, Unacked},
};
use crate::{
    port::Router,
    queue::{MessageRef, Pull, Taker},
    traffic::{By, count_handed_out},
};
use alloc::vec::Vec;
use leveret_model::{MessageView, Name};

/// How many messages one consumer is given before the next consumer of the connection has its
/// turn. The queue's lock is held for so many at most.
pub const DELIVER_BURST_MESSAGES_MAX: u32 = 256;

/// Takes what is delivered to one connection. Its methods may be called under a queue's lock: they
/// must not call back into the broker.
pub trait Sink {
    /// Whether one more delivery can be taken.
    fn has_room(&self) -> bool;

    /// Whether one more delivery can be taken for a channel. Where there is none though [`Self::has_room`], the other
    /// channels go on, and [`Client::deliver`] is to be called when there is.
    fn has_room_on(&self, channel: u16) -> bool {
        let _ = channel;
        self.has_room()
    }

    /// Whether one more delivery can be taken for a consumer; as for [`Self::has_room_on`].
    fn has_room_for(&self, channel: u16, consumer_tag: &Name) -> bool {
        let _ = consumer_tag;
        self.has_room_on(channel)
    }

    /// Takes a delivery. What it borrows is gone afterwards.
    fn deliver(&mut self, delivery: Delivery<'_>);
}

/// A message for a consumer.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The channel of the consumer.
    pub channel: u16,
    /// The consumer.
    pub consumer_tag: &'a Name,
    /// The number to acknowledge it with; counts up by one in each channel.
    pub delivery_tag: u64,
    /// It was delivered before, to whomever.
    pub redelivered: bool,
    /// The message, with the exchange and the key it was published with.
    pub message: MessageView<'a>,
}

/// Numbers deliveries, notes them in the ledger, passes them on.
struct Ledgering<'a, S> {
    sink: &'a mut S,
    channel: u16,
    consumer_tag: &'a Name,
    holder: u32,
    no_ack: bool,
    last_tag: &'a mut u64,
    unacked: &'a mut Unacked,
    count: u32,
    again: u32,
}

impl<S: Sink> Taker for Ledgering<'_, S> {
    fn has_room(&self) -> bool {
        self.sink.has_room_for(self.channel, self.consumer_tag)
    }

    fn take(&mut self, message: MessageRef, redelivered: bool, view: MessageView<'_>) {
        *self.last_tag += 1;
        let tag = *self.last_tag;
        self.count += 1;
        self.again += u32::from(redelivered);
        if !self.no_ack {
            self.unacked.push(Entry { tag, message, holder: self.holder });
        }
        self.sink.deliver(Delivery {
            channel: self.channel,
            consumer_tag: self.consumer_tag,
            delivery_tag: tag,
            redelivered,
            message: view,
        });
    }
}

/// What came of looking at one consumer.
pub(super) struct Pulled {
    pub(super) pull: Pull,
    /// How many messages it was given.
    pub(super) count: u32,
    /// It is to be looked at again, and is on no list.
    pub(super) keep: bool,
}

impl Pulled {
    /// There was nothing for it.
    pub(super) const NOTHING: Self = Self { pull: Pull::Drained, count: 0, keep: false };
}

impl Client {
    /// Encodes what waits for this connection's consumers, as much as the sink has room for. To be
    /// called after a wake. True if it stopped for want of room: call again when there is some.
    pub fn deliver<S: Sink>(&mut self, router: &mut dyn Router, sink: &mut S) -> bool {
        self.tell_accepted();
        self.look_again_ms = None;
        self.backlog.extend(self.waiting.drain(..));
        self.collect_ready();
        let mut stopped = false;
        while let Some(at) = self.next_ready() {
            let pulled = self.pull(at, router, sink);
            if pulled.pull == Pull::NoRoom && sink.has_room() {
                // Its channel alone has none.
                if pulled.keep {
                    self.wait(at);
                }
                continue;
            }
            if pulled.keep {
                // Whoever got something goes behind the others.
                if pulled.count == 0 {
                    self.backlog.push_front(at);
                } else {
                    self.backlog.push_back(at);
                }
            }
            if pulled.pull == Pull::NoRoom {
                stopped = true;
                break;
            }
        }
        // A grant that was not used up may be what another consumer of the channel waits for.
        for channel in self.channels.values() {
            channel.nudge_if_unblocked();
        }
        if self.has_dead_letters() {
            // What interceptors rejected.
            self.dead_letter(router);
        }
        self.tell_store();
        stopped
    }

    /// The consumers that ended because their queue was deleted, each once, by channel and tag. To
    /// be asked after [`Self::deliver`].
    pub fn take_cancelled(&mut self) -> Vec<(u16, Name)> {
        self.collect_ready();
        for _ in 0..self.backlog.len() {
            if let Some(at) = self.backlog.pop_front()
                && !self.end_if_deleted(at)
            {
                self.backlog.push_back(at);
            }
        }
        let mut waiting = core::mem::take(&mut self.waiting);
        waiting.retain(|at| !self.end_if_deleted(*at));
        self.waiting = waiting;
        core::mem::take(&mut self.cancelled)
    }

    fn next_ready(&mut self) -> Option<ConsumerAt> {
        if self.backlog.is_empty() {
            self.collect_ready();
        }
        self.backlog.pop_front()
    }

    fn collect_ready(&mut self) {
        self.ready.take_into(&mut self.collected);
        self.backlog.extend(self.collected.drain(..));
    }

    fn pull<S: Sink>(&mut self, at: ConsumerAt, router: &mut dyn Router, sink: &mut S) -> Pulled {
        if self.vhost.intercepts.deliver {
            if self.end_if_deleted(at) {
                return Pulled::NOTHING;
            }
            if self.is_intercepted_at(at, router) {
                return self.pull_intercepted(at, router, sink);
            }
        }
        let Some(channel) = self.channels.get_mut(&at.channel) else {
            return Pulled::NOTHING;
        };
        let Some(Some(holder)) = channel.holders.get_mut(at.holder as usize) else {
            return Pulled::NOTHING;
        };
        let Some(consumer) = holder.consumer.as_ref().filter(|consumer| consumer.active) else {
            return Pulled::NOTHING;
        };
        if consumer.handle.is_queue_deleted() {
            self.end_if_deleted(at);
            return Pulled::NOTHING;
        }
        consumer.handle.clear();
        let mut taker = Ledgering {
            sink,
            channel: at.channel,
            consumer_tag: &consumer.tag,
            holder: at.holder,
            no_ack: consumer.no_ack,
            last_tag: &mut channel.last_tag,
            unacked: &mut channel.unacked,
            count: 0,
            again: 0,
        };
        let now_ms = router.now_ms();
        let pull = holder.queue.pull(
            (consumer.key, now_ms),
            DELIVER_BURST_MESSAGES_MAX,
            &mut taker,
            &mut self.progress,
        );
        let (count, again) = (taker.count, taker.again);
        let by = By::Deliver { no_ack: consumer.no_ack };
        let of_channel = channel.traffic.handed_out(holder.queue.kind());
        count_handed_out(of_channel, &holder.queue.traffic().handed_out, by, (count, again));
        // It stays on the connection's own list, unless somebody put it on the shared one just now.
        let keep = matches!(pull, Pull::Burst | Pull::NoRoom) && consumer.handle.keep();
        if !consumer.no_ack {
            let due_ms = channel.note_delivered(at.holder, count, now_ms);
            self.note_due(due_ms);
        }
        if matches!(pull, Pull::Later | Pull::Unfinished) {
            self.come_again(at, pull, router);
            return Pulled { pull: Pull::Drained, count, keep: false };
        }
        Pulled { pull, count, keep }
    }

    /// A consumer is to be looked at again, though its queue does not say so.
    pub(super) fn come_again(&mut self, at: ConsumerAt, pull: Pull, router: &mut dyn Router) {
        self.wait(at);
        match pull {
            Pull::Unfinished => self.ready.wake().wake(),
            _ => self.look_again(router),
        }
    }

    /// Ends the consumer if its queue is gone.
    fn end_if_deleted(&mut self, at: ConsumerAt) -> bool {
        let Some(channel) = self.channels.get_mut(&at.channel) else {
            return false;
        };
        let Some(consumer) = channel.holder_mut(at.holder).and_then(|holder| holder.consumer.as_ref()) else {
            return false;
        };
        if !consumer.active || !consumer.handle.is_queue_deleted() {
            return false;
        }
        self.cancelled.extend(channel.deactivate(at.holder).map(|tag| (at.channel, tag)));
        channel.release_holder(at.holder);
        true
    }
}
