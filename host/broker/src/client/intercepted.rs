//! From a queue past interceptors to a consumer.
//!
//! A burst is copied out under the queue's lock, judged under no lock, and what passes is encoded
//! from the copy. Until then nothing is in a ledger: what is dropped or rejected is settled where it
//! lies, and what cannot be judged now, or for which there is no room, goes back to its place as if
//! it had never been handed out. A consumer whose interceptor answers later is looked at again when
//! the connection is woken next.

use super::{
    Client, Delivery, Got, Sink,
    channel::settle_in,
    deliver::{DELIVER_BURST_MESSAGES_MAX, Pulled},
    ready_list::ConsumerAt,
    unacked::Entry,
};
use crate::{
    dead_letter::DeadLetters,
    intercept::{Interception, Standing},
    later::Why,
    origin::Origin,
    port::{Deed, Fate, Router, Site},
    queue::{ConsumerKey, MessageRef, Progress, Pull, Queue, Settle, Taker},
    store,
    traffic::{By, count_handed_out},
};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::ops::Range;
use leveret_model::{Form, MessageView, Name};

/// After so many bytes a burst is not made longer.
const BURST_BYTES_MAX: usize = 64 * 1024;

/// After so long it is looked again whether an interceptor can be asked, in milliseconds.
const LOOK_AGAIN_MS: u64 = 100;

/// Messages that were handed out and are judged. Kept for its space.
#[derive(Default)]
pub(super) struct Burst {
    copies: Vec<Copied>,
    bytes: Vec<u8>,
    interception: Interception,
    deeds: Vec<Deed>,
    accepted: Vec<(MessageRef, Option<ConsumerKey>)>,
    rejected: Vec<(MessageRef, Option<ConsumerKey>)>,
}

/// A message; ranges are of the burst's bytes.
struct Copied {
    message: MessageRef,
    redelivered: bool,
    form: &'static dyn Form,
    exchange: Range<usize>,
    routing_key: Range<usize>,
    properties: Range<usize>,
    body: Range<usize>,
}

/// Copies messages under their queue's lock.
struct Copying<'a> {
    burst: &'a mut Burst,
    /// There is room for the first.
    room: bool,
}

impl Taker for Copying<'_> {
    fn has_room(&self) -> bool {
        self.room && self.burst.bytes.len() < BURST_BYTES_MAX
    }

    fn take(&mut self, message: MessageRef, redelivered: bool, view: MessageView<'_>) {
        self.burst.copy(message, redelivered, &view);
    }

    fn settles(&self) -> bool {
        true
    }
}

impl Burst {
    fn clear(&mut self) {
        self.copies.clear();
        self.bytes.clear();
        self.interception.clear();
    }

