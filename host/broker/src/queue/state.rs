//! What a queue's lock guards.
//!
//! A message is *untaken* (in the store, behind the cursor), *returned* (requeued, or taken back
//! from a consumer it was assigned to), *assigned*, or *handed out*. The first two are ready, and
//! what was returned comes first since it is older. Handed-out messages are known to the channel
//! that has them and to nobody here.

use super::{
    Settle,
    ageing::Ageing,
    consumers::{Consumer, ConsumerKey, Consumers},
    delayed::Delayed,
    keeping::{Keeping, Progress},
    lanes::Lanes,
    record::Marks,
    selective::Budget,
    settings::{QueueKind, QueueSettings},
    slab::{MessageRef, Next, Stored},
    tries::Tries,
};
use crate::{
    dead_letter::{DeathReason, Letters},
    memory::{LargeBody, MemoryAccount},
    origin::Sender,
    store::{Kept, Ranges, Store},
};
use alloc::{sync::Arc, vec::Vec};
use leveret_model::MessageView;

/// How many bytes of settled messages a queue keeps to itself before it tells the account.
pub const RELEASE_BYTES_MAX: usize = 64 * 1024;

/// With about so many bytes ready, a queue's consumers are behind: publishers should go slower. Small
/// enough that what is delivered next is still in the processor's cache.
pub const BEHIND_BYTES: usize = 4 * 1024 * 1024;

/// With more bytes than that in memory a durable queue lets go of messages that it can read again.
pub const IN_MEMORY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The same while the broker has used up half of the memory that it may.
pub(super) const IN_MEMORY_BYTES_MIN: usize = 2 * 1024 * 1024;

pub(super) struct State {
    deleted: bool,
    pub(super) settings: QueueSettings,
    pub(super) lanes: Lanes,
    pub(super) consumers: Consumers,
    /// Bytes settled that the account was not told of.
    pub(super) released_bytes: usize,
    /// Who is charged for what is read from the store; `None` where nothing of it is ever there.
    pub(super) account: Option<Arc<MemoryAccount>>,
    /// Where pages are; `None` where there are none.
    pub(super) pager: Option<Arc<dyn Store>>,
    /// Messages outlive the process.
    pub(super) is_kept: bool,
    /// There may be pages.
    pub(super) has_pages: bool,
    /// How many messages could not be read again.
    lost: u64,
    /// What comes next cannot be read now. Some consumer knows, and pulls again in a while.
    pub(super) later: bool,
    pub(super) ageing: Ageing,
    pub(super) tries: Tries,
    pub(super) delayed: Delayed,
    /// The bytes of ready bodies, where they are limited and as far as they are counted.
    pub(super) ready_bytes: u64,
    /// Somebody counts the rest.
    pub(super) is_counting: bool,
    /// Handed out to nobody: to be dead-lettered.
    pub(super) dying: Vec<(MessageRef, DeathReason)>,
    /// What dies has somewhere to go.
    pub(super) has_letters: bool,
    /// How many died, and are not where they should go yet.
    pub(super) letters: u64,
    /// Scratch.
    pub(super) patched: Vec<u8>,
}

