//! A batch of publishes sorted by queue, before any queue takes anything.
//!
//! Scratch of one publisher: in the steady state nothing is allocated here.

use crate::{
    exchange::Targets,
    queue::{Queue, QueueId},
};
use alloc::{sync::Arc, vec::Vec};
use hashbrown::HashMap;
use leveret_model::MessageView;

/// For how many queues the scratch is kept from one batch to the next.
const GROUPS_KEPT_MAX: usize = 1024;

/// The messages of a batch for one queue, by their places in the batch, in order.
#[derive(Default)]
pub(crate) struct Group {
    queue: Option<Arc<Queue>>,
    members: Vec<u32>,
    /// The queue was there when it was given them.
    took: bool,
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
    /// How many messages were ever added, once for each queue.
    added: u64,
}

impl Stage {
    /// Adds a message for a queue.
    pub(crate) fn add(&mut self, queue: &Arc<Queue>, message: u32) {
        let index = self.group_of(queue);
        if let Some(group) = self.groups.get_mut(index) {
            group.members.push(message);
            self.added += 1;
        }
    }

    /// How many messages were ever added, once for each queue.
    pub(crate) fn added(&self) -> u64 {
        self.added
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
        self.added += self.last_set_groups.len() as u64;
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

    /// The messages that a durable queue is to keep, of those of which `message` gives what they are; one may come more
    /// than once.
    pub(crate) fn kept<'m, 'b: 'm>(
        &self,
        message: impl Fn(u32) -> Option<&'m MessageView<'b>> + Copy,
    ) -> impl Iterator<Item = u32> {
        let groups = self.groups.iter().take(self.used);
        let durable = groups.filter_map(|group| Some((group.queue.as_ref()?.keeping()?, &group.members)));
        durable.flat_map(move |(keeping, members)| {
            let kept = move |member: &u32| message(*member).is_some_and(|message| keeping.keeps(message));
            members.iter().copied().filter(kept)
        })
    }

    /// Takes messages out again.
    pub(crate) fn remove(&mut self, is_gone: impl Fn(&u32) -> bool) {
        for group in self.groups.iter_mut().take(self.used) {
            group.members.retain(|message| !is_gone(message));
        }
    }

    /// How many queues took a message when it was given to them, those that had no room included.
    pub(crate) fn taken_by(&self, message: u32) -> usize {
        let took = |group: &&Group| group.took && group.members.binary_search(&message).is_ok();
        self.groups.iter().filter(took).count()
    }

    /// Gives each queue its messages. False from `give` says that the queue took none; then `refused` is called with
    /// the messages of each, and whether it took them. To be followed by [`Self::clear`].
    pub(crate) fn give(
        &mut self,
        mut give: impl FnMut(&Arc<Queue>, &[u32]) -> bool,
        mut refused: impl FnMut(&[u32], bool),
    ) {
        let mut all = true;
        for group in self.groups.iter_mut().take(self.used) {
            group.took = group.queue.as_ref().is_some_and(|queue| give(queue, &group.members));
            all &= group.took;
        }
        if !all {
            for group in self.groups.iter().take(self.used) {
                refused(&group.members, group.took);
            }
        }
    }

    /// Empties the stage.
    pub(crate) fn clear(&mut self) {
        self.forget_set();
        self.last = 0;
        self.by_queue.clear();
        for group in self.groups.iter_mut().take(self.used) {
            group.queue = None;
            group.took = false;
            group.members.clear();
        }
        self.used = 0;
        self.groups.truncate(GROUPS_KEPT_MAX);
    }
}
