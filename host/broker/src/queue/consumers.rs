//! The consumers of a queue and whose turn it is.
//!
//! With a single active consumer that is as if it were the only one, and the others stand by.
//!
//! With a single consumer nothing is assigned: it takes from the queue when its connection has
//! room. With several, messages are assigned one after the other to those that may take one, the
//! highest `x-priority` first, equal ones in turn; a connection then takes what was assigned. The same goes for a single
//! one that wants some messages and not others (`selective.rs`).

use super::{
    Queue,
    lanes::Lanes,
    selective::{Pause, Selective},
    slab::MessageRef,
};
use crate::{
    client::ready_list::Handle,
    credit::ChannelCredit,
    traffic::{ConsumerInfo, ConsumerList, QueueTraffic},
};
use alloc::{boxed::Box, collections::VecDeque, sync::Arc, vec::Vec};

/// How many messages a consumer among several may have assigned that its connection has not taken
/// yet: what one slow connection keeps from the others.
pub const ASSIGNED_MESSAGES_MAX: usize = 512;

/// Numbers a consumer within its queue; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerKey {
    slot: u32,
    uses: u32,
}

pub(crate) struct Consumer {
    pub(crate) handle: Arc<Handle>,
    pub(crate) no_ack: bool,
    /// Higher ones are served first.
    pub(crate) priority: i64,
    /// How many messages it may hold unacknowledged; 0 is no limit.
    pub(crate) prefetch: u32,
    /// The limit of its channel.
    pub(crate) credit: Arc<ChannelCredit>,
    /// How many more messages it may be given, settled or not; `None` is as many as it likes.
    link_credit: Option<u32>,
    /// What it wants, if not everything.
    pub(super) selective: Option<Box<Selective>>,
    /// What is told of it.
    info: Arc<ConsumerInfo>,
    /// How many messages are assigned to it or delivered and not settled.
    pub(super) unsettled: u32,
    pub(super) assigned: VecDeque<MessageRef>,
    /// How many of the unsettled were not settled in time. While there is any it is given nothing.
    pub(super) late: u32,
    /// It is in the rotation: it had credit when it was last looked at.
    in_rotation: bool,
    /// Counts up with each consumer of the queue.
    number: u64,
}

impl Consumer {
    pub(crate) fn new(
        handle: Arc<Handle>,
        credit: Arc<ChannelCredit>,
        priority: i64,
        info: Arc<ConsumerInfo>,
    ) -> Self {
        let (no_ack, prefetch) = (info.no_ack, u32::from(info.prefetch));
        let (unsettled, assigned, in_rotation) = (0, VecDeque::new(), false);
        let (late, number) = (0, 0);
        Self {
            handle,
            no_ack,
            priority,
            prefetch,
            credit,
            link_credit: None,
            selective: None,
            info,
            unsettled,
            assigned,
            late,
            in_rotation,
            number,
        }
    }

    /// With a credit of its own, which each message uses up: see [`Self::set_link_credit`].
    pub(crate) fn with_link_credit(self, messages: Option<u32>) -> Self {
        Self { link_credit: messages, ..self }
    }

    /// It may hold so many messages unacknowledged from now on; 0 is no limit.
    pub(super) fn set_prefetch(&mut self, messages: u16) {
        self.prefetch = u32::from(messages);
        self.info = Arc::new(ConsumerInfo { prefetch: messages, ..(*self.info).clone() });
    }

    /// It may be given so many messages from now on, those that are assigned to it included. False if more are
    /// assigned than that.
    pub(super) fn set_link_credit(&mut self, messages: u32) -> bool {
        let assigned = self.assigned.len() as u32;
        self.link_credit = Some(messages.saturating_sub(assigned));
        assigned <= messages
    }

    /// So many messages were given or assigned to it.
    pub(super) fn spend(&mut self, messages: u32) {
        if let Some(left) = &mut self.link_credit {
            *left = left.saturating_sub(messages);
        }
    }

    /// So many messages were not given to it after all. Whether it has a credit of its own.
    pub(super) fn refund(&mut self, messages: u32) -> bool {
        if let Some(left) = &mut self.link_credit {
            *left = left.saturating_add(messages);
        }
        self.link_credit.is_some()
    }

    /// For how many messages its own limit leaves credit, at most `wanted`.
    pub(super) fn own_credit(&self, wanted: u32) -> u32 {
        if self.late > 0 {
            return 0;
        }
        let wanted = self.link_credit.map_or(wanted, |left| wanted.min(left));
        if self.no_ack || self.prefetch == 0 {
            return wanted;
        }
        wanted.min(self.prefetch.saturating_sub(self.unsettled))
    }

