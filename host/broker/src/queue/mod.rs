//! A queue: messages, who waits for them, whose turn it is.
//!
//! One lock for each queue. It is taken once for a batch of publishes, once for a burst of
//! deliveries, once for the acknowledgements of a request. Nothing is called under it but the
//! consumer's sink, what a consumer wants of messages, a `Wake`, and the memory account.

mod added;
mod ageing;
mod ahead;
mod apart;
mod browsing;
mod consumers;
mod counting;
mod dead_letter;
mod delayed;
mod forms;
mod governed;
mod handing;
mod keeping;
mod lanes;
mod late;
mod length;
mod load;
mod paging;
mod placing;
mod pool;
mod record;
mod returned;
mod runs;
mod selective;
mod settings;
mod slab;
mod spec;
mod state;
mod suspects;
mod tries;

use crate::{
    ConnectionId,
    dead_letter::{DeathReason, Deaths},
    memory::{LargeBody, MemoryAccount},
    origin::Sender,
    publish::Publish,
    receipt::Receipt,
    store::{Kept, KeptId, Store},
    traffic::QueueTraffic,
};
use alloc::{sync::Arc, vec::Vec};
use core::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};
use governed::Governed;
use leveret_model::{MessageView, Name, Refusal, refusal::Resource};
use parking_lot::{Mutex, MutexGuard, RwLock};
use state::State;

pub(crate) use added::FAILED_AT_ONCE;
pub use added::{AddedHeader, header_bytes};
pub(crate) use apart::{is_apart, large_of};
pub use consumers::ASSIGNED_MESSAGES_MAX;
pub(crate) use consumers::{Consumer, ConsumerKey};
pub(crate) use counting::Counted;
pub use dead_letter::{DeadLetterCounts, DeadLettering};
pub use delayed::DelayedRetry;
pub(crate) use handing::{Pull, Taker};
pub(crate) use keeping::{Keeping, Progress};
pub(crate) use placing::Notes;
pub(crate) use settings::check as check_arguments;
pub use settings::{DELIVERY_LIMIT, DeliveryLimit, Overflow, QueueKind, QueueSettings};
pub(crate) use slab::{MessageRef, Stored};
pub use spec::{QueueCounts, QueueSpec, QueueStatus, Settle};
pub use state::{BEHIND_BYTES, IN_MEMORY_BYTES_MAX, RELEASE_BYTES_MAX};
pub(crate) use tries::DELIVERY_COUNT;

/// Bodies of this many bytes and more have an allocation of their own, which the queues that hold
/// the message share.
pub const LARGE_BODY_BYTES: usize = 32 * 1024;

/// Numbers a queue for as long as the broker runs; never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct QueueId(pub u64);

/// A declared queue.
pub struct Queue {
    id: QueueId,
    vhost: Name,
    spec: QueueSpec,
    owner: Option<ConnectionId>,
    account: Arc<MemoryAccount>,
    /// Where its messages are kept; `None` where they end with the process.
    keeping: Option<Keeping>,
    kind: QueueKind,
    is_single_active: bool,
    governed: RwLock<Governed>,
    /// Who comes for what dies at nobody's hand.
    deaths: Arc<Deaths>,
    deleted: AtomicBool,
    /// What [`State::is_behind`] said after the last batch.
    behind: AtomicBool,
    traffic: QueueTraffic,
    can_relieve: bool,
    state: Mutex<State>,
}

/// A message that was got.
pub(crate) struct GotMessage<'a> {
    pub(crate) message: MessageView<'a>,
    pub(crate) redelivered: bool,
    pub(crate) messages_left: u64,
}

impl Queue {
    pub(crate) fn new(
        id: QueueId,
        vhost: Name,
        spec: QueueSpec,
        owner: Option<ConnectionId>,
        (account, deaths): (Arc<MemoryAccount>, Arc<Deaths>),
        (keeping, pager): (Option<Keeping>, Option<Arc<dyn Store>>),
    ) -> Self {
        let (deleted, behind) = (AtomicBool::new(false), AtomicBool::new(false));
        let settings = QueueSettings::of(&spec.arguments);
        let governed = Governed::by_arguments(&spec.arguments);
        let (kind, is_single_active) = (settings.kind, settings.single_active_consumer);
        let can_relieve = keeping.is_some() || pager.is_some();
        let state = State::new(settings, governed.has_letters(), (keeping.clone(), pager), account.clone());
        let state = Mutex::new(state);
        Self {
            id,
            vhost,
            spec,
            owner,
            account,
            keeping,
            kind,
            is_single_active,
            governed: RwLock::new(governed),
            deaths,
            deleted,
            behind,
            traffic: QueueTraffic::default(),
            can_relieve,
            state,
        }
    }

