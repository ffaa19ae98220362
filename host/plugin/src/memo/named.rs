//! Which bindings are named by remembered answers: a set that may say too much and never too little.

use leveret_broker::exchange::BindingId;

/// How many slots of bindings are told apart at most, and at first.
const SLOTS_MAX: usize = 1 << 16;
const SLOTS_MIN: usize = 1 << 9;

/// Bindings by their ids' slots, and some others with them; one bit each. Empty while none is named.
#[derive(Default)]
pub(super) struct Named {
    bits: Vec<u64>,
    /// How often one was named since the set was made this large.
    count: usize,
}

impl Named {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bits.capacity() * 8
    }

    /// Whether it should grow: then all are to be named once more.
    pub(super) fn is_crowded(&self) -> bool {
        let slots = self.bits.len() * 64;
        self.count > slots / 4 && slots < SLOTS_MAX
    }

    /// Becomes larger, and empty.
    pub(super) fn grow(&mut self) {
        let slots = (self.bits.len() * 64 * 8).clamp(SLOTS_MIN, SLOTS_MAX);
        *self = Self { bits: vec![0; slots / 64], count: 0 };
    }

    pub(super) fn insert(&mut self, ids: &[BindingId]) {
        if self.bits.is_empty() && !ids.is_empty() {
            self.grow();
        }
        let slots = self.bits.len() * 64;
        self.count += ids.len();
        for id in ids {
            let slot = id.0 as usize % slots.max(1);
            if let Some(bits) = self.bits.get_mut(slot / 64) {
                *bits |= 1 << (slot % 64);
            }
        }
    }

    /// Whether an answer may name a binding.
    pub(super) fn contains(&self, id: BindingId) -> bool {
        let slot = id.0 as usize % (self.bits.len() * 64).max(1);
        self.bits.get(slot / 64).is_some_and(|bits| bits & 1 << (slot % 64) != 0)
    }
}