    /// Gives back the credit for a message that is not assigned after all.
    pub(super) fn release_one(&mut self) {
        self.refund(1);
        if !self.no_ack {
            self.unsettled = self.unsettled.saturating_sub(1);
            self.credit.release(1);
        }
    }

    /// Takes credit for a message about to be assigned.
    fn acquire_one(&mut self) -> bool {
        if self.assigned.len() >= ASSIGNED_MESSAGES_MAX || self.own_credit(1) == 0 {
            return false;
        }
        if !self.no_ack {
            if self.credit.acquire(1) == 0 {
                return false;
            }
            self.unsettled += 1;
        }
        self.spend(1);
        true
    }
}

#[derive(Default)]
pub(super) struct Consumers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
    /// The only consumer, if there is just one; with a single active one, that.
    only: Option<ConsumerKey>,
    /// The same, if it wants everything: it takes from the queue itself.
    sole: Option<ConsumerKey>,
    /// Those that do not want everything.
    selective: Vec<ConsumerKey>,
    /// Those that are given copies: in no other list, and not counted.
    pub(super) browsers: Vec<ConsumerKey>,
    /// One is active, the others stand by.
    single_active: bool,
    /// A higher one takes over as soon as the active one has settled what it has.
    by_priority: bool,
    rotation: VecDeque<ConsumerKey>,
    /// The consumer that admits no other.
    pub(super) exclusive: Option<ConsumerKey>,
    last_number: u64,
}

#[derive(Default)]
struct Slot {
    uses: u32,
    consumer: Option<Consumer>,
}

impl Consumers {
    /// Of a queue with a single active consumer, or of one that serves all; `by_priority` says that a consumer of a
    /// higher priority takes over from the active one.
    pub(super) fn of(single_active: bool, by_priority: bool) -> Self {
        Self { single_active, by_priority, ..Self::default() }
    }

    /// All of them, and who is served.
    pub(super) fn list(&self) -> ConsumerList {
        let there = self.slots.iter().enumerate().filter_map(|(slot, place)| {
            let consumer = place.consumer.as_ref()?;
            let key = ConsumerKey { slot: slot as u32, uses: place.uses };
            Some((consumer.info.clone(), !self.single_active || self.only == Some(key)))
        });
        there.collect()
    }

    /// Whether one consumer is active and the others stand by.
    pub(super) fn is_single_active(&self) -> bool {
        self.single_active
    }

    /// How many messages the only consumer can take, at most `most`.
    pub(super) fn sole_credit(&mut self, most: u32) -> u32 {
        let Some(consumer) = self.sole.and_then(|key| self.get_mut(key)) else { return 0 };
        let wanted = consumer.own_credit(most);
        if consumer.no_ack || wanted == 0 { wanted } else { consumer.credit.available(wanted) }
    }

    /// Whether any consumer can take a message.
    pub(super) fn any_has_credit(&mut self) -> bool {
        match self.sole {
            Some(_) => self.sole_credit(1) > 0,
            None => !self.rotation.is_empty() || self.any_selective_has_credit(),
        }
    }

    /// Of those that stand by, the one whose turn it is to be active: of the highest priority the one that came first.
    fn next_active(&self) -> Option<ConsumerKey> {
        let there = self.slots.iter().enumerate().filter_map(|(slot, place)| {
            let consumer = place.consumer.as_ref().filter(|consumer| !consumer.copies())?;
            Some((
                (consumer.late == 0, consumer.priority),
                core::cmp::Reverse(consumer.number),
                ConsumerKey { slot: slot as u32, uses: place.uses },
            ))
        });
        there.max_by_key(|(priority, number, _)| (*priority, *number)).map(|(.., key)| key)
    }

    /// Whether a consumer of a higher priority than the active one waits for that to settle what it has.
    pub(super) fn is_to_hand_over(&self) -> bool {
        self.single_active
            && self.by_priority
            && self
                .next_active()
                .is_some_and(|next| self.only.is_none_or(|only| self.rank(next) > self.rank(only)))
    }

    /// What decides who is active: not to be late, then priority. Among equals the active one stays.
    fn rank(&self, key: ConsumerKey) -> Option<(bool, i64)> {
        let place = self.slots.get(key.slot as usize).filter(|place| place.uses == key.uses)?;
        place.consumer.as_ref().map(|consumer| (consumer.late == 0, consumer.priority))
    }

