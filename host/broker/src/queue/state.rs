//! What a queue's lock guards.
//!
//! A message is *untaken* (in the store, behind the cursor), *returned* (requeued, or taken back
//! from a consumer it was assigned to), *assigned*, or *handed out*. The first two are ready, and
//! what was returned comes first since it is older. Handed-out messages are known to the channel
//! that has them and to nobody here.

use super::{
    GotMessage, Settle,
    consumers::{Consumer, ConsumerKey, Consumers},
    keeping::{Keeping, Progress},
    load::Load,
    record::{DEAD_LETTERED, KEPT},
    slab::{MessageRef, Next, Store, Stored},
};
use crate::{
    memory::{LargeBody, MemoryAccount},
    store::{Kept, Ranges},
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use leveret_model::MessageView;

/// How many bytes of settled messages a queue keeps to itself before it tells the account.
pub const RELEASE_BYTES_MAX: usize = 64 * 1024;

/// With about so many bytes ready, a queue's consumers are behind: publishers should go slower. Small
/// enough that what is delivered next is still in the processor's cache.
pub const BEHIND_BYTES: usize = 4 * 1024 * 1024;

/// With more bytes than that in memory a durable queue lets go of messages that it can read again.
pub const IN_MEMORY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The same while the broker has used up half of the memory that it may.
const IN_MEMORY_BYTES_MIN: usize = 2 * 1024 * 1024;

/// Takes messages for a consumer, under the queue's lock.
pub(crate) trait Taker {
    fn has_room(&self) -> bool;
    fn take(&mut self, message: MessageRef, redelivered: bool, view: MessageView<'_>);
    /// Whether what a consumer without acknowledgements takes is settled by whoever took it.
    fn settles(&self) -> bool {
        false
    }
}

/// Why a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pull {
    /// Nothing more for this consumer; it will be told when there is.
    Drained,
    /// The burst is over; there may be more.
    Burst,
    /// There is more, but no room.
    NoRoom,
    /// What comes next cannot be read from the store now: pull again in a while. Nobody tells when.
    Later,
}

#[derive(Default)]
pub(super) struct State {
    deleted: bool,
    store: Store,
    returned: BTreeMap<u64, MessageRef>,
    consumers: Consumers,
    /// Bytes settled that the account was not told of.
    released_bytes: usize,
    /// Where messages are kept beyond the process, and who is charged for what is read from there.
    keeping: Option<(Keeping, Arc<MemoryAccount>)>,
    /// Settled, and given to consumers, and to be told to the store.
    settled: Vec<Ranges>,
    delivered: Vec<Ranges>,
    /// How many messages could not be read again.
    lost: u64,
    /// What comes next cannot be read now. Some consumer knows, and pulls again in a while.
    later: bool,
}

impl State {
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    pub(super) fn ready(&self) -> usize {
        self.store.untaken() + self.returned.len()
    }

    pub(super) fn unsettled(&self) -> usize {
        self.store.live().0 - self.ready()
    }

    /// Whether there are consumers and more waits for them than they should be behind.
    pub(super) fn is_behind(&self) -> bool {
        let (live, live_bytes) = self.store.live();
        // Of the average length, since what is ready is counted in messages only.
        live_bytes > BEHIND_BYTES
            && self.consumers.len() > 0
            && live_bytes / live.max(1) * self.ready() > BEHIND_BYTES
    }

    pub(super) fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    /// Of a durable queue.
    pub(super) fn keeping(keeping: Option<(Keeping, Arc<MemoryAccount>)>) -> Self {
        Self { keeping, ..Self::default() }
    }

    /// Begins with what the store has.
    pub(super) fn recover(&mut self, kept: Kept) {
        self.store.recover(kept);
        self.serve();
    }

    /// How many messages could not be read again.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// The number of the next message.
    pub(super) fn next_sequence(&self) -> u64 {
        self.store.next_sequence()
    }

    pub(super) fn append(
        &mut self,
        message: &MessageView<'_>,
        apart: Option<Arc<LargeBody>>,
        (dead_lettered, kept): (bool, bool),
    ) -> usize {
        let flags = if dead_lettered { DEAD_LETTERED } else { 0 } | if kept { KEPT } else { 0 };
        self.store.append(message, apart, flags)
    }

    /// A message that is handed out.
    pub(super) fn stored(&self, message: MessageRef) -> Option<Stored<'_>> {
        self.store.stored(message)
    }

    fn take_ready(&mut self) -> Option<MessageRef> {
        if self.returned.is_empty() {
            return self.take_stored();
        }
        self.returned.pop_first().map(|(_, message)| message)
    }

    fn take_stored(&mut self) -> Option<MessageRef> {
        loop {
            match self.store.take() {
                Next::Message(message) => return Some(message),
                Next::Nothing => return None,
                Next::Load if self.later => return None,
                Next::Load => self.load()?,
            }
        }
    }

    /// Whether nothing can be taken, though there is something.
    fn is_stuck(&self) -> bool {
        self.later && self.returned.is_empty()
    }

    /// Reads what comes next.
    fn load(&mut self) -> Option<()> {
        let (keeping, account) = self.keeping.as_ref()?;
        let Load { bytes, lost, is_later } = self.store.load(keeping, account);
        account.charge(bytes);
        self.lost += lost as u64;
        self.later = is_later;
        (!is_later).then_some(())
    }

    /// Lets go of messages that can be read again, if too many are in memory.
    pub(super) fn relieve(&mut self) {
        let Some((keeping, account)) = &self.keeping else { return };
        let is_short = account.bytes() > account.watermark_bytes() / 2;
        let most = if is_short { IN_MEMORY_BYTES_MIN } else { IN_MEMORY_BYTES_MAX };
        if self.store.live().1 > most && self.store.take_grown() {
            let readable = |numbers| keeping.store.count(keeping.id, numbers);
            self.released_bytes += self.store.evict(most / 2, &readable);
        }
    }

    /// Passes on what was settled and what was given to consumers, for the store.
    pub(super) fn pass_on(&mut self, progress: &mut Progress) {
        if let Some((keeping, _)) = &self.keeping {
            progress.delivered(keeping.id, &mut self.delivered);
            progress.settled(keeping.id, &mut self.settled);
        }
    }

    /// The same for what was settled, for whoever writes it with something else.
    pub(super) fn take_settled(&mut self, each: impl FnOnce(&Keeping, &[Ranges])) {
        if let Some((keeping, _)) = &self.keeping
            && !self.settled.is_empty()
        {
            each(keeping, &self.settled);
            self.settled.clear();
        }
    }

    /// A message is done with.
    fn forget(&mut self, message: MessageRef) {
        let settled = self.store.settle(message);
        self.released_bytes += settled.bytes;
        if settled.kept {
            Ranges::push(&mut self.settled, message.sequence);
        }
    }

    /// After any change that may let a consumer have something: tells the only one, or assigns
    /// to several.
    pub(super) fn serve(&mut self) {
        let knew = self.later;
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
        let asked = self.assign();
        if self.later
            && !knew
            && let Some(consumer) = asked.and_then(|key| self.consumers.get_mut(key))
        {
            consumer.handle.notify();
        }
    }

    /// Assigns what is ready to several consumers. Gives the one for whom there was nothing to be had.
    fn assign(&mut self) -> Option<ConsumerKey> {
        while self.ready() > 0 {
            let key = self.consumers.next()?;
            let message = self.take_ready();
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
        if self.consumers.exclusive.is_some() || (exclusive && self.consumers.len() > 0) {
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

    /// False if there is no such consumer.
    pub(super) fn remove_consumer(&mut self, key: ConsumerKey) -> bool {
        let Some(mut consumer) = self.consumers.remove(key) else {
            return false;
        };
        unassign(&mut consumer, &mut self.returned);
        if let Some(left) = self.consumers.sole()
            && let Some(left) = self.consumers.get_mut(left)
        {
            // From now on it takes from the queue itself; in order, so with what it was assigned.
            unassign(left, &mut self.returned);
        }
        // Whoever knew that something is to be read later may be the one that is gone.
        self.later = false;
        self.serve();
        true
    }

    pub(super) fn pull(&mut self, key: ConsumerKey, burst: u32, taker: &mut impl Taker) -> Pull {
        self.later = false;
        if self.consumers.sole() == Some(key) {
            return self.pull_ready(key, burst, taker);
        }
        let mut left = burst;
        loop {
            let Some(consumer) = self.consumers.get_mut(key) else {
                return Pull::Drained;
            };
            let no_ack = consumer.no_ack;
            if consumer.assigned.is_empty() {
                self.consumers.rejoin(key);
                self.assign();
                if self.consumers.get_mut(key).is_none_or(|consumer| consumer.assigned.is_empty()) {
                    return if self.later { Pull::Later } else { Pull::Drained };
                }
                continue;
            }
            if left == 0 {
                return Pull::Burst;
            }
            if !taker.has_room() {
                return Pull::NoRoom;
            }
            let Some(message) = consumer.assigned.pop_front() else {
                return Pull::Drained;
            };
            self.hand_out(message, no_ack, taker);
            left -= 1;
        }
    }

    /// For the only consumer, straight from what is ready.
    fn pull_ready(&mut self, key: ConsumerKey, burst: u32, taker: &mut impl Taker) -> Pull {
        let wanted = burst.min(u32::try_from(self.ready()).unwrap_or(u32::MAX));
        let Some(consumer) = self.consumers.get_mut(key) else {
            return Pull::Drained;
        };
        let no_ack = consumer.no_ack;
        let wanted = consumer.own_credit(wanted);
        let granted = if no_ack || wanted == 0 { wanted } else { consumer.credit.acquire(wanted) };
        if granted == 0 {
            return Pull::Drained;
        }
        let mut taken = 0;
        while taken < granted && taker.has_room() {
            let Some(message) = self.take_ready() else { break };
            self.hand_out(message, no_ack, taker);
            taken += 1;
        }
        let (more, stuck) = (self.ready() > 0, self.is_stuck());
        let Some(consumer) = self.consumers.get_mut(key) else {
            return Pull::Drained;
        };
        if !no_ack {
            consumer.unsettled += taken;
            consumer.credit.release(granted - taken);
        }
        if stuck {
            Pull::Later
        } else if taken < granted {
            Pull::NoRoom
        } else if more && consumer.own_credit(1) > 0 {
            Pull::Burst
        } else {
            Pull::Drained
        }
    }

    fn hand_out(&mut self, message: MessageRef, no_ack: bool, taker: &mut impl Taker) {
        let mut kept = false;
        if let Some(stored) = self.store.stored(message) {
            kept = stored.kept;
            taker.take(message, stored.redelivered, stored.message);
        }
        if no_ack && !taker.settles() {
            self.forget(message);
        } else if kept {
            Ranges::push(&mut self.delivered, message.sequence);
        }
    }

    /// Takes back what was handed out and did not reach anybody: as if it had not been. Nobody is
    /// told that it is ready again.
    pub(super) fn take_back(&mut self, message: MessageRef, key: Option<ConsumerKey>) {
        self.returned.insert(message.sequence, message);
        if let Some(key) = key
            && let Some(consumer) = self.consumers.get_mut(key)
        {
            consumer.unsettled = consumer.unsettled.saturating_sub(1);
            self.consumers.rejoin(key);
        }
    }

    pub(super) fn get(&mut self, no_ack: bool, got: impl FnOnce(GotMessage<'_>, MessageRef)) -> bool {
        let knew = core::mem::take(&mut self.later);
        let taken = self.take_ready();
        // Whoever gets does not look again; a consumer that knows does.
        self.later = knew;
        let Some(taken) = taken else {
            return false;
        };
        let messages_left = self.ready() as u64;
        let Some(stored) = self.store.stored(taken) else {
            return false;
        };
        let kept = stored.kept;
        got(GotMessage { message: stored.message, redelivered: stored.redelivered, messages_left }, taken);
        if no_ack {
            self.forget(taken);
        } else if kept {
            Ranges::push(&mut self.delivered, taken.sequence);
        }
        true
    }

    pub(super) fn settle(&mut self, message: MessageRef, key: Option<ConsumerKey>, outcome: Settle) {
        match outcome {
            Settle::Accepted | Settle::Rejected => self.forget(message),
            Settle::Requeue => {
                self.store.mark_redelivered(message);
                self.returned.insert(message.sequence, message);
            }
        }
        self.let_go(key);
    }

    /// A consumer has one message less to settle.
    pub(super) fn let_go(&mut self, key: Option<ConsumerKey>) {
        if let Some(key) = key
            && let Some(consumer) = self.consumers.get_mut(key)
        {
            consumer.unsettled = consumer.unsettled.saturating_sub(1);
            self.consumers.rejoin(key);
        }
    }

    pub(super) fn nudge(&mut self, key: ConsumerKey) {
        self.consumers.rejoin(key);
        self.serve();
    }

    pub(super) fn purge(&mut self) -> usize {
        self.later = false;
        for numbers in self.store.holes() {
            let mut first = numbers.start;
            while first < numbers.end {
                let count = u32::try_from(numbers.end - first).unwrap_or(u32::MAX);
                self.settled.push(Ranges { first, count });
                first += u64::from(count);
            }
        }
        let mut purged = self.store.drop_holes();
        while let Some(message) = self.take_ready() {
            self.forget(message);
            purged += 1;
        }
        purged
    }

    /// Forgets everything, for good.
    pub(super) fn delete(&mut self, account: &MemoryAccount) {
        self.deleted = true;
        self.released_bytes += self.store.clear();
        self.returned.clear();
        for mut consumer in self.consumers.drain() {
            unassign(&mut consumer, &mut BTreeMap::new());
            consumer.handle.notify_deleted();
        }
        self.report(account);
    }

    /// Takes settled messages off the account, in lumps: at most as much is kept back as is held.
    pub(super) fn report(&mut self, account: &MemoryAccount) {
        let (_, live_bytes) = self.store.live();
        if self.released_bytes > 0 && self.released_bytes >= RELEASE_BYTES_MAX.min(live_bytes) {
            account.release(core::mem::take(&mut self.released_bytes));
        }
    }
}

/// Takes back what was assigned to a consumer and not yet handed out, and the credit for it.
fn unassign(consumer: &mut Consumer, returned: &mut BTreeMap<u64, MessageRef>) {
    let count = consumer.assigned.len() as u32;
    if !consumer.no_ack {
        consumer.unsettled -= count;
        consumer.credit.release(count);
    }
    returned.extend(consumer.assigned.drain(..).map(|message| (message.sequence, message)));
}
