//! The broker's side of one connection: channels, consumers, acknowledgements.
//!
//! A [`Client`] lives on one worker. Queues reach it only through its ready list
//! ([`ready_list`]), from whatever thread; the connection then calls [`Client::deliver`].

mod activity;
mod annotating;
mod channel;
mod deliver;
mod held;
mod intercepted;
pub(crate) mod ready_list;
mod spec;
mod timeouts;
mod unacked;

use crate::{
    ConnectionId,
    dead_letter::DeadLetters,
    names,
    port::{Router, Wake},
    publish::Publisher,
    queue::{Consumer, Progress, Queue, QueueKind, Settle},
    replies::REPLY_TO,
    store::Written,
    traffic::{ChannelTraffic, ConsumerInfo},
    vhost::Vhost,
};
use alloc::{collections::VecDeque, format, sync::Arc, vec::Vec};
use channel::{Channel, Consuming, Holder};
use core::sync::atomic::Ordering;
use hashbrown::HashMap;
use intercepted::Burst;
use leveret_model::{Name, Refusal};
use ready_list::{ConsumerAt, Handle, ReadyList};
use unacked::Entry;

pub use annotating::Remark;
pub use held::Held;
pub use spec::{ConsumeSpec, Got};
pub use timeouts::{CONSUMER_TIMEOUT_MS, TimedOut};

pub use deliver::{DELIVER_BURST_MESSAGES_MAX, Delivery, Sink};

/// The broker's side of one connection.
///
/// Dropped without [`Client::close`] it does the same; only exchanges that go with their last
/// binding are then reported to the router by whichever change of the vhost comes next.
pub struct Client {
    vhost: Arc<Vhost>,
    id: ConnectionId,
    ready: Arc<ReadyList>,
    channels: HashMap<u16, Channel, foldhash::fast::RandomState>,
    /// Taken from the ready list and not looked at to the end.
    backlog: VecDeque<ConsumerAt>,
    collected: Vec<ConsumerAt>,
    cancelled: Vec<(u16, Name)>,
    dead_letters: DeadLetters,
    /// What the store is to be told.
    progress: Progress,
    /// The channel whose accepted messages their queue is not told of yet.
    accepting: Option<u16>,
    /// Whose messages wait for an interceptor's answer.
    waiting: Vec<ConsumerAt>,
    /// When to look at those again, where nobody wakes.
    look_again_ms: Option<u64>,
    /// When something that was delivered may be overdue.
    overdue_ms: Option<u64>,
    /// How long deliveries of quorum queues may take where nothing else is said.
    consumer_timeout_ms: Option<u64>,
    /// The changes of what policies say of that which it knows of.
    timeouts: u64,
    /// Scratch, made with the first messages that go past interceptors.
    burst: Option<alloc::boxed::Box<Burst>>,
}

impl Client {
    /// The side of a new connection. `wake` is called when [`Self::deliver`] or
    /// [`Self::take_cancelled`] has something to do, once until the next call of either, and when
    /// [`Self::overdue_ms`] is another because policies changed.
    #[must_use]
    pub fn new(vhost: Arc<Vhost>, id: ConnectionId, wake: Arc<dyn Wake>) -> Self {
        let timeouts = vhost.rule.join(id, &wake);
        Self {
            vhost,
            id,
            ready: ReadyList::new(wake),
            channels: HashMap::default(),
            backlog: VecDeque::new(),
            collected: Vec::new(),
            cancelled: Vec::new(),
            dead_letters: DeadLetters::default(),
            progress: Progress::default(),
            accepting: None,
            waiting: Vec::new(),
            look_again_ms: None,
            overdue_ms: None,
            consumer_timeout_ms: Some(CONSUMER_TIMEOUT_MS),
            timeouts,
            burst: None,
        }
    }

