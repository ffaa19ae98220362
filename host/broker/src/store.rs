//! The store's port: where what is to outlive the process is written.
//!
//! *A batch is one group.* Its messages for durable queues, what of these they replace elsewhere (a dead letter in
//! the queue where it died, a held message), what exchange types keep because of them: all of it is there after a
//! restart or nothing ([`Group`]). It is handed over once queues have numbered the messages, so a message may be
//! delivered, and even settled, before it is written; order between groups does not matter for messages.
//!
//! *Asked first.* Whether a group will be taken is asked before any of it happens ([`Store::admit`]): what the store
//! does not admit did not happen, its message is not accepted, and the state is as it was before. What was admitted is
//! taken. Whoever wants to know when it is safe gives somebody to tell ([`Written`]).
//!
//! *Not here:* how it is written.

mod group;

pub use crate::memory::{FarBody, LargeBody};
pub use group::{
    BindingSpec, Durability, Group, HeldAs, Kept, KeptExchange, KeptId, Noted, Paged, Ranges, Stored,
    Suspicion, Target, Topology, TopologyChange, Written,
};

use crate::{
    port::{Deed, Effects, Fate, Layer},
    queue::AddedHeader,
};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::fmt;
use leveret_model::{MessageView, Name, OwnedMessage, Stub};

/// Whose state it is: what is known of it after a restart too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateHolder {
    /// The virtual host.
    pub vhost: Name,
    /// The exchange.
    pub exchange: Name,
    /// The exchange's number: another one of that name has another.
    pub number: KeptId,
    /// Which of its types.
    pub layer: Layer,
}

/// How the state of a holder changes. Changes of one holder count in the order in which they are handed over.
#[derive(Clone, Debug)]
pub enum StateChange {
    /// A key has a value.
    Set {
        /// The key.
        key: Arc<[u8]>,
        /// The value.
        value: Arc<[u8]>,
        /// When it ends, in milliseconds since 1970; `None` for never.
        end_ms: Option<u64>,
    },
    /// A key has no value.
    Delete {
        /// The key.
        key: Arc<[u8]>,
    },
    /// A counter, apart from the values, grows. One that is not there begins at 0.
    Add {
        /// The counter's key.
        key: Arc<[u8]>,
        /// By how much; may be negative.
        more: i64,
        /// When one that begins now ends, in milliseconds since 1970.
        end_ms: Option<u64>,
    },
    /// A message is kept.
    Keep {
        /// Its number among the holder's.
        id: u64,
        /// Under this key.
        key: Arc<[u8]>,
        /// Of the key's messages only so many stay, the latest.
        newest: usize,
        /// The message.
        message: Arc<OwnedMessage>,
        /// When it expires, in milliseconds since 1970; `None` for never.
        end_ms: Option<u64>,
    },
    /// A message that was kept is gone.
    Forget {
        /// Its number.
        id: u64,
    },
    /// Which version of a plugin writes what follows.
    By {
        /// The plugin's name.
        plugin: Arc<str>,
        /// SHA-256 of the version's bytes.
        digest: [u8; 32],
        /// As it describes itself.
        version: Arc<str>,
    },
    /// A timer is due then, whatever was set under its name before.
    SetTimer {
        /// Its name.
        name: Name,
        /// In milliseconds since 1970.
        due_ms: u64,
    },
    /// There is no timer of that name any more.
    EndTimer {
        /// Its name.
        name: Name,
        /// Only one that is due then, in milliseconds since 1970.
        due_ms: Option<u64>,
    },
    /// Nothing that was written before counts, nor what was put aside.
    Clear,
    /// What was written before, but for timers, stays beside what follows, as what that version left. What it left
    /// before is gone.
    PutAside {
        /// SHA-256 of the version's bytes; a [`Self::By`] with it was written.
        digest: [u8; 32],
        /// Of what versions left only so much stays, the latest.
        newest: usize,
    },
    /// What that version left takes the place of what was written since, but for timers; what later ones left is gone,
    /// and if it left nothing all is. Comes before other changes of its holder in a group.
    TakeBack {
        /// SHA-256 of the version's bytes.
        digest: [u8; 32],
    },
    /// What that version left is gone.
    DropAside {
        /// SHA-256 of the version's bytes.
        digest: [u8; 32],
    },
}