    fn copy(&mut self, message: MessageRef, redelivered: bool, view: &MessageView<'_>) {
        let bytes = &mut self.bytes;
        let mut copy = |field: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(field);
            start..bytes.len()
        };
        self.copies.push(Copied {
            message,
            redelivered,
            form: view.form,
            exchange: copy(view.exchange),
            routing_key: copy(view.routing_key),
            properties: copy(view.properties),
            body: copy(view.body),
        });
    }

    /// Asks the interceptors of the queue. Gives for how many messages their fate is known.
    fn judge(&mut self, queue: &Queue, router: &mut dyn Router, client: &Client) -> usize {
        let Self { copies, bytes, interception, .. } = self;
        let views: Vec<MessageView<'_>> = copies.iter().map(|copied| copied.view(bytes)).collect();
        let site = Site::Deliver { vhost: client.vhost.name(), queue: queue.name() };
        interception.ask(router, site, &views, client.ready.wake())
    }

    /// The message as it is to be seen.
    fn view(&self, place: usize) -> Option<MessageView<'_>> {
        let copied = self.copies.get(place)?;
        Some(self.interception.view(place, &copied.view(&self.bytes)))
    }

    /// Commits what the interceptors did for a message.
    fn commit(&mut self, queue: &Queue, (place, now_ms): (usize, u64), fate: Fate, client: &Client) {
        let effects = self.interception.take_effects(place);
        if effects.is_empty() {
            return;
        }
        let mut deeds = core::mem::take(&mut self.deeds);
        if let Some(view) = self.view(place)
            && let Err(failure) = store::keep(&*client.vhost.store, effects, (fate, &view), &mut deeds)
        {
            // The message has gone its way.
            client.vhost.later.lost(Why::NotWritten(failure.0), queue.name(), 1);
        }
        client.vhost.perform(&mut deeds, Origin::default(), now_ms);
        self.deeds = deeds;
    }

    /// Settles what was dropped and rejected, and gives back what comes behind the first `dealt`.
    /// Gives how many messages the channel has credit for again, if they counted.
    fn end(
        &mut self,
        queue: &Arc<Queue>,
        dealt: usize,
        key: Option<ConsumerKey>,
        (dead, progress): (&mut DeadLetters, &mut Progress),
    ) -> u32 {
        let over = self.copies.get(dealt..).unwrap_or_default();
        let freed = self.accepted.len() + self.rejected.len() + over.len();
        if !over.is_empty() {
            queue.take_back(over.iter().map(|copied| (copied.message, key)));
        }
        if !self.accepted.is_empty() {
            queue.settle(&self.accepted, Settle::Accepted, progress);
            self.accepted.clear();
        }
        if !self.rejected.is_empty() {
            // As a consumer's reject.
            settle_in(queue, &self.rejected, Settle::Rejected, (dead, progress));
            self.rejected.clear();
        }
        freed as u32
    }
}

impl Copied {
    fn view<'a>(&self, bytes: &'a [u8]) -> MessageView<'a> {
        let field = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or_default();
        MessageView {
            exchange: field(&self.exchange),
            routing_key: field(&self.routing_key),
            form: self.form,
            properties: field(&self.properties),
            body: field(&self.body),
            publisher: None,
        }
    }
}

impl Client {
    /// Whether any interceptor looks at the deliveries of a queue.
    pub fn is_intercepted(&self, queue: &Queue, router: &mut dyn Router) -> bool {
        let site = Site::Deliver { vhost: self.vhost.name(), queue: queue.name() };
        self.vhost.intercepts.deliver && router.attachments(site) > 0
    }

    /// Whether anything is attached to the queue of a consumer.
    pub(super) fn is_intercepted_at(&self, at: ConsumerAt, router: &mut dyn Router) -> bool {
        let holders = self.channels.get(&at.channel).map(|channel| &channel.holders);
        let holder = holders.and_then(|holders| holders.get(at.holder as usize)?.as_ref());
        holder.is_some_and(|holder| self.is_intercepted(&holder.queue, router))
    }

