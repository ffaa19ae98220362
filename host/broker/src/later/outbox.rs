//! The room for messages that wait to be published because they were emitted: one in a virtual host, of which each
//! plugin has a part.
//!
//! *Invariant:* no plugin takes more than is left to all others. So whoever is alone has half of the room at most, and
//! however much one emits, there is room for the next.

use super::{HoldLimits, KEPT_OVERHEAD_BYTES};
use crate::memory::MemoryAccount;
use alloc::sync::Arc;
use core::{fmt, mem};
use hashbrown::HashMap;
use parking_lot::Mutex;

/// How much of the room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) messages: u64,
    /// [`KEPT_OVERHEAD_BYTES`] a message included.
    pub(crate) bytes: u64,
}

impl Part {
    /// What a message of so many bytes takes.
    pub(crate) fn of(message_bytes: usize) -> Self {
        Self { messages: 1, bytes: message_bytes as u64 + KEPT_OVERHEAD_BYTES }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }

    /// Takes something out, if so much is there.
    pub(crate) fn take(&mut self, less: Self) -> bool {
        let left = (self.messages.checked_sub(less.messages), self.bytes.checked_sub(less.bytes));
        let (Some(messages), Some(bytes)) = left else { return false };
        *self = Self { messages, bytes };
        true
    }
}

/// A message is not accepted because what a plugin emits for it finds no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoOutboxRoom {
    plugin: Arc<str>,
    /// What waits of it.
    own: Part,
    /// What waits of all.
    all: Part,
}

impl fmt::Display for NoOutboxRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, own, all } = self;
        write!(
            f,
            "no room for what plugin '{plugin}' emits: {} messages ({} bytes) of it wait, {} ({} bytes) of all",
            own.messages, own.bytes, all.messages, all.bytes
        )
    }
}

/// Counts what waits, by plugin, and charges it to the account of memory.
pub(super) struct Outbox {
    account: Arc<MemoryAccount>,
    limits: HoldLimits,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: Part,
    of: HashMap<Arc<str>, Part, foldhash::fast::RandomState>,
}

impl Outbox {
    pub(super) fn new(account: Arc<MemoryAccount>, limits: HoldLimits) -> Self {
        Self { account, limits, taken: Mutex::default() }
    }

    /// Takes room for what a plugin emits.
    ///
    /// # Errors
    /// It has its part already, or nothing is left.
    pub(super) fn take(&self, plugin: &Arc<str>, more: Part) -> Result<(), NoOutboxRoom> {
        let HoldLimits { messages_max, bytes_max } = self.limits;
        let mut taken = self.taken.lock();
        let own = taken.of.get(plugin).copied().unwrap_or_default();
        let all = taken.all;
        let fits = |own: u64, all: u64, more: u64, max: u64| own + more <= max.saturating_sub(all + more);
        if !fits(own.messages, all.messages, more.messages, messages_max)
            || !fits(own.bytes, all.bytes, more.bytes, bytes_max)
        {
            return Err(NoOutboxRoom { plugin: plugin.clone(), own, all });
        }
        taken.add(plugin, more);
        drop(taken);
        self.account.charge(more.bytes as usize);
        Ok(())
    }

    /// Takes room for what had it before, even if there is none.
    pub(super) fn take_anyway(&self, plugin: &Arc<str>, more: Part) {
        self.taken.lock().add(plugin, more);
        self.account.charge(more.bytes as usize);
    }

    /// Gives room back.
    pub(super) fn give_back(&self, plugin: &Arc<str>, less: Part) {
        let mut taken = self.taken.lock();
        taken.all.take(less);
        if let Some(own) = taken.of.get_mut(plugin) {
            own.take(less);
            if *own == Part::default() {
                taken.of.remove(plugin);
            }
        }
        drop(taken);
        self.account.release(less.bytes as usize);
    }
}

impl Taken {
    fn add(&mut self, plugin: &Arc<str>, more: Part) {
        self.all.add(more);
        self.of.entry(plugin.clone()).or_default().add(more);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.account.release(mem::take(&mut self.taken.get_mut().all).bytes as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_at_most_what_is_left_to_the_others() {
        let account = Arc::new(MemoryAccount::new(1 << 20));
        let outbox = Outbox::new(account.clone(), HoldLimits { messages_max: 100, bytes_max: 1 << 20 });
        let plugins: [Arc<str>; 3] = ["a", "b", "c"].map(Arc::from);
        let one = Part::of(0);
        let had = plugins.each_ref().map(|plugin| {
            let mut had = 0;
            while outbox.take(plugin, one).is_ok() {
                had += 1;
            }
            had
        });
        assert_eq!(had, [50, 25, 12]);
        let refused = outbox.take(&plugins[1], one).unwrap_err();
        assert_eq!((refused.own.messages, refused.all.messages), (25, 87));
        outbox.give_back(&plugins[0], Part { messages: 30, bytes: 30 * one.bytes });
        assert!(outbox.take(&plugins[1], one).is_ok(), "what one gives back is everybody's");
        outbox.take_anyway(&plugins[0], Part { messages: 100, bytes: 100 });
        assert!(outbox.take(&plugins[2], one).is_err(), "more than all, and nothing breaks");
        assert!(account.bytes() > 0);
        drop(outbox);
        assert_eq!(account.bytes(), 0);
    }
}