    /// The virtual host it is in.
    #[must_use]
    pub fn vhost(&self) -> &Arc<Vhost> {
        &self.vhost
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Opens a channel (`channel.open`). One that is open stays as it is.
    pub fn open_channel(&mut self, n: u16) {
        self.channels.entry(n).or_default();
    }

    /// What is counted of a channel.
    #[must_use]
    pub fn traffic(&self, n: u16) -> Option<Arc<ChannelTraffic>> {
        self.channels.get(&n).map(|channel| channel.traffic.clone())
    }

    /// Closes a channel: its consumers end, and what is not acknowledged goes back to where it
    /// was, marked as redelivered.
    pub fn close_channel(&mut self, n: u16, router: &mut dyn Router) {
        self.end_channel(n, Some(router));
    }

    /// Closes all channels and deletes the connection's exclusive queues.
    pub fn close(&mut self, router: &mut dyn Router) {
        self.end(Some(router));
    }

    /// How many messages of a channel wait for their acknowledgement.
    #[must_use]
    pub fn unacknowledged(&self, n: u16) -> usize {
        self.channels.get(&n).map_or(0, |channel| channel.unacked.len())
    }

    /// Starts a consumer (`basic.consume`); returns its tag.
    ///
    /// # Errors
    /// No such queue, exclusive to another connection or consumer, a tag in use, an `x-priority`
    /// that is no integer.
    pub fn consume(&mut self, n: u16, spec: ConsumeSpec) -> Result<Name, Refusal> {
        let Some(channel) = self.channels.get_mut(&n) else {
            return Err(Refusal::InvalidArgument { text: format!("channel {n} is not open") });
        };
        let of_replies = spec.queue.as_bytes() == REPLY_TO;
        // A second consumer of replies is the smaller error.
        let is_second = of_replies && channel.reply_queue().is_some();
        if !spec.tag.is_empty() && !is_second && channel.consumer_at(&spec.tag).is_some() {
            return Err(Refusal::ConsumerTagInUse { tag: spec.tag });
        }
        let (queue, priority) = if of_replies {
            // Before there is a queue that would stay.
            timeouts::timeout_of(&spec.arguments, (&spec.queue, self.vhost.name()))?;
            (replies_of(channel, &spec, &self.vhost)?, 0)
        } else {
            let queue = self.vhost.usable_queue(&spec.queue, self.id)?;
            if queue.is_for_replies() {
                return Err(queue.is_of_a_channel());
            }
            queue.kind().check_consumer(&spec.arguments, (queue.name(), self.vhost.name()))?;
            let priority = priority_of(&spec, &queue, &self.vhost)?;
            (queue, priority)
        };
        let own_ms = timeouts::timeout_of(&spec.arguments, (queue.name(), self.vhost.name()))?;
        let timeout_ms = timeouts::time_of((&queue, own_ms), self.consumer_timeout_ms);
        let no_ack = spec.no_ack || spec.copies;
        let timeout_ms = timeout_ms.filter(|_| !no_ack);
        let tag = if spec.tag.is_empty() { names::made("amq.ctag-") } else { spec.tag };
        let at = channel.next_place();
        let handle = Handle::new(self.ready.clone(), ConsumerAt { channel: n, holder: at });
        let exclusive = spec.exclusive;
        let info = ConsumerInfo {
            connection: self.id,
            channel: n,
            tag: tag.clone(),
            no_ack,
            exclusive,
            prefetch: channel.prefetch,
            timeout_ms,
            arguments: spec.arguments,
        };
        let consumer = Consumer::new(handle.clone(), channel.credit.clone(), priority, Arc::new(info));
        let consumer = consumer.with_link_credit(spec.credit);
        let consumer =
            if spec.copies { consumer.copying(spec.selector) } else { consumer.with_selector(spec.selector) };
        let key = queue.add_consumer(consumer, exclusive)?;
        let consumer = Consuming { tag: tag.clone(), key, handle, no_ack, active: true, timeout_ms: own_ms };
        channel.add_holder(Holder { queue, consumer: Some(consumer), outstanding: 0, timeout_ms });
        Ok(tag)
    }

    /// A consumer that was made with a credit may be given so many messages from now on.
    pub fn grant(&mut self, n: u16, tag: &[u8], messages: u32) {
        let Some(channel) = self.channels.get_mut(&n) else { return };
        let holder = channel.consumer_at(tag).and_then(|at| channel.holder_mut(at));
        if let Some(Holder { queue, consumer: Some(consumer), .. }) = holder {
            queue.set_link_credit(consumer.key, messages);
        }
    }

    /// Whether there may be messages for a consumer that cannot be given to it now, though it has credit: they wait for
    /// an interceptor's answer, cannot be read, have no room, or were not looked at yet.
    #[must_use]
    pub fn is_waiting(&self, n: u16, tag: &[u8]) -> bool {
        let at = self.channels.get(&n).and_then(|channel| channel.consumer_at(tag));
        at.is_some_and(|holder| {
            let at = ConsumerAt { channel: n, holder };
            self.waiting.contains(&at) || self.backlog.contains(&at)
        })
    }

    /// Where replies to a channel are to be published, by the default exchange, while it consumes
    /// [`REPLY_TO`].
    #[must_use]
    pub fn reply_queue(&self, n: u16) -> Option<Name> {
        self.channels.get(&n)?.reply_queue().map(|queue| queue.name().clone())
    }

    /// Ends a consumer (`basic.cancel`); false if there is none of that tag. What it was given
    /// stays to be acknowledged.
    pub fn cancel(&mut self, n: u16, tag: &[u8], router: &mut dyn Router) -> bool {
        let Some(channel) = self.channels.get_mut(&n) else {
            return false;
        };
        let Some(at) = channel.consumer_at(tag) else {
            return false;
        };
        let gone = end_consumer(channel, at);
        channel.release_holder(at);
        channel.nudge_if_unblocked();
        if let Some(queue) = gone {
            self.vhost.queue_gone(&queue, Some(router));
        }
        true
    }

    /// Ends all consumers: there is nobody any more to deliver to. What they were given stays to be
    /// acknowledged.
    pub fn stop_consuming(&mut self, router: &mut dyn Router) {
        let mut gone = Vec::new();
        for channel in self.channels.values_mut() {
            for at in 0..channel.holders.len() as u32 {
                gone.extend(end_consumer(channel, at));
                channel.release_holder(at);
            }
        }
        self.backlog.clear();
        self.waiting.clear();
        for queue in gone {
            self.vhost.queue_gone(&queue, Some(&mut *router));
        }
    }

    /// Sets how many messages may be unacknowledged (`basic.qos`); 0 is no limit. Without `global`
    /// for each consumer started afterwards, with it for all of the channel's consumers together.
    pub fn qos(&mut self, n: u16, prefetch: u16, global: bool) {
        let Some(channel) = self.channels.get_mut(&n) else {
            return;
        };
        let mode = &channel.traffic.mode;
        if global {
            mode.global_prefetch.store(prefetch, Ordering::Relaxed);
            channel.credit.set_limit(prefetch);
            channel.nudge();
        } else {
            mode.prefetch.store(prefetch, Ordering::Relaxed);
            channel.prefetch = prefetch;
        }
    }

    /// The same for each consumer of a channel, also for those that were started before.
    pub fn qos_of_each(&mut self, n: u16, prefetch: u16) {
        self.qos(n, prefetch, false);
        let holders = self.channels.get(&n).into_iter().flat_map(|channel| channel.holders.iter().flatten());
        for Holder { queue, consumer, .. } in holders {
            if let Some(consumer) = consumer.as_ref().filter(|consumer| consumer.active) {
                queue.set_prefetch(consumer.key, prefetch);
            }
        }
    }

    /// Hands out one ready message (`basic.get`); false if there is none.
    ///
    /// `sink` is called under the queue's lock: it must not call back into the broker. Where an
    /// interceptor is attached whose answer is pending, there is no message for now.
    ///
    /// # Errors
    /// No such queue, exclusive to another connection, or a quorum queue with a single active consumer.
    pub fn get(
        &mut self,
        n: u16,
        queue: &[u8],
        no_ack: bool,
        router: &mut dyn Router,
        sink: &mut dyn FnMut(Got<'_>),
    ) -> Result<bool, Refusal> {
        self.tell_accepted();
        let queue = self.vhost.usable_queue(queue, self.id)?;
        if queue.is_for_replies() {
            let (queue, vhost) = (queue.name(), self.vhost.name());
            let what = format!("basic.get not supported by volatile queue '{queue}' in vhost '{vhost}'");
            return Err(Refusal::NotImplemented { what: what.into() });
        }
        if queue.is_single_active() && queue.kind() == QueueKind::Quorum {
            let (queue, vhost) = (queue.name().clone(), self.vhost.name().clone());
            return Err(Refusal::SingleActiveConsumer { queue, vhost });
        }
        let any = if self.is_intercepted(&queue, router) {
            self.get_intercepted(n, &queue, no_ack, router, sink)
        } else {
            self.get_plain(n, &queue, (no_ack, router.now_ms()), sink)
        };
        if !any && let Some(channel) = self.channels.get(&n) {
            channel.traffic.handed_out(queue.kind()).get_empty.add(1);
            queue.traffic().handed_out.get_empty.add_shared(1);
        }
        self.tell_store();
        Ok(any)
    }

    fn get_plain(
        &mut self,
        n: u16,
        queue: &Arc<Queue>,
        (no_ack, now_ms): (bool, u64),
        sink: &mut dyn FnMut(Got<'_>),
    ) -> bool {
        let Some(channel) = self.channels.get_mut(&n) else {
            return false;
        };
        let tag = channel.last_tag + 1;
        let (mut taken, mut again) = (None, false);
        let any = queue.get((no_ack, now_ms), &mut self.progress, |got, message| {
            taken = Some(message);
            again = got.redelivered;
            sink(Got {
                delivery_tag: tag,
                redelivered: got.redelivered,
                messages_left: got.messages_left,
                message: got.message,
            });
        });
        if let Some(message) = taken {
            channel.last_tag = tag;
            channel.count_got(queue, no_ack, again);
            if !no_ack {
                let at = channel.getter(queue, self.consumer_timeout_ms);
                channel.unacked.push(Entry { tag, message, holder: at });
                let due_ms = channel.note_delivered(at, 1, now_ms);
                self.note_due(due_ms);
            }
        }
        any
    }

    /// Settles a delivery (`basic.ack`, `basic.nack`, `basic.reject`), with `multiple` all up to
    /// it, and all there are for tag 0. What is rejected may be a dead letter then, and what comes back to a queue that
    /// is full, or too often: see [`Self::has_dead_letters`]. The queue learns at [`Self::tell_store`] at the latest of
    /// what is accepted, and the store then.
    ///
    /// # Errors
    /// [`Refusal::UnknownDelivery`] for a tag that is not outstanding; nothing was settled then.
    pub fn settle(
        &mut self,
        n: u16,
        delivery_tag: u64,
        multiple: bool,
        outcome: Settle,
    ) -> Result<(), Refusal> {
        if self.accepting.is_some_and(|other| other != n) {
            self.tell_accepted();
        }
        let Some(channel) = self.channels.get_mut(&n) else {
            return Err(Refusal::UnknownDelivery { tag: delivery_tag });
        };
        self.accepting = Some(n);
        let ends = (&mut self.dead_letters, &mut self.progress);
        channel.settle(delivery_tag, multiple, outcome, ends)
    }

    /// Tells the queues what was accepted, and the store, as one group, what was settled and handed out since the last
    /// time. To be called when no more settlements follow, and before anything that came after them: who learns that it
    /// is safe may count on them.
    pub fn tell_store(&mut self) {
        self.tell_accepted();
        self.progress.tell(&*self.vhost.store);
    }

    /// [`Self::tell_store`], and `waiter` is told under its token once what was settled is safe: so often as is returned.
    pub fn tell_store_to(&mut self, waiter: &Arc<dyn Written>, token: u64) -> u32 {
        self.tell_accepted();
        self.progress.tell_to(&*self.vhost.store, waiter, token)
    }

    /// Tells the queue what was accepted of it.
    pub(super) fn tell_accepted(&mut self) {
        if let Some(n) = self.accepting.take()
            && let Some(channel) = self.channels.get_mut(&n)
        {
            channel.tell_accepted(&mut self.progress);
            channel.nudge_if_unblocked();
        }
    }

    /// What the store is to be told.
    pub(crate) fn progress(&mut self) -> &mut Progress {
        self.tell_accepted();
        &mut self.progress
    }

    /// From now on what is settled on a channel counts with [`Self::commit`] (`tx.select`).
    pub fn select_transactions(&mut self, n: u16) {
        if let Some(channel) = self.channels.get_mut(&n) {
            channel.settlements.get_or_insert_default();
            channel.traffic.mode.transactional.store(true, Ordering::Relaxed);
        }
    }

    /// What was settled on a channel counts now; to be followed by [`Self::tell_store`] or
    /// [`Transaction::end`](crate::Transaction::end).
    pub fn commit(&mut self, n: u16) {
        if let Some(channel) = self.channels.get_mut(&n) {
            channel.commit((&mut self.dead_letters, &mut self.progress));
            channel.nudge_if_unblocked();
        }
    }

    /// What was settled on a channel since the last commit is not; it can be settled again (`tx.rollback`).
    pub fn roll_back(&mut self, n: u16) {
        if let Some(channel) = self.channels.get_mut(&n) {
            channel.roll_back();
            // It was not looked at while it waited.
            self.note_due(Some(0));
        }
    }

    /// Sends on what died in queues because of what this connection published.
    pub fn bury(&mut self, publisher: &mut Publisher, router: &mut dyn Router) {
        let mut any = false;
        for (queue, message, reason) in publisher.dying() {
            self.dead_letters.push(&queue, message, reason);
            any = true;
        }
        if any && self.has_dead_letters() {
            self.dead_letter(router);
        }
    }

    /// Whether there are dead letters for [`Self::dead_letter`]. Those that wait for an exchange
    /// type's answer, and those behind them, count only after a wake: then call it if
    /// [`Self::dead_letters_waiting`] says that there are any.
    #[must_use]
    pub fn has_dead_letters(&self) -> bool {
        self.dead_letters.has_fresh()
    }

    /// How many dead letters of this connection are not where they should go yet; they are in their
    /// queues until then.
    #[must_use]
    pub fn dead_letters_waiting(&self) -> usize {
        self.dead_letters.len()
    }

    /// When to call [`Self::dead_letter`] again for those that were refused, in milliseconds since
    /// 1970, by [`Router::now_ms`]; `None` if there are none.
    #[must_use]
    pub fn dead_letters_due_ms(&self) -> Option<u64> {
        self.dead_letters.due_ms()
    }

    /// When to call [`Self::deliver`] though nobody woke the connection, in milliseconds since 1970, by
    /// [`Router::now_ms`]: an interceptor of a queue cannot be asked for now, or a message not be read.
    #[must_use]
    pub fn deliver_due_ms(&self) -> Option<u64> {
        self.look_again_ms
    }

    /// Sends dead letters to the exchanges of their queues. To be called when
    /// [`Self::has_dead_letters`] says so after a settlement, after a wake, and when those that were
    /// refused are due. What has to wait for an exchange type's answer stays; the connection is woken
    /// when there is one.
    pub fn dead_letter(&mut self, router: &mut dyn Router) {
        self.dead_letters.send(&self.vhost, router, self.ready.wake());
    }

    /// Puts all that the channel has not acknowledged back to where it was (`basic.recover` with
    /// `requeue`).
    pub fn recover(&mut self, n: u16) {
        if let Some(channel) = self.channels.get_mut(&n) {
            // Tag 0 with `multiple` is always known.
            let back = Settle::Requeue { failed: false };
            // Not with the transaction, as in RabbitMQ.
            let settlements = channel.settlements.take();
            let _ = channel.settle(0, true, back, (&mut self.dead_letters, &mut self.progress));
            channel.settlements = settlements;
            channel.nudge_if_unblocked();
        }
        self.dead_letters.leave_deaths();
    }

    fn end_channel(&mut self, n: u16, mut router: Option<&mut (dyn Router + '_)>) {
        let Some(mut channel) = self.channels.remove(&n) else {
            return;
        };
        channel.roll_back();
        channel.settlements = None;
        let back = Settle::Requeue { failed: true };
        // Where one is active what it had comes back before the next is: that gets all in order.
        let is_one_active = |holder: &Holder| holder.queue.is_single_active();
        if channel.holders.iter().flatten().any(is_one_active) {
            let _ = channel.settle(0, true, back, (&mut self.dead_letters, &mut self.progress));
        }
        // The consumers first: what comes back is not for them.
        let mut gone = Vec::new();
        for at in 0..channel.holders.len() as u32 {
            gone.extend(end_consumer(&mut channel, at));
        }
        let _ = channel.settle(0, true, back, (&mut self.dead_letters, &mut self.progress));
        self.dead_letters.leave_deaths();
        self.backlog.retain(|at| at.channel != n);
        self.waiting.retain(|at| at.channel != n);
        self.cancelled.retain(|(channel, _)| *channel != n);
        for queue in gone {
            self.vhost.queue_gone(&queue, router.as_mut().map(|router| &mut **router as &mut dyn Router));
        }
    }

    fn end(&mut self, mut router: Option<&mut (dyn Router + '_)>) {
        let channels: Vec<u16> = self.channels.keys().copied().collect();
        for n in channels {
            self.end_channel(n, router.as_mut().map(|router| &mut **router as &mut dyn Router));
        }
        self.dead_letters.give_back();
        self.tell_store();
        self.vhost.rule.leave(self.id);
        self.vhost.connection_gone(self.id, router);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Takes a consumer off its queue. Returns the queue if it went with its last consumer.
fn end_consumer(channel: &mut Channel, at: u32) -> Option<Arc<Queue>> {
    channel.deactivate(at)?;
    let holder = channel.holder_mut(at)?;
    let key = holder.consumer.as_ref()?.key;
    holder.queue.remove_consumer(key).then(|| holder.queue.clone())
}

/// Makes the queue for the replies to a channel.
fn replies_of(channel: &Channel, spec: &ConsumeSpec, vhost: &Vhost) -> Result<Arc<Queue>, Refusal> {
    let text = match (spec.no_ack, channel.reply_queue()) {
        (false, _) => "reply consumer cannot acknowledge",
        (true, Some(_)) => "reply consumer already set",
        (true, None) => return Ok(vhost.make_replies()),
    };
    Err(Refusal::InvalidArgument { text: text.into() })
}

fn priority_of(spec: &ConsumeSpec, queue: &Queue, vhost: &Vhost) -> Result<i64, Refusal> {
    let Some(value) = spec.arguments.get(b"x-priority") else {
        return Ok(0);
    };
    value.as_integer().ok_or_else(|| Refusal::InvalidArgument {
        text: format!(
            "invalid arg 'x-priority' for queue '{}' in vhost '{}': \"expected integer, got {}\"",
            queue.name(),
            vhost.name(),
            value.class()
        ),
    })
}