    /// Gives a consumer what passes of a burst.
    pub(super) fn pull_intercepted<S: Sink>(
        &mut self,
        at: ConsumerAt,
        router: &mut dyn Router,
        sink: &mut S,
    ) -> Pulled {
        let Some((queue, key, no_ack, tag)) = self.begin_pull(at) else { return Pulled::NOTHING };
        let mut burst = self.burst.take().unwrap_or_default();
        burst.clear();
        let mut copying = Copying { burst: &mut burst, room: sink.has_room_for(at.channel, &tag) };
        let mut pull =
            queue.pull((key, router.now_ms()), DELIVER_BURST_MESSAGES_MAX, &mut copying, &mut self.progress);
        let mut judged = if burst.copies.is_empty() { 0 } else { burst.judge(&queue, router, self) };
        let mut waits = judged == 0 && !burst.copies.is_empty();
        let settling_key = (!no_ack).then_some(key);
        let (mut dealt, mut given) = (0, 0);
        while dealt < judged {
            let message = burst.copies.get(dealt).map(|copied| copied.message);
            let Some(message) = message else { break };
            match burst.interception.standing(dealt) {
                Standing::Passes | Standing::Unroutable => {
                    if !sink.has_room_for(at.channel, &tag) {
                        break;
                    }
                    self.hand_over(at, &burst, dealt, (no_ack, router.now_ms()), sink);
                    if no_ack {
                        burst.accepted.push((message, None));
                    }
                    given += 1;
                    burst.commit(&queue, (dealt, router.now_ms()), Fate::Routed, self);
                }
                Standing::Dropped => {
                    burst.accepted.push((message, settling_key));
                    burst.commit(&queue, (dealt, router.now_ms()), Fate::Dropped, self);
                }
                Standing::Rejected(_) => burst.rejected.push((message, settling_key)),
                Standing::Unavailable(_) => {
                    // It and what is behind it are safe in their queue.
                    (waits, judged) = (true, dealt);
                    self.look_again(router);
                    break;
                }
            }
            dealt += 1;
        }
        if dealt < judged {
            pull = Pull::NoRoom;
        } else if dealt < burst.copies.len() && !waits {
            pull = Pull::Burst;
        }
        let ends = (&mut self.dead_letters, &mut self.progress);
        let freed = burst.end(&queue, dealt, settling_key, ends);
        let ungiven = burst.copies.len() as u32 - given;
        if ungiven > 0 {
            // Where it is looked at again anyway, nobody has to be told.
            queue.refund(key, ungiven, pull == Pull::Drained && !waits);
        }
        if let Some(channel) = self.channels.get_mut(&at.channel)
            && !no_ack
        {
            channel.credit.release(freed);
        }
        burst.clear();
        self.burst = Some(burst);
        if matches!(pull, Pull::Later | Pull::Unfinished) {
            self.come_again(at, pull, router);
        }
        self.end_pull(at, pull, given, waits)
    }

    /// Has [`Self::deliver`] called in a while, though nobody wakes the connection.
    pub(super) fn look_again(&mut self, router: &mut dyn Router) {
        self.look_again_ms = Some(router.now_ms().saturating_add(LOOK_AGAIN_MS));
    }

    /// That consumer is looked at when [`Self::deliver`] is called next, though it is on no list of the queue's.
    pub(super) fn wait(&mut self, at: ConsumerAt) {
        if !self.waiting.contains(&at) {
            self.waiting.push(at);
        }
    }

    /// The queue of a consumer that is to be looked at now.
    fn begin_pull(&mut self, at: ConsumerAt) -> Option<(Arc<Queue>, ConsumerKey, bool, Name)> {
        let holder = self.channels.get_mut(&at.channel)?.holder_mut(at.holder)?;
        let consumer = holder.consumer.as_ref().filter(|consumer| consumer.active)?;
        consumer.handle.clear();
        Some((holder.queue.clone(), consumer.key, consumer.no_ack, consumer.tag.clone()))
    }

    fn end_pull(&mut self, at: ConsumerAt, pull: Pull, count: u32, waits: bool) -> Pulled {
        if waits || matches!(pull, Pull::Later | Pull::Unfinished) {
            // A wake comes from the interceptor, or it is looked at again in a while.
            self.wait(at);
            return Pulled { pull: Pull::Drained, count, keep: false };
        }
        let holder = self.channels.get_mut(&at.channel).and_then(|channel| channel.holder_mut(at.holder));
        let consumer = holder.and_then(|holder| holder.consumer.as_ref());
        let keep = pull != Pull::Drained && consumer.is_some_and(|consumer| consumer.handle.keep());
        Pulled { pull, count, keep }
    }

