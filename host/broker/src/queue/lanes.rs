//! The lanes of a queue: what it has of each priority, in the order of coming.
//!
//! Most queues have one, the base lane. A queue with priorities makes the others when the first message of each
//! comes; the highest that has a message is served first. In the store on disk a lane is like a queue of its own.
//!
//! *Aside:* a lane for messages that the queue did not accept and that go to its dead-letter exchange. They are never
//! ready, and in no store.
//!
//! *What comes back* goes to where it was in its lane. Of queues with [`Lanes::returns_first`] it comes before all
//! others, in the order in which it came back.

use super::{
    keeping::{Keeping, Progress},
    load::Read,
    paging::{Outside, Paging},
    record::Marks,
    returned::Returned,
    slab::{MessageRef, Next, Settled, Store, Stored},
};
use crate::{
    memory::{LargeBody, MemoryAccount},
    store::{Kept, KeptId, Ranges, Topology, TopologyChange},
};
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use leveret_model::{MessageView, Name};

/// The place of the lane of messages that were not accepted.
const ASIDE: u16 = u16::MAX;
/// The number in the store of the lane of priority 0, where the base lane is another.
const LOWEST: u8 = u8::MAX;

/// What a queue has of one priority.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) store: Store,
    pub(super) returned: BTreeMap<u64, MessageRef>,
    /// Where its messages are kept beyond the process.
    pub(super) keeping: Option<Keeping>,
    /// Settled, and given to consumers, and to be told to the store.
    pub(super) settled: Vec<Ranges>,
    pub(super) delivered: Vec<Ranges>,
    priority: u8,
}

/// All lanes of a queue.
#[derive(Default)]
pub(super) struct Lanes {
    base: Lane,
    others: Vec<Lane>,
    /// The places of all lanes, the highest priority first; empty while there is one.
    pub(super) order: Vec<u16>,
    aside: Option<alloc::boxed::Box<Lane>>,
    /// What came back, where that comes first.
    pub(super) returned: Option<Returned>,
}

impl Lane {
    fn ready(&self) -> usize {
        self.store.untaken() + self.returned.len()
    }

    #[inline]
    fn take_ready(&mut self) -> Next {
        if self.returned.is_empty() {
            return self.store.take();
        }
        self.take_first()
    }

    /// What came back is older than what nobody has taken, unless it was taken out of turn.
    fn take_first(&mut self) -> Next {
        let first = self.returned.first_key_value().map(|(sequence, _)| *sequence);
        if first.is_some_and(|first| self.store.is_next_before(first)) {
            return self.store.take();
        }
        self.returned.pop_first().map_or(Next::Nothing, |(_, message)| Next::Message(message))
    }

    /// Whether something came back that is taken before anything else.
    fn has_first(&self) -> bool {
        let first = self.returned.first_key_value();
        first.is_some_and(|(sequence, _)| *sequence < self.store.cursor.sequence)
    }

    /// Its place among the lanes in the store, of a queue whose base lane has this priority.
    fn number(priority: u8, base: u8) -> u8 {
        match priority {
            _ if priority == base => 0,
            0 => LOWEST,
            priority => priority,
        }
    }
}

impl Lanes {
    /// Of a queue whose messages without priority have this one.
    pub(super) fn new(base: u8, keeping: Option<Keeping>, returns_first: bool) -> Self {
        let base = Lane { keeping, priority: base, ..Lane::default() };
        Self { base, returned: returns_first.then(Returned::default), ..Self::default() }
    }

    /// Begins with what the store has: `kept` tells of the queue's own number, and of lanes when it is asked.
    pub(super) fn recover(&mut self, kept: Kept, priority_max: Option<u8>) {
        self.base.store.recover(kept);
        let (Some(keeping), Some(most)) = (self.base.keeping.clone(), priority_max) else { return };
        let base = self.base.priority;
        for priority in (0..=most).filter(|priority| *priority != base) {
            let id = keeping.id.lane(Lane::number(priority, base));
            let kept = keeping.store.kept(id);
            if kept != Kept::default() {
                let at = self.add(priority, false);
                self.lane_mut(at).store.recover(kept);
            }
        }
    }