    /// Has a higher one take over, if there is one and nothing is unsettled. Whether it did.
    pub(super) fn take_over(&mut self) -> bool {
        if !self.is_to_hand_over() {
            return false;
        }
        let busy = self.only.and_then(|key| self.get_mut(key)).is_some_and(|active| active.unsettled > 0);
        if !busy {
            self.elect(self.next_active());
        }
        !busy
    }

    /// From now on that one is active. Both are told.
    fn elect(&mut self, next: Option<ConsumerKey>) {
        let before = self.only;
        self.set_only(next);
        if before == next {
            return;
        }
        for (key, is_active) in [(before, false), (next, true)] {
            if let Some(consumer) = key.and_then(|key| self.get_mut(key)) {
                consumer.handle.tell_active(is_active);
            }
        }
    }

    /// Of a single active consumer: one that has something that timed out is not it, if there is another.
    pub(super) fn skip_late(&mut self) {
        if self.single_active
            && self.only.and_then(|key| self.get_mut(key)).is_some_and(|active| active.late > 0)
        {
            self.elect(self.next_active());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn get_mut(&mut self, key: ConsumerKey) -> Option<&mut Consumer> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.uses == key.uses { slot.consumer.as_mut() } else { None }
    }

    fn first(&self) -> Option<ConsumerKey> {
        let takes = |slot: &Slot| slot.consumer.as_ref().is_some_and(|consumer| !consumer.copies());
        let slot = self.slots.iter().position(takes)?;
        let uses = self.slots.get(slot)?.uses;
        Some(ConsumerKey { slot: slot as u32, uses })
    }

    /// The only consumer, if there is just one and it wants everything.
    pub(super) fn sole(&self) -> Option<ConsumerKey> {
        self.sole
    }

    pub(super) fn add(&mut self, consumer: Consumer) -> ConsumerKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let (mut uses, copies) = (0, consumer.copies());
        if let Some(place) = self.slots.get_mut(slot as usize) {
            uses = place.uses;
            place.consumer = Some(consumer);
        }
        if copies {
            self.browsers.push(ConsumerKey { slot, uses });
            return ConsumerKey { slot, uses };
        }
        self.count += 1;
        self.last_number += 1;
        let (key, number) = (ConsumerKey { slot, uses }, self.last_number);
        if let Some(consumer) = self.get_mut(key) {
            consumer.number = number;
            if consumer.selective.is_some() {
                self.selective.push(key);
            }
        }
        if self.single_active {
            if let Some(consumer) = self.get_mut(key) {
                consumer.handle.stand_by();
            }
            self.elect(self.only.or(Some(key)));
            self.take_over();
            self.skip_late();
            return key;
        }
        if let Some(alone) = self.only {
            // It was not looked at in turn.
            self.set_only(None);
            self.rejoin(alone);
        }
        self.rejoin(key);
        if self.count == 1 {
            self.set_only(Some(key));
        }
        key
    }

    pub(super) fn remove(&mut self, key: ConsumerKey) -> Option<Consumer> {
        let slot = self.slots.get_mut(key.slot as usize).filter(|slot| slot.uses == key.uses)?;
        let consumer = slot.consumer.take()?;
        slot.uses = slot.uses.wrapping_add(1);
        self.free.push(key.slot);
        if consumer.copies() {
            self.browsers.retain(|other| *other != key);
            return Some(consumer);
        }
        self.count -= 1;
        if self.exclusive == Some(key) {
            self.exclusive = None;
        }
        if consumer.in_rotation {
            self.rotation.retain(|other| *other != key);
        }
        if consumer.selective.is_some() {
            self.selective.retain(|other| *other != key);
        }
        if self.single_active {
            if self.only == Some(key) {
                self.elect(self.next_active());
            }
        } else {
            self.set_only(if self.count == 1 { self.first() } else { None });
        }
        Some(consumer)
    }

    pub(super) fn drain(&mut self) -> Vec<Consumer> {
        self.rotation.clear();
        self.exclusive = None;
        (self.only, self.sole) = (None, None);
        self.selective.clear();
        self.browsers.clear();
        self.count = 0;
        self.free.clear();
        core::mem::take(&mut self.slots).into_iter().filter_map(|slot| slot.consumer).collect()
    }

    /// The consumer may have credit again: it takes its place behind those of its priority.
    pub(super) fn rejoin(&mut self, key: ConsumerKey) {
        if self.single_active && (self.sole.is_some() || self.only != Some(key)) {
            return;
        }
        let Some(consumer) = self.get_mut(key).filter(|consumer| !consumer.copies()) else { return };
        if !consumer.in_rotation {
            consumer.in_rotation = true;
            let priority = consumer.priority;
            self.queue_up(key, priority);
        }
    }