/// What a version left when another one migrated it.
#[derive(Clone, Debug)]
pub struct Aside {
    /// SHA-256 of the version's bytes.
    pub digest: [u8; 32],
    /// The changes that lead to it, as [`Store::load`] gives them.
    pub changes: Vec<StateChange>,
}

/// A change of somebody's state.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose.
    pub holder: Arc<StateHolder>,
    /// Which.
    pub change: StateChange,
}

/// Why the store took nothing, for people to read: what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFailure(pub Arc<str>);

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store: {}", self.0)
    }
}

impl core::error::Error for StoreFailure {}

/// What is written to. Called by many threads, under no lock of a queue but where that is said.
pub trait Store: Send + Sync {
    /// Whether it keeps anything at all. Where it does not, nothing is handed over.
    fn keeps(&self) -> bool;

    /// Whether a group that begins now will be taken. What only takes away always is.
    ///
    /// # Errors
    /// It will not: the disk is full, or fails.
    fn admit(&self) -> Result<(), StoreFailure>;

    /// Takes a group of changes: all of them or none.
    ///
    /// # Errors
    /// None was taken.
    fn append(&self, group: &[Change]) -> Result<(), StoreFailure>;

    /// What was handed over for a holder and still counts, in order, but for its timers.
    ///
    /// # Errors
    /// It cannot be read now.
    fn load(&self, holder: &StateHolder) -> Result<Vec<StateChange>, StoreFailure>;

    /// What versions left for a holder, the latest last.
    ///
    /// # Errors
    /// It cannot be read now.
    fn load_aside(&self, holder: &StateHolder) -> Result<Vec<Aside>, StoreFailure>;

    /// Hands over the timers of a virtual host: whose, the name, and when it is due, in milliseconds since 1970.
    fn timers(&self, vhost: &Name, each: &mut dyn FnMut(StateHolder, Name, u64));

    /// An empty group, for whoever writes often.
    fn group(&self) -> Box<dyn Group>;

    /// A queue no longer has messages. Rides on what is written next, and is never refused.
    fn settled(&self, queue: KeptId, ranges: &[Ranges]);

    /// Messages were settled, and others given to consumers once more: all of it together, the numbers of a queue one
    /// after another. The same; but where `counts` says so it is written at once, since a message that ends the process
    /// is to be counted.
    fn progressed(&self, settled: &[(KeptId, Ranges)], delivered: &[(KeptId, Ranges)], counts: bool);

    /// Has `waiter` told once everything is safe that was handed over before by this thread.
    fn when_safe(&self, waiter: &Arc<dyn Written>, token: u64);

    /// When what a virtual host consists of counts as safe, and what its queues have unless [`Self::durability_of`]
    /// says otherwise.
    fn durability(&self) -> Durability {
        Durability::Always
    }

    /// When messages of a durable queue of that name count as safe.
    fn durability_of(&self, queue: &Name) -> Durability {
        let _ = queue;
        self.durability()
    }

    /// A number for a queue, or for what is like one; no other has it, ever.
    fn next_id(&self) -> KeptId;

    /// What there is of a queue: how many messages, and the number that follows the last one ever used.
    fn kept(&self, queue: KeptId) -> Kept;

    /// How many of the messages with these numbers can be read.
    fn count(&self, queue: KeptId, numbers: core::ops::Range<u64>) -> u64;

