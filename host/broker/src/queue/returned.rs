//! What came back to a queue where that comes before all others, in the order in which it came back.

use super::slab::MessageRef;
use alloc::collections::BTreeMap;

/// The messages that came back, by keys that tell their order and stay with them.
#[derive(Default)]
pub(super) struct Returned {
    messages: BTreeMap<i64, MessageRef>,
    /// Greater than all keys until now.
    next: i64,
}

impl Returned {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Greater than all keys until now.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// In their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &MessageRef> {
        self.messages.values()
    }

    /// The first one from a key on.
    pub(super) fn from(&self, key: i64) -> Option<(i64, MessageRef)> {
        self.messages.range(key..).next().map(|(key, message)| (*key, *message))
    }

    pub(super) fn pop_front(&mut self) -> Option<MessageRef> {
        self.messages.pop_first().map(|(_, message)| message)
    }

    pub(super) fn remove(&mut self, key: i64) -> Option<MessageRef> {
        self.messages.remove(&key)
    }

    /// Adds one behind all others; gives its key.
    pub(super) fn push_back(&mut self, message: MessageRef) -> i64 {
        let key = self.next;
        self.next += 1;
        self.messages.insert(key, message);
        key
    }

    /// One is under its key again.
    pub(super) fn put(&mut self, key: i64, message: MessageRef) {
        self.messages.insert(key, message);
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
    }
}