    /// Whether what comes next is simply the next of the only lane that is served.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.order.is_empty()
            && self.base.returned.is_empty()
            && self.returned.as_ref().is_none_or(Returned::is_empty)
    }

    pub(super) fn base_mut(&mut self) -> &mut Lane {
        &mut self.base
    }

    pub(super) fn lane(&self, at: u16) -> &Lane {
        match at.checked_sub(1) {
            None => &self.base,
            Some(_) if at == ASIDE => self.aside.as_deref().unwrap_or(&self.base),
            Some(other) => self.others.get(usize::from(other)).unwrap_or(&self.base),
        }
    }

    pub(super) fn lane_mut(&mut self, at: u16) -> &mut Lane {
        match at.checked_sub(1) {
            None => &mut self.base,
            Some(_) if at == ASIDE => self.aside.as_deref_mut().unwrap_or(&mut self.base),
            Some(other) => self.others.get_mut(usize::from(other)).unwrap_or(&mut self.base),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Lane> {
        core::iter::once(&self.base).chain(&self.others).chain(self.aside.as_deref())
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        core::iter::once(&mut self.base).chain(&mut self.others).chain(self.aside.as_deref_mut())
    }

    /// The place of the lane for a priority; it is made if it is not there.
    pub(super) fn place_for(&mut self, priority: u8) -> u16 {
        if priority == self.base.priority {
            return 0;
        }
        match self.others.iter().position(|lane| lane.priority == priority) {
            Some(at) => at as u16 + 1,
            None => self.add(priority, true),
        }
    }

    /// The place of the lane of messages that were not accepted.
    pub(super) fn place_aside(&mut self) -> u16 {
        self.aside.get_or_insert_with(|| {
            let store = Store::of_lane(ASIDE);
            alloc::boxed::Box::new(Lane { store, ..Lane::default() })
        });
        ASIDE
    }

    fn add(&mut self, priority: u8, is_new: bool) -> u16 {
        let at = (self.others.len() + 1) as u16;
        let number = Lane::number(priority, self.base.priority);
        let keeping =
            self.base.keeping.clone().map(|keeping| Keeping { id: keeping.id.lane(number), ..keeping });
        if let Some(keeping) = keeping.as_ref().filter(|_| is_new) {
            // Under the queue's lock: before any message of it is handed over by anybody.
            let mut group = keeping.store.group();
            group.topology(&Name::EMPTY, TopologyChange::Declared(Topology::Lane(keeping.id)));
            group.submit(keeping.durability, None);
        }
        self.others.push(Lane { store: Store::of_lane(at), keeping, priority, ..Lane::default() });
        if self.order.is_empty() {
            self.order.push(0);
        }
        let place = self.order.partition_point(|other| self.lane(*other).priority > priority);
        self.order.insert(place, at);
        at
    }

    /// The numbers of its lanes in the store, but for the queue's own.
    pub(super) fn kept_lanes(&self) -> impl Iterator<Item = KeptId> {
        self.others.iter().filter_map(|lane| lane.keeping.as_ref().map(|keeping| keeping.id))
    }

    /// How many messages are ready.
    pub(super) fn ready(&self) -> usize {
        let others: usize = self.others.iter().map(Lane::ready).sum();
        self.base.ready() + others + self.returned.as_ref().map_or(0, Returned::len)
    }

    /// How many messages are not settled, and how long the records of those in memory are.
    pub(super) fn live(&self) -> (usize, usize) {
        if self.others.is_empty() && self.aside.is_none() {
            return self.base.store.live();
        }
        self.all().map(|lane| lane.store.live()).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// How much of messages is in memory that are not settled, in bytes.
    pub(super) fn in_memory_bytes(&self) -> usize {
        self.all().map(|lane| lane.store.in_memory_bytes()).sum()
    }

    /// How long the bodies of ready messages are, as far as that is known of those in the store alone.
    pub(super) fn ready_bytes(&self) -> u64 {
        let body_bytes =
            |message: &MessageRef| self.stored(*message).map_or(0, |stored| stored.message.body_bytes());
        let lanes = core::iter::once(&self.base).chain(&self.others);
        let untaken: u64 = lanes.clone().map(|lane| lane.store.untaken_bytes()).sum();
        let returned = lanes.flat_map(|lane| lane.returned.values());
        let returned = returned.chain(self.returned.iter().flat_map(Returned::iter));
        untaken + returned.map(body_bytes).sum::<u64>()
    }

    /// A message that is handed out.
    pub(super) fn stored(&self, message: MessageRef) -> Option<Stored<'_>> {
        self.lane(message.lane).store.stored(message)
    }

    /// Keeps a message in a lane. Returns the length of its record.
    pub(super) fn append(
        &mut self,
        at: u16,
        message: &MessageView<'_>,
        apart: Option<Arc<LargeBody>>,
        marks: Marks,
    ) -> usize {
        self.lane_mut(at).store.append(message, apart, marks)
    }

    /// Takes what comes next of a lane.
    pub(super) fn take_from(&mut self, at: u16) -> Next {
        self.lane_mut(at).take_ready()
    }

    /// Takes what comes next, and says of which lane.
    #[inline]
    pub(super) fn take_ready(&mut self) -> (Next, u16) {
        if let Some(message) = self.returned.as_mut().and_then(Returned::pop_front) {
            return (Next::Message(message), message.lane);
        }
        if self.order.is_empty() {
            return (self.base.take_ready(), 0);
        }
        for index in 0..self.order.len() {
            let Some(at) = self.order.get(index).copied() else { break };
            match self.lane_mut(at).take_ready() {
                Next::Nothing => {}
                next => return (next, at),
            }
        }
        (Next::Nothing, 0)
    }

    /// Reads the front of a hole in a lane, the first of which is what comes next; nothing where it is in no store.
    pub(super) fn load(
        &mut self,
        (at, hole): (u16, usize),
        (account, pager): (&Arc<MemoryAccount>, Option<&Arc<dyn crate::store::Store>>),
        may_expire: bool,
    ) -> Option<Read> {
        let lane = self.lane_mut(at);
        let outside = Outside { keeping: lane.keeping.as_ref(), pager, pages: Paging::default() };
        lane.store.load(hole, &outside, account, may_expire)
    }

    /// The places of the lanes that are served.
    pub(super) fn places(&self) -> impl Iterator<Item = u16> + use<> {
        0..=self.others.len() as u16
    }

    /// Whether anything came back that can be taken.
    pub(super) fn has_returned(&self) -> bool {
        self.returned.as_ref().is_some_and(|returned| !returned.is_empty()) || self.all().any(Lane::has_first)
    }

    /// Somebody had it, and others are to know.
    pub(super) fn mark_redelivered(&mut self, message: MessageRef) {
        self.lane_mut(message.lane).store.mark_redelivered(message);
    }

    /// A message that was delivered comes back. Gives its key, where it is in [`Self::returned`].
    pub(super) fn give_back(&mut self, message: MessageRef) -> Option<i64> {
        self.lane_mut(message.lane).store.mark_redelivered(message);
        let Some(returned) = &mut self.returned else {
            self.lane_mut(message.lane).returned.insert(message.sequence, message);
            return None;
        };
        Some(returned.push_back(message))
    }

    /// A message is as if it had not been taken; `key` is that under which it was in [`Self::returned`], if it was.
    pub(super) fn untake(&mut self, message: MessageRef, key: Option<i64>) {
        match (&mut self.returned, key) {
            (Some(returned), Some(key)) => returned.put(key, message),
            _ => drop(self.lane_mut(message.lane).returned.insert(message.sequence, message)),
        }
    }

    /// The first of its lane was only looked at.
    pub(super) fn put_head(&mut self, message: MessageRef) {
        self.lane_mut(message.lane).returned.insert(message.sequence, message);
    }

    /// A message is done with.
    pub(super) fn settle(&mut self, message: MessageRef) -> Settled {
        let lane = self.lane_mut(message.lane);
        let settled = lane.store.settle(message);
        if settled.kept {
            Ranges::push(&mut lane.settled, message.sequence);
        }
        settled
    }

    /// A message that the store has was given to a consumer.
    pub(super) fn note_delivered(&mut self, message: MessageRef) {
        Ranges::push(&mut self.lane_mut(message.lane).delivered, message.sequence);
    }

    /// Passes on what was settled and what was given to consumers, for the store.
    pub(super) fn pass_on(&mut self, progress: &mut Progress) {
        for lane in self.all_mut() {
            if let Some(keeping) = &lane.keeping {
                progress.delivered(keeping, &mut lane.delivered);
                progress.settled(keeping, &mut lane.settled);
            }
        }
    }

    /// The same for what was settled, for whoever writes it with something else.
    pub(super) fn take_settled(&mut self, mut each: impl FnMut(&Keeping, &[Ranges])) {
        for lane in self.all_mut() {
            if let Some(keeping) = &lane.keeping
                && !lane.settled.is_empty()
            {
                each(keeping, &lane.settled);
                lane.settled.clear();
            }
        }
    }

    /// Lets go of messages that can be read again, until about so many bytes are left; others may become `pages`. Not where
    /// somebody walks, by lanes and numbers. Returns how many bytes were freed, and whether any became a page.
    pub(super) fn evict(
        &mut self,
        keep_bytes: usize,
        walks: &[(u16, u64)],
        pager: Option<&Arc<dyn crate::store::Store>>,
        pages: bool,
    ) -> (usize, bool) {
        let share = keep_bytes / (self.others.len() + 1);
        let (mut freed, mut pages) = (0, Paging::new(pages));
        for lane in self.all_mut() {
            let mut outside = Outside { keeping: lane.keeping.as_ref(), pager, pages };
            let here = walks.iter().filter(|(at, _)| *at == lane.store.lane).map(|(_, walk)| *walk);
            freed += lane.store.evict(share, &here.collect::<Vec<_>>(), &mut outside);
            pages = outside.pages;
        }
        (freed, pages.has_paged())
    }

    /// Whether memory for messages was added since this was asked.
    pub(super) fn take_grown(&mut self) -> bool {
        self.all_mut().any(|lane| lane.store.take_grown())
    }

    /// Forgets what is in the store alone, as settled. Returns how many messages that were.
    pub(super) fn drop_holes(&mut self) -> usize {
        let mut dropped = 0;
        for Lane { store, keeping, settled, .. } in self.all_mut() {
            dropped += store.drop_holes(|range| settled.extend(keeping.as_ref().map(|_| range)));
        }
        dropped
    }

    /// Forgets all messages. Returns the length of their records.
    pub(super) fn clear(&mut self) -> usize {
        if let Some(returned) = &mut self.returned {
            returned.clear();
        }
        self.all_mut()
            .map(|lane| {
                lane.returned.clear();
                lane.store.clear()
            })
            .sum()
    }
}