    /// Hands messages of a queue to `each` in order, from a number on, until they have about so many bytes; at least
    /// one, if there is one. Gives the number from which to go on; `None` if there are no more. May be called under a
    /// queue's lock.
    fn read(
        &self,
        queue: KeptId,
        from: u64,
        bytes_max: usize,
        each: &mut dyn FnMut(Stored<'_>),
    ) -> Option<u64>;

    /// Hands over what consumers added to messages of a queue before it was opened: their numbers, all headers of each, and
    /// how often it failed ([`Group::added`]).
    fn each_added(&self, queue: KeptId, each: &mut dyn FnMut(u64, Vec<AddedHeader>, u32)) {
        let _ = (queue, each);
    }

    /// Holds on to the file that a far body is in ([`leveret_model::far`]). It is there as long as somebody does, or a
    /// message refers to it that was handed over and not settled. `None` where there are no such bodies.
    fn far(&self, stub: &Stub) -> Option<FarBody> {
        let _ = stub;
        None
    }

    /// Whether it takes pages now: where it has enough to write without them a page is one more that others wait for. May be
    /// called under a queue's lock.
    fn takes_pages(&self) -> bool {
        false
    }

    /// Takes messages for which memory has no room, as a page: they can be read by its number once they are counted there,
    /// under their own numbers and in their order, until the page is dropped. No page outlives the process. `None` where
    /// the store takes nothing now, or keeps nothing. May be called under a queue's lock.
    fn page(&self, messages: &mut dyn Iterator<Item = Paged<'_>>) -> Option<KeptId> {
        let _ = messages;
        None
    }

    /// These pages are not needed any more. May be called under a queue's lock.
    fn drop_pages(&self, pages: &[KeptId]) {
        let _ = pages;
    }

    /// What is suspected of the messages of a queue, or of one of its lanes, at a start: they were in hand when earlier
    /// processes ended. `None` where nothing is, and nobody wants to know what is handed out.
    fn suspicion(&self, queue: KeptId) -> Option<Suspicion> {
        let _ = queue;
        None
    }

    /// A message of which [`Suspicion::tells`] holds is about to be handed out by this thread. When this returns, the next
    /// process would know. Called under the queue's lock.
    fn handing_out(&self, queue: KeptId, sequence: u64) {
        let _ = (queue, sequence);
    }

    /// What this thread handed out until now has gone: were it to end the process, it would have. May be called under a
    /// queue's lock.
    fn handed_out(&self) {}

    /// Hands over what there is of a virtual host: its exchanges, then its queues, then its bindings.
    fn topology(&self, vhost: &Name, each: &mut dyn FnMut(Topology<'_>));
}

/// A store that keeps nothing: state ends with the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Volatile;

impl Store for Volatile {
    fn keeps(&self) -> bool {
        false
    }

    fn admit(&self) -> Result<(), StoreFailure> {
        Ok(())
    }

    fn append(&self, _group: &[Change]) -> Result<(), StoreFailure> {
        Ok(())
    }

    fn load(&self, _holder: &StateHolder) -> Result<Vec<StateChange>, StoreFailure> {
        Ok(Vec::new())
    }

    fn load_aside(&self, _holder: &StateHolder) -> Result<Vec<Aside>, StoreFailure> {
        Ok(Vec::new())
    }

    fn group(&self) -> Box<dyn Group> {
        Box::new(group::Nowhere)
    }

    fn settled(&self, _queue: KeptId, _ranges: &[Ranges]) {}

    fn progressed(&self, _settled: &[(KeptId, Ranges)], _delivered: &[(KeptId, Ranges)], _counts: bool) {}

    fn when_safe(&self, waiter: &Arc<dyn Written>, token: u64) {
        waiter.written(token, Ok(()));
    }

    fn next_id(&self) -> KeptId {
        KeptId(0)
    }

    fn kept(&self, _queue: KeptId) -> Kept {
        Kept::default()
    }

    fn count(&self, _queue: KeptId, _numbers: core::ops::Range<u64>) -> u64 {
        0
    }

    fn read(
        &self,
        _queue: KeptId,
        _from: u64,
        _bytes_max: usize,
        _each: &mut dyn FnMut(Stored<'_>),
    ) -> Option<u64> {
        None
    }

    fn topology(&self, _vhost: &Name, _each: &mut dyn FnMut(Topology<'_>)) {}

    fn timers(&self, _vhost: &Name, _each: &mut dyn FnMut(StateHolder, Name, u64)) {}
}

/// Writes the effects that belong to one message, then makes them last. Where the store takes nothing they
/// are undone.
///
/// # Errors
/// Nothing was taken.
pub(crate) fn keep(
    store: &dyn Store,
    effects: Vec<Box<dyn Effects>>,
    (fate, message): (Fate, &MessageView<'_>),
    deeds: &mut Vec<Deed>,
) -> Result<(), StoreFailure> {
    if store.keeps() {
        let mut group = Vec::new();
        effects.iter().for_each(|effects| effects.record(fate, &mut group));
        if !group.is_empty() {
            store.append(&group)?;
        }
    }
    effects.into_iter().for_each(|effects| effects.commit(fate, message, deeds));
    Ok(())
}
