//! A batch of publishes sorted by queue, before any queue takes anything.
//!
//! Scratch of one publisher: in the steady state nothing is allocated here.

use crate::{
    exchange::Targets,
    queue::{Queue, QueueId},
};
use alloc::{sync::Arc, vec::Vec};
use hashbrown::HashMap;

/// For how many queues the scratch is kept from one batch to the next.
const GROUPS_KEPT_MAX: usize = 1024;

/// The messages of a batch for one queue, by their places in the batch, in order.
#[derive(Default)]
pub(crate) struct Group {
    queue: Option<Arc<Queue>>,
    members: Vec<u32>,
}

#[derive(Default)]
pub(crate) struct Stage {
    groups: Vec<Group>,
    used: usize,
    last: usize,
    by_queue: HashMap<QueueId, usize, foldhash::fast::RandomState>,
    /// The set that was added last, and its groups. A set stays where it is from one
    /// [`Self::forget_set`] to the next.
    last_set: *const Targets,
    last_set_groups: Vec<usize>,
}

impl Stage {
    /// Adds a message for a queue.
    pub(crate) fn add(&mut self, queue: &Arc<Queue>, message: u32) {
        let index = self.group_of(queue);
        if let Some(group) = self.groups.get_mut(index) {
            group.members.push(message);
        }
    }

    /// Adds a message for all queues of a set.
    pub(crate) fn add_set(&mut self, set: &Targets, message: u32) {
        if !core::ptr::eq(self.last_set, set) {
            self.last_set = set;
            let mut groups = core::mem::take(&mut self.last_set_groups);
            groups.clear();
            groups.extend(set.queues.iter().map(|queue| self.group_of(queue)));
            self.last_set_groups = groups;
        }
        for index in &self.last_set_groups {
            if let Some(group) = self.groups.get_mut(*index) {
                group.members.push(message);
            }
        }
    }

    /// Sets may move from now on.
    pub(crate) fn forget_set(&mut self) {
        self.last_set = core::ptr::null();
    }

    fn group_of(&mut self, queue: &Arc<Queue>) -> usize {
        let is_last = |group: &Group| group.queue.as_ref().is_some_and(|other| Arc::ptr_eq(other, queue));
        if self.groups.get(self.last).is_some_and(is_last) {
            return self.last;
        }
        let used = self.used;
        let index = *self.by_queue.entry(queue.id()).or_insert(used);
        if index == used {
            if used == self.groups.len() {
                self.groups.push(Group::default());
            }
            if let Some(group) = self.groups.get_mut(used) {
                group.queue = Some(queue.clone());
            }
            self.used += 1;
        }
        self.last = index;
        index
    }

    /// The messages that a durable queue is to keep, of those that `is_persistent` says are to outlive the process;
    /// one may come more than once.
    pub(crate) fn kept(&self, is_persistent: impl Fn(u32) -> bool) -> impl Iterator<Item = u32> {
        let durable = |group: &&Group| group.queue.as_ref().is_some_and(|queue| queue.keeping().is_some());
        let groups = self.groups.iter().take(self.used).filter(durable);
        groups.flat_map(|group| group.members.iter().copied()).filter(move |message| is_persistent(*message))
    }

    /// Takes messages out again.
    pub(crate) fn remove(&mut self, is_gone: impl Fn(&u32) -> bool) {
        for group in self.groups.iter_mut().take(self.used) {
            group.members.retain(|message| !is_gone(message));
        }
    }

    /// Gives each queue its messages, and the stage is empty. True if `give` said of one that it
    /// took none.
    pub(crate) fn give(
        &mut self,
        mut give: impl FnMut(&Arc<Queue>, &[u32]) -> bool,
        mut refused: impl FnMut(&[u32], bool),
    ) {
        self.forget_set();
        self.last = 0;
        self.by_queue.clear();
        let used = core::mem::take(&mut self.used);
        let mut took = Vec::new();
        for (index, group) in self.groups.iter().take(used).enumerate() {
            if group.queue.as_ref().is_some_and(|queue| !give(queue, &group.members)) {
                // Rare: only then is anything noted.
                took.push(index);
            }
        }
        if !took.is_empty() {
            for (index, group) in self.groups.iter().take(used).enumerate() {
                refused(&group.members, took.binary_search(&index).is_err());
            }
        }
        for group in self.groups.iter_mut().take(used) {
            group.queue = None;
            group.members.clear();
        }
        self.groups.truncate(GROUPS_KEPT_MAX);
    }
}