    fn queue_up(&mut self, key: ConsumerKey, priority: i64) {
        let mut place = self.rotation.len();
        while let Some(before) = place.checked_sub(1) {
            let other = self.rotation.get(before).copied();
            if other.and_then(|other| self.get_mut(other)).is_some_and(|other| other.priority < priority) {
                place = before;
            } else {
                break;
            }
        }
        self.rotation.insert(place, key);
    }

    /// The next consumer that may take a message, with credit for it taken; it has had its turn then, and comes again
    /// with [`Self::come_again`] or [`Self::rejoin`].
    pub(super) fn next(&mut self) -> Option<ConsumerKey> {
        loop {
            let key = self.rotation.pop_front()?;
            let Some(consumer) = self.get_mut(key) else {
                continue;
            };
            if consumer.acquire_one() {
                return Some(key);
            }
            consumer.in_rotation = false;
        }
    }

    /// One that had its turn takes its place behind those of its priority.
    pub(super) fn come_again(&mut self, key: ConsumerKey) {
        if let Some(consumer) = self.get_mut(key) {
            let priority = consumer.priority;
            self.queue_up(key, priority);
        }
    }
}

/// Of consumers that do not want everything.
impl Consumers {
    pub(super) fn has_selective(&self) -> bool {
        !self.selective.is_empty() || !self.browsers.is_empty()
    }

    /// Whether any wants everything.
    pub(super) fn any_wants_all(&self) -> bool {
        self.count > self.selective.len()
    }

    /// One of them.
    pub(super) fn selective_mut(&mut self, key: ConsumerKey) -> Option<&mut Selective> {
        self.get_mut(key)?.selective.as_deref_mut()
    }

    pub(super) fn each_selective(&mut self, mut each: impl FnMut(&mut Selective)) {
        for slot in &mut self.slots {
            if let Some(selective) = slot.consumer.as_mut().and_then(|consumer| consumer.selective.as_mut()) {
                each(selective);
            }
        }
    }

    fn any_selective_has_credit(&mut self) -> bool {
        let keys = core::mem::take(&mut self.selective);
        let any =
            keys.iter().any(|key| self.get_mut(*key).is_some_and(|consumer| consumer.own_credit(1) > 0));
        self.selective = keys;
        any
    }

    /// Those for which there may be something have their turn again, but who is to pull again anyway.
    pub(super) fn rejoin_selective(&mut self, lanes: &Lanes) {
        for index in 0..self.selective.len() {
            let Some(key) = self.selective.get(index).copied() else { break };
            let Some(consumer) = self.get_mut(key) else { continue };
            if !consumer.in_rotation
                && consumer.own_credit(1) > 0
                && let Some(selective) = &consumer.selective
                && selective.pause.is_none()
                && selective.has_news(lanes)
            {
                self.rejoin(key);
            }
        }
    }

    /// One that had its turn and found nothing has it no more; who pulls already need not be told that there may be
    /// more.
    pub(super) fn give_up(&mut self, key: ConsumerKey, pulling: Option<ConsumerKey>) {
        let Some(consumer) = self.get_mut(key) else { return };
        consumer.in_rotation = false;
        consumer.release_one();
        if consumer.selective.as_ref().is_some_and(|selective| selective.pause.is_some())
            && pulling != Some(key)
        {
            consumer.handle.notify();
        }
    }

    /// Whether a consumer stands by while another is served.
    pub(super) fn stands_by(&self, key: ConsumerKey) -> bool {
        self.single_active && self.only != Some(key)
    }

    /// Why one that pulls was given nothing.
    pub(super) fn pause(&mut self, key: ConsumerKey) -> Option<Pause> {
        self.selective_mut(key)?.pause
    }

    /// This one alone is served.
    fn set_only(&mut self, key: Option<ConsumerKey>) {
        let before = core::mem::replace(&mut self.only, key);
        self.sole = key.filter(|key| self.selective_mut(*key).is_none());
        if self.single_active && before != key {
            for other in core::mem::take(&mut self.rotation) {
                if let Some(consumer) = self.get_mut(other) {
                    consumer.in_rotation = false;
                }
            }
            if let Some(key) = key {
                self.rejoin(key);
            }
        }
    }
}

impl Queue {
    /// Its consumers, in no order.
    #[must_use]
    pub fn consumers(&self) -> ConsumerList {
        self.state.lock().consumers.list()
    }

    /// What came and went, since it was declared or the process began.
    #[must_use]
    pub fn traffic(&self) -> &QueueTraffic {
        &self.traffic
    }
}