impl State {
    /// Of a queue with these settings; `keeping` of a durable one, `pager` of one that may page.
    pub(super) fn new(
        settings: QueueSettings,
        has_letters: bool,
        (keeping, pager): (Option<Keeping>, Option<Arc<dyn Store>>),
        account: Arc<MemoryAccount>,
    ) -> Self {
        let is_kept = keeping.is_some();
        let account = (is_kept || pager.is_some()).then_some(account);
        let is_quorum = settings.kind == QueueKind::Quorum;
        let lanes = Lanes::new(settings.base_priority(), keeping, is_quorum);
        let consumers = Consumers::of(settings.single_active_consumer, is_quorum);
        let (ageing, tries) = (Ageing::default(), Tries::of(settings.delivery_limit, is_quorum));
        Self {
            deleted: false,
            settings,
            lanes,
            consumers,
            released_bytes: 0,
            account,
            pager,
            is_kept,
            has_pages: false,
            lost: 0,
            later: false,
            ageing,
            tries,
            delayed: Delayed::default(),
            ready_bytes: 0,
            is_counting: false,
            dying: Vec::new(),
            has_letters,
            letters: 0,
            patched: Vec::new(),
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    pub(super) fn ready(&self) -> usize {
        self.lanes.ready()
    }

    pub(super) fn unsettled(&self) -> usize {
        self.lanes.live().0 - self.ready()
    }

    /// Whether there are consumers and more waits for them than they should be behind.
    pub(super) fn is_behind(&self) -> bool {
        let (live, live_bytes) = self.lanes.live();
        // Of the average length, since what is ready is counted in messages only.
        live_bytes > BEHIND_BYTES
            && self.consumers.any_wants_all()
            && live_bytes / live.max(1) * self.ready() > BEHIND_BYTES
    }

    pub(super) fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// Begins with what the store has.
    pub(super) fn recover(&mut self, kept: Kept) {
        self.lanes.recover(kept, self.settings.max_priority);
        self.recover_suspects();
        self.recover_added();
        self.note_found();
        self.serve();
    }

    /// How many messages could not be read again.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// The lane of a message that comes.
    pub(super) fn lane_of(&mut self, message: &MessageView<'_>) -> u16 {
        if self.settings.max_priority.is_none() {
            return 0;
        }
        let priority = self.settings.priority(message.priority());
        self.lanes.place_for(priority)
    }

    /// Keeps a message in a lane. Returns the length of its record.
    pub(super) fn append(
        &mut self,
        lane: u16,
        message: &MessageView<'_>,
        apart: Option<Arc<LargeBody>>,
        marks: Marks,
    ) -> usize {
        if self.settings.max_length_bytes.is_some() {
            self.count_coming(message);
        }
        self.lanes.append(lane, message, apart, marks)
    }

    #[inline(never)]
    fn count_coming(&mut self, message: &MessageView<'_>) {
        self.ready_bytes += message.body_bytes();
    }

    /// Keeps a message that is not accepted until it is dead-lettered, if it is to be. Returns the length of its record.
    pub(super) fn put_aside(
        &mut self,
        message: &MessageView<'_>,
        apart: Option<Arc<LargeBody>>,
        marks: Marks,
    ) -> usize {
        if !self.has_letters {
            return 0;
        }
        let lane = self.lanes.place_aside();
        let bytes = self.lanes.append(lane, message, apart, marks);
        if let Next::Message(message) = self.lanes.take_from(lane) {
            self.die(message, DeathReason::MaxLength);
        }
        bytes
    }

    /// A message that is handed out.
    pub(super) fn stored(&self, message: MessageRef) -> Option<Stored<'_>> {
        self.lanes.stored(message)
    }

    /// Copies a message that is handed out, as its dead letter is.
    pub(super) fn copy(&self, message: MessageRef, into: &mut Letters) {
        let mut patched = Vec::new();
        let stored = self.stored(message).map(|stored| Stored {
            message: self.tries.buried(message, stored.message, &mut patched),
            ..stored
        });
        into.push(stored, self.tries.failures(message));
    }

    #[inline]
    pub(super) fn take_ready(&mut self) -> Option<MessageRef> {
        loop {
            match self.lanes.take_ready() {
                (Next::Message(message), _) => return Some(self.taken(message)),
                (Next::Nothing, _) => return None,
                (Next::Load, _) if self.later => return None,
                (Next::Load, lane) => self.load(lane)?,
            }
        }
    }

    /// Whether nothing can be taken, though there is something.
    pub(super) fn is_stuck(&self) -> bool {
        self.later && !self.lanes.has_returned()
    }

    pub(super) fn take_from(&mut self, lane: u16) -> Option<MessageRef> {
        loop {
            match self.lanes.take_from(lane) {
                Next::Message(message) => return Some(self.taken(message)),
                Next::Nothing => return None,
                Next::Load if self.later => return None,
                Next::Load => self.load(lane)?,
            }
        }
    }

    #[inline]
    pub(super) fn taken(&mut self, message: MessageRef) -> MessageRef {
        if self.settings.max_length_bytes.is_some() {
            self.count_ready(message, false);
        }
        message
    }

    /// Reads what comes next of a lane.
    #[cold]
    fn load(&mut self, lane: u16) -> Option<()> {
        self.later = self.load_at(lane, 0)?;
        (!self.later).then_some(())
    }

    /// Reads the front of the hole of a lane that begins with that number. Whether it cannot be read now; `None` if it is
    /// in no store.
    #[cold]
    pub(super) fn load_ahead(&mut self, lane: u16, first: u64) -> Option<bool> {
        let hole = self.lanes.lane(lane).store.holes().position(|hole| hole.start == first)?;
        let is_later = self.load_at(lane, hole);
        // For others what is read may be nothing that comes soon.
        self.lanes.lane_mut(lane).store.grown = true;
        is_later
    }

    fn load_at(&mut self, lane: u16, hole: usize) -> Option<bool> {
        let may_expire = self.settings.message_ttl_ms.is_some();
        let account = self.account.as_ref()?;
        let read = self.lanes.load((lane, hole), (account, self.pager.as_ref()), may_expire)?;
        account.charge(read.bytes);
        if self.settings.max_length_bytes.is_some() {
            self.ready_bytes = (self.ready_bytes + read.body_bytes).saturating_sub(read.counted_bytes);
        }
        self.lost += read.lost as u64;
        self.ageing.has_timed |= read.timed;
        self.ageing.has_own_ttl |= read.timed && !may_expire;
        self.tries.recover(lane, &read.deliveries);
        Some(read.is_later)
    }

    /// Does something for which no consumer waits. Whether what comes next could not be read is for whoever does it.
    pub(super) fn unwatched<R>(&mut self, step: impl FnOnce(&mut Self) -> R) -> (R, bool) {
        let knew = core::mem::take(&mut self.later);
        let done = step(self);
        let is_later = core::mem::replace(&mut self.later, knew);
        (done, is_later)
    }

    /// A message is as if it had not been taken.
    pub(super) fn untake(&mut self, message: MessageRef) {
        let key = self.tries.key(message);
        self.lanes.untake(message, key);
        self.count_ready(message, true);
        self.note_returned(message, key);
    }

    /// A message became ready, or is not any more.
    pub(super) fn count_ready(&mut self, message: MessageRef, more: bool) {
        if self.settings.max_length_bytes.is_none() {
            return;
        }
        let bytes = self.lanes.stored(message).map_or(0, |stored| stored.message.body_bytes());
        self.ready_bytes = match more {
            true => self.ready_bytes + bytes,
            false => self.ready_bytes.saturating_sub(bytes),
        };
    }

    /// Passes on what was settled and what was given to consumers, for the store.
    pub(super) fn pass_on(&mut self, progress: &mut Progress) {
        if self.is_kept {
            self.lanes.pass_on(progress);
        }
    }

    /// The same for what was settled, for whoever writes it with something else.
    pub(super) fn take_settled(&mut self, each: impl FnMut(&Keeping, &[Ranges])) {
        if self.is_kept {
            self.lanes.take_settled(each);
        }
    }

    /// Records so long are gone.
    pub(super) fn released(&mut self, bytes: usize) {
        self.released_bytes += bytes;
    }

    /// The message that comes next to a lane may be a dead letter: then it goes on from what it failed where it died.
    /// The store does not know that: after a restart it has failed as often as it was delivered here, for what was never
    /// tried here must not die of it.
    #[cold]
    pub(super) fn count_failures(&mut self, lane: u16, sender: Option<&dyn Sender>, member: u32) {
        let failures = sender.map_or(0, |sender| sender.origin(member).failures);
        if failures > 0 {
            let place = (lane, self.lanes.lane(lane).store.next_sequence());
            self.tries.begin_with(place, failures, self.has_letters);
        }
    }

    /// A message is done with.
    pub(super) fn forget(&mut self, message: MessageRef) {
        self.released_bytes += self.tries.forget(message) + self.lanes.settle(message).bytes;
    }

    /// A message that was taken dies: it is gone, or waits for being dead-lettered.
    pub(super) fn die(&mut self, message: MessageRef, reason: DeathReason) {
        if self.has_letters {
            self.letters += 1;
            self.dying.push((message, reason));
        } else {
            self.forget(message);
        }
    }

    /// So many dead letters are where they should go, or as if they had not died.
    pub(super) fn let_letters_go(&mut self, count: usize) {
        self.letters = self.letters.saturating_sub(count as u64);
    }

    /// After any change that may let a consumer have something: tells the only one, or assigns
    /// to several.
    pub(super) fn serve(&mut self) {
        let knew = self.later;
        if !self.consumers.browsers.is_empty() {
            self.consumers.tell_browsers(&self.lanes);
        }
        if self.consumers.len() == 0 || self.ready() == 0 || self.is_stuck() {
            return;
        }
        if let Some(key) = self.consumers.sole() {
            if let Some(consumer) = self.consumers.get_mut(key)
                && consumer.own_credit(1) > 0
            {
                consumer.handle.notify();
            }
            return;
        }
        if self.consumers.has_selective() {
            self.consumers.rejoin_selective(&self.lanes);
        }
        let asked = self.assign(&mut Budget::default(), None);
        if self.later
            && !knew
            && let Some(consumer) = asked.and_then(|key| self.consumers.get_mut(key))
        {
            consumer.handle.notify();
        }
    }

    /// Assigns what is ready to several consumers, one of which may be `pulling`. Gives the one for whom there was nothing
    /// to be had, though it wants everything.
    pub(super) fn assign(
        &mut self,
        budget: &mut Budget,
        pulling: Option<ConsumerKey>,
    ) -> Option<ConsumerKey> {
        while self.ready() > 0 && !self.consumers.is_to_hand_over() {
            let key = self.consumers.next()?;
            let is_selective = self.consumers.get_mut(key)?.selective.is_some();
            let message = if is_selective { self.take_wanted(key, budget) } else { self.take_ready() };
            if message.is_none() && is_selective {
                self.consumers.give_up(key, pulling);
                continue;
            }
            self.consumers.come_again(key);
            let consumer = self.consumers.get_mut(key)?;
            let Some(message) = message else {
                consumer.release_one();
                return Some(key);
            };
            consumer.assigned.push_back(message);
            consumer.handle.notify();
        }
        None
    }

    pub(super) fn add_consumer(&mut self, consumer: Consumer, exclusive: bool) -> Option<ConsumerKey> {
        if consumer.copies() {
            let key = self.consumers.add(consumer);
            self.serve();
            return Some(key);
        }
        // With a single active consumer a classic queue has no exclusive one, and a quorum queue makes no difference,
        // as in RabbitMQ.
        let is_single_active = self.consumers.is_single_active();
        let exclusive = exclusive && !(is_single_active && self.settings.kind == QueueKind::Quorum);
        if self.consumers.exclusive.is_some() || (exclusive && (is_single_active || self.consumers.len() > 0))
        {
            return None;
        }
        let key = self.consumers.add(consumer);
        if exclusive {
            self.consumers.exclusive = Some(key);
        }
        self.later = false;
        self.serve();
        Some(key)
    }

    /// False if there is no such consumer, or it was given copies.
    pub(super) fn remove_consumer(&mut self, key: ConsumerKey) -> bool {
        let Some(mut consumer) = self.consumers.remove(key).filter(|consumer| !consumer.copies()) else {
            return false;
        };
        let mut back = unassign(&mut consumer);
        if let Some(left) = self.consumers.sole()
            && let Some(left) = self.consumers.get_mut(left)
        {
            // From now on it takes from the queue itself; in order, so with what it was assigned.
            back.extend(unassign(left));
            back.sort_unstable_by_key(|message| message.sequence);
        }
        back.into_iter().rev().for_each(|message| self.untake(message));
        if self.consumers.len() == 0 {
            self.touch();
        }
        // Whoever knew that something is to be read later may be the one that is gone.
        self.later = false;
        self.serve();
        true
    }

    /// Settles messages that were handed out.
    pub(super) fn settle(&mut self, messages: &[(MessageRef, Option<ConsumerKey>)], outcome: Settle) {
        match outcome {
            Settle::Accepted | Settle::Rejected | Settle::Discarded => self.accept(messages),
            Settle::Requeue { failed } => {
                for (message, key) in messages {
                    self.give_back(*message, failed);
                    self.let_go(*key, 1);
                }
            }
        }
    }

    /// A message that was delivered comes back, unless that was too often.
    pub(super) fn give_back(&mut self, message: MessageRef, failed: bool) {
        if self.tries.is_over(message, failed, self.has_letters) {
            return self.die(message, DeathReason::DeliveryLimit);
        }
        if !self.delay(message, failed) {
            self.ready_again(message);
        }
    }

    /// A message that was delivered is ready again.
    pub(super) fn ready_again(&mut self, message: MessageRef) {
        let key = self.lanes.give_back(message);
        self.tries.came_back(message, key);
        self.count_ready(message, true);
        self.note_back(message);
        self.note_returned(message, key);
    }

    /// A consumer has so many messages less to settle.
    pub(super) fn let_go(&mut self, key: Option<ConsumerKey>, messages: u32) {
        if let Some(key) = key
            && let Some(consumer) = self.consumers.get_mut(key)
        {
            consumer.unsettled = consumer.unsettled.saturating_sub(messages);
            self.consumers.rejoin(key);
            self.consumers.take_over();
        }
    }

    /// A consumer may be given so many messages from now on. What is assigned to it beyond that is for others.
    pub(super) fn set_link_credit(&mut self, key: ConsumerKey, messages: u32) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        if !consumer.set_link_credit(messages) {
            let assigned = unassign(consumer);
            consumer.set_link_credit(messages);
            assigned.into_iter().rev().for_each(|message| self.untake(message));
        }
        self.nudge(key);
    }