    /// Begins with what the store has; before anybody else knows of it. Gives how many messages that are.
    pub(crate) fn recover(self: &Arc<Self>, kept: Kept) -> u64 {
        let mut state = self.state.lock();
        state.recover(kept);
        state.touch();
        let visit = ageing::is_to_be_visited(&state);
        let messages = state.ready() as u64;
        drop(state);
        if visit {
            self.deaths.visit(self, 0);
        }
        messages
    }

    /// It was declared, for the first time or again.
    pub(crate) fn touch(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.settings.expires_ms.is_some() {
            state.touch();
            self.part(state);
        }
    }

    /// Whether one of its consumers is served and the others stand by.
    #[must_use]
    pub fn is_single_active(&self) -> bool {
        self.is_single_active
    }

    /// The numbers of its lanes in the store.
    pub(crate) fn kept_lanes(&self) -> Vec<KeptId> {
        self.state.lock().lanes.kept_lanes().collect()
    }

    /// The end of whatever changed something: what died is handed over, and the housekeeper asked to come, if that is
    /// to be.
    fn part(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let dying = core::mem::take(&mut state.dying);
        let visit_ms = state.wish();
        state.report(&self.account);
        drop(state);
        if !dying.is_empty() {
            self.deaths.add(self, dying);
        }
        if let Some(due_ms) = visit_ms {
            self.deaths.visit(self, due_ms);
        }
    }

    /// Where its messages are kept.
    pub(crate) fn keeping(&self) -> Option<&Keeping> {
        self.keeping.as_ref()
    }

    /// Its number in the store; `None` where its messages end with the process.
    #[must_use]
    pub fn kept_id(&self) -> Option<KeptId> {
        self.keeping.as_ref().map(|keeping| keeping.id)
    }

    /// The virtual host it is in.
    #[must_use]
    pub fn vhost(&self) -> &Name {
        &self.vhost
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.spec.name
    }

    /// What it was declared as.
    #[must_use]
    pub fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    /// The connection it is exclusive to.
    #[must_use]
    pub fn owner(&self) -> Option<ConnectionId> {
        self.owner
    }

    /// Whether it was deleted. Whoever holds on to it looks it up by name again.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Its ready messages and its consumers.
    #[must_use]
    pub fn status(&self) -> QueueStatus {
        let state = self.state.lock();
        QueueStatus {
            name: self.spec.name.clone(),
            messages: state.ready() as u64,
            consumers: state.consumer_count() as u64,
        }
    }