    /// Numbers a delivery, notes it in the ledger, passes it on.
    fn hand_over<S: Sink>(
        &mut self,
        at: ConsumerAt,
        burst: &Burst,
        place: usize,
        (no_ack, now_ms): (bool, u64),
        sink: &mut S,
    ) {
        let Some(channel) = self.channels.get_mut(&at.channel) else { return };
        channel.last_tag += 1;
        let tag = channel.last_tag;
        let Some(Some(holder)) = channel.holders.get_mut(at.holder as usize) else { return };
        let (Some(copied), Some(view)) = (burst.copies.get(place), burst.view(place)) else { return };
        if !no_ack {
            channel.unacked.push(Entry { tag, message: copied.message, holder: at.holder });
        }
        if let Some(consumer) = &holder.consumer {
            sink.deliver(Delivery {
                channel: at.channel,
                consumer_tag: &consumer.tag,
                delivery_tag: tag,
                redelivered: copied.redelivered,
                message: view,
            });
        }
        let of_channel = channel.traffic.handed_out(holder.queue.kind());
        let count = (1, copied.redelivered.into());
        count_handed_out(of_channel, &holder.queue.traffic().handed_out, By::Deliver { no_ack }, count);
        if !no_ack {
            let due_ms = channel.note_delivered(at.holder, 1, now_ms);
            self.note_due(due_ms);
        }
    }

    /// Hands out the first ready message that passes.
    pub(super) fn get_intercepted(
        &mut self,
        n: u16,
        queue: &Arc<Queue>,
        no_ack: bool,
        router: &mut dyn Router,
        sink: &mut dyn FnMut(Got<'_>),
    ) -> bool {
        let mut burst: Box<Burst> = self.burst.take().unwrap_or_default();
        let mut found = false;
        while !found {
            burst.clear();
            let mut messages_left = 0;
            let any = queue.get((false, router.now_ms()), &mut self.progress, |got, message| {
                messages_left = got.messages_left;
                burst.copy(message, got.redelivered, &got.message);
            });
            if !any {
                break;
            }
            let mut judged = burst.judge(queue, router, self);
            let Some(message) = burst.copies.first().map(|copied| copied.message) else { break };
            if judged > 0 {
                match burst.interception.standing(0) {
                    Standing::Passes | Standing::Unroutable => {
                        self.hand_out(n, queue, (no_ack, router.now_ms()), &burst, messages_left, sink);
                        if no_ack {
                            burst.accepted.push((message, None));
                        }
                        found = true;
                        burst.commit(queue, (0, router.now_ms()), Fate::Routed, self);
                    }
                    Standing::Dropped => {
                        burst.accepted.push((message, None));
                        burst.commit(queue, (0, router.now_ms()), Fate::Dropped, self);
                    }
                    Standing::Rejected(_) => burst.rejected.push((message, None)),
                    Standing::Unavailable(_) => judged = 0,
                }
            }
            burst.end(queue, judged, None, (&mut self.dead_letters, &mut self.progress));
            if judged == 0 {
                // Consumers may have got credit while it was theirs no more.
                queue.offer();
                break;
            }
        }
        burst.clear();
        self.burst = Some(burst);
        if self.has_dead_letters() {
            self.dead_letter(router);
        }
        found
    }

    /// Numbers a message that was got, notes it in the ledger, passes it on.
    fn hand_out(
        &mut self,
        n: u16,
        queue: &Arc<Queue>,
        (no_ack, now_ms): (bool, u64),
        burst: &Burst,
        messages_left: u64,
        sink: &mut dyn FnMut(Got<'_>),
    ) {
        let Some(channel) = self.channels.get_mut(&n) else { return };
        let (Some(copied), Some(message)) = (burst.copies.first(), burst.view(0)) else { return };
        channel.last_tag += 1;
        let delivery_tag = channel.last_tag;
        sink(Got { delivery_tag, redelivered: copied.redelivered, messages_left, message });
        channel.count_got(queue, no_ack, copied.redelivered);
        if !no_ack {
            let at = channel.getter(queue, self.consumer_timeout_ms);
            channel.unacked.push(Entry { tag: delivery_tag, message: copied.message, holder: at });
            let due_ms = channel.note_delivered(at, 1, now_ms);
            self.note_due(due_ms);
        }
    }
}