    /// A consumer may hold so many messages unacknowledged from now on.
    pub(super) fn set_prefetch(&mut self, key: ConsumerKey, messages: u16) {
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.set_prefetch(messages);
            self.nudge(key);
        }
    }

    /// So many messages did not reach a consumer that was given them. `tells`: it is to look again, if it has a credit
    /// of its own.
    pub(super) fn refund(&mut self, key: ConsumerKey, messages: u32, tells: bool) {
        if let Some(consumer) = self.consumers.get_mut(key)
            && consumer.refund(messages)
            && tells
        {
            self.nudge(key);
        }
    }

    pub(super) fn nudge(&mut self, key: ConsumerKey) {
        self.consumers.rejoin(key);
        self.serve();
    }

    pub(super) fn purge(&mut self) -> usize {
        self.later = false;
        let mut purged = self.lanes.drop_holes() + self.purge_suspects() + self.purge_delayed();
        while let Some(message) = self.take_ready() {
            self.forget(message);
            purged += 1;
        }
        self.ready_bytes = 0;
        if self.lanes.live().0 == 0 {
            // Of those too that were on disk alone.
            self.released_bytes += self.tries.clear();
        }
        purged
    }

    /// Forgets everything, for good.
    pub(super) fn delete(&mut self, account: &MemoryAccount) {
        self.deleted = true;
        self.released_bytes += self.lanes.clear() + self.tries.clear();
        self.dying.clear();
        self.delayed.clear();
        for mut consumer in self.consumers.drain() {
            unassign(&mut consumer);
            consumer.handle.notify_deleted();
        }
        self.report(account);
    }

    /// Takes settled messages off the account, in lumps: at most as much is kept back as is held.
    pub(super) fn report(&mut self, account: &MemoryAccount) {
        if self.has_pages {
            self.drop_pages();
        }
        let (_, live_bytes) = self.lanes.live();
        if self.released_bytes > 0 && self.released_bytes >= RELEASE_BYTES_MAX.min(live_bytes) {
            account.release(core::mem::take(&mut self.released_bytes));
        }
    }
}

/// Takes back what was assigned to a consumer and not yet handed out, and the credit for it.
pub(super) fn unassign(consumer: &mut Consumer) -> Vec<MessageRef> {
    let count = consumer.assigned.len() as u32;
    consumer.refund(count);
    if !consumer.no_ack {
        consumer.unsettled -= count;
        consumer.credit.release(count);
    }
    consumer.assigned.drain(..).collect()
}