    /// How many messages were delivered or assigned to consumers and are not settled.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.state.lock().unsettled() as u64
    }

    /// Whether a connection may use it.
    ///
    /// # Errors
    /// [`Refusal::Locked`] if it is exclusive to another.
    pub(crate) fn check_access(&self, by: ConnectionId) -> Result<(), Refusal> {
        if self.owner.is_none_or(|owner| owner == by) { Ok(()) } else { Err(self.locked()) }
    }

    pub(crate) fn locked(&self) -> Refusal {
        Refusal::Locked { queue: self.spec.name.clone(), vhost: self.vhost.clone() }
    }

    pub(crate) fn not_found(&self) -> Refusal {
        let (name, vhost) = (self.spec.name.clone(), self.vhost.clone());
        Refusal::NotFound { resource: Resource::Queue, name, vhost }
    }

    /// Takes the members of a batch that come at the time `now_ms`, in order. False if the queue is deleted: it took
    /// none.
    ///
    /// `sender` knows more of messages that the broker itself publishes. `large` has the bodies of
    /// [`LARGE_BODY_BYTES`] and more, by their place in the batch.
    ///
    /// What has to go for want of room is left in `notes`, for the connection that publishes to send on; the
    /// housekeeper does that where the broker itself publishes, which has a `sender` then.
    pub(crate) fn enqueue(
        self: &Arc<Self>,
        (batch, now_ms): (&[Publish<'_>], u64),
        sender: Option<&dyn Sender>,
        members: &[u32],
        large: &[(u32, Arc<LargeBody>)],
        notes: &mut Notes,
    ) -> bool {
        let mut state = self.state.lock();
        if state.is_deleted() {
            return false;
        }
        let (mut bytes, refused_before) = (0, notes.refused.len());
        for member in members {
            let Some(publish) = batch.get(*member as usize) else {
                continue;
            };
            let message = &publish.message;
            let apart = if large.is_empty() { None } else { large_of(large, *member).cloned() };
            let flags = sender.map_or(0, |sender| record::flags_of(sender.origin(*member)));
            if state.is_full(message, flags) {
                let goes_on = state.settings.overflow == Overflow::RejectPublishDlx && state.has_letters;
                if goes_on {
                    bytes += state.put_aside(message, apart, record::Marks::of(flags));
                }
                // What the broker publishes again would go on once more with each try.
                if !goes_on || sender.is_none() {
                    notes.refuse(*member, &self.spec.name);
                }
                continue;
            }
            let lane = state.lane_of(message);
            let kept = state.lanes.lane_mut(lane).place(&mut notes.placing, *member, message);
            if flags != 0 {
                state.count_failures(lane, sender, *member);
            }
            let flags = flags | if kept { record::KEPT } else { 0 };
            let marks = if notes.is_timeless && state.settings.message_ttl_ms.is_none() {
                record::Marks::of(flags)
            } else {
                state.marks(message, flags, now_ms)
            };
            bytes += state.append(lane, message, apart, marks);
        }
        self.account.charge(bytes);
        // Under the lock nobody else counts here.
        let refused = notes.refused.len() - refused_before;
        self.traffic.publish.add(members.len().saturating_sub(refused) as u64);
        state.serve();
        state.shorten();
        state.relieve();
        self.behind.store(state.is_behind(), Ordering::Relaxed);
        state.pass_on(&mut notes.progress);
        if sender.is_none() {
            // Whoever publishes too much sends on what has to go, and is as slow as that.
            let dying = core::mem::take(&mut state.dying).into_iter();
            notes.dying.extend(dying.map(|(message, reason)| (self.clone(), message, reason)));
        }
        self.part(state);
        true
    }

    /// A message died that nobody else sends on.
    pub(crate) fn leave_dying(self: &Arc<Self>, message: MessageRef, reason: DeathReason) {
        self.deaths.add(self, Vec::from([(message, reason)]));
    }

    /// Whether its consumers were behind after the last batch.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// [`Refusal::ExclusiveUse`] if it or another one is exclusive; [`Refusal::NotFound`] if the
    /// queue was deleted meanwhile.
    pub(crate) fn add_consumer(&self, consumer: Consumer, exclusive: bool) -> Result<ConsumerKey, Refusal> {
        let mut state = self.state.lock();
        if state.is_deleted() {
            return Err(self.not_found());
        }
        state
            .add_consumer(consumer, exclusive)
            .ok_or_else(|| Refusal::ExclusiveUse { queue: self.spec.name.clone(), vhost: self.vhost.clone() })
    }

    /// Removes a consumer. True if the queue went with it; then its bindings are to be removed.
    pub(crate) fn remove_consumer(self: &Arc<Self>, key: ConsumerKey) -> bool {
        let mut state = self.state.lock();
        if !state.remove_consumer(key) {
            return false;
        }
        let goes = self.spec.auto_delete && state.consumer_count() == 0;
        if goes {
            self.delete_locked(&mut state);
        }
        self.part(state);
        goes
    }

    /// Hands messages to a consumer, at most `burst`, at the time `now_ms`.
    pub(crate) fn pull(
        self: &Arc<Self>,
        (key, now_ms): (ConsumerKey, u64),
        burst: u32,
        taker: &mut impl Taker,
        progress: &mut Progress,
    ) -> Pull {
        let mut state = self.state.lock();
        let pull = state.pull(key, burst, taker, now_ms);
        state.pass_on(progress);
        self.part(state);
        pull
    }

    /// Hands out one message at the time `now_ms`. With `no_ack` it is settled already.
    pub(crate) fn get(
        self: &Arc<Self>,
        (no_ack, now_ms): (bool, u64),
        progress: &mut Progress,
        got: impl FnOnce(GotMessage<'_>, MessageRef),
    ) -> bool {
        let mut state = self.state.lock();
        state.touch();
        let any = state.get(no_ack, now_ms, got);
        state.pass_on(progress);
        self.part(state);
        any
    }

    /// Settles messages that were handed out. What was in a deleted queue is gone already. What the store is to be
    /// told goes into `progress`.
    pub(crate) fn settle(
        self: &Arc<Self>,
        messages: &[(MessageRef, Option<ConsumerKey>)],
        outcome: Settle,
        progress: &mut Progress,
    ) {
        if let Some(state) = self.lock_settled(messages, outcome, progress) {
            self.part(state);
        }
    }

    /// The same of messages that come back. Gives what died of that, for whoever gave them back to send on.
    pub(crate) fn requeue(
        self: &Arc<Self>,
        messages: &[(MessageRef, Option<ConsumerKey>)],
        failed: bool,
        progress: &mut Progress,
    ) -> Vec<(MessageRef, DeathReason)> {
        let Some(mut state) = self.lock_settled(messages, Settle::Requeue { failed }, progress) else {
            return Vec::new();
        };
        let dying = core::mem::take(&mut state.dying);
        self.part(state);
        dying
    }

    fn lock_settled(
        &self,
        messages: &[(MessageRef, Option<ConsumerKey>)],
        outcome: Settle,
        progress: &mut Progress,
    ) -> Option<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        if state.is_deleted() {
            return None;
        }
        state.settle(messages, outcome);
        state.serve();
        if matches!(outcome, Settle::Requeue { .. }) {
            state.shorten();
        }
        state.pass_on(progress);
        Some(state)
    }

    /// Takes back messages that were handed out and did not reach anybody, as if they had not been.
    /// Nobody is told that they are ready again: whoever had them comes again.
    pub(crate) fn take_back(
        &self,
        messages: impl DoubleEndedIterator<Item = (MessageRef, Option<ConsumerKey>)>,
    ) {
        let mut state = self.state.lock();
        if !state.is_deleted() {
            messages.rev().for_each(|(message, key)| state.take_back(message, key));
        }
    }

    /// What is ready is for whatever consumers can take it.
    pub(crate) fn offer(&self) {
        self.state.lock().serve();
    }

    /// A consumer may have got credit from its channel.
    pub(crate) fn nudge(&self, key: ConsumerKey) {
        self.state.lock().nudge(key);
    }

    /// A consumer may be given so many messages from now on.
    pub(crate) fn set_link_credit(&self, key: ConsumerKey, messages: u32) {
        self.state.lock().set_link_credit(key, messages);
    }

    /// A consumer may hold so many messages unacknowledged from now on.
    pub(crate) fn set_prefetch(&self, key: ConsumerKey, messages: u16) {
        self.state.lock().set_prefetch(key, messages);
    }

    /// So many messages did not reach a consumer that was given them. `tells`: it is to look again.
    pub(crate) fn refund(&self, key: ConsumerKey, messages: u32, tells: bool) {
        self.state.lock().refund(key, messages, tells);
    }

    /// Drops all ready messages; returns how many, and the receipt for that.
    pub(crate) fn purge(self: &Arc<Self>) -> (u64, Receipt) {
        let mut progress = Progress::default();
        let mut state = self.state.lock();
        let purged = state.purge() as u64;
        state.pass_on(&mut progress);
        self.part(state);
        let receipt = self.keeping.as_ref().map(|keeping| progress.tell_kept(keeping));
        (purged, receipt.unwrap_or_default())
    }

    /// The housekeeper's visit at the time `now_ms`: when to come again, and whether the queue was unused for so long
    /// that it went.
    pub(crate) fn tick(self: &Arc<Self>, now_ms: u64, progress: &mut Progress) -> (Option<u64>, bool) {
        self.look();
        let mut state = self.state.lock();
        if state.is_deleted() {
            return (None, false);
        }
        let ticked = state.tick(now_ms);
        if ticked.is_over {
            self.delete_locked(&mut state);
        }
        state.pass_on(progress);
        let counts = state.begin_counting();
        self.part(state);
        if counts {
            self.deaths.count(self);
        }
        (ticked.next_ms, ticked.is_over)
    }

    /// Deletes the queue; returns how many messages were ready. `None` if it was deleted already.
    /// Its bindings and its name are the caller's business.
    ///
    /// # Errors
    /// [`Refusal::InUse`], [`Refusal::NotEmpty`].
    pub(crate) fn delete(&self, if_unused: bool, if_empty: bool) -> Result<Option<u64>, Refusal> {
        let mut state = self.state.lock();
        if state.is_deleted() {
            return Ok(None);
        }
        let (name, vhost) = (self.spec.name.clone(), self.vhost.clone());
        if if_unused && state.consumer_count() > 0 {
            return Err(Refusal::InUse { resource: Resource::Queue, name, vhost });
        }
        if if_empty && state.ready() + state.delayed.count() > 0 {
            return Err(Refusal::NotEmpty { queue: name, vhost });
        }
        let ready = state.ready() as u64;
        self.delete_locked(&mut state);
        Ok(Some(ready))
    }

    fn delete_locked(&self, state: &mut State) {
        self.deleted.store(true, Ordering::Release);
        state.delete(&self.account);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.state.get_mut().delete(&self.account);
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("id", &self.id).field("spec", &self.spec).finish_non_exhaustive()
    }
}
