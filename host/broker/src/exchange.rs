//! An exchange and its bindings: the truth that every worker and every plugin instance derives
//! from.
//!
//! *Generations.* Each change of the bindings, and each change of the plugin behind the type,
//! makes the next generation. Whoever derived something (a plugin instance its index, a memo its
//! answers) notes the generation it derived from and compares on use; nobody relies on having
//! been told. The counter is raised after the change can be read, so whoever reads the new
//! generation finds the change.

mod settings;

pub(crate) use settings::ALTERNATE_EXCHANGE;
pub use settings::{ArgumentsChange, Settings, Snapshot, is_own};

use crate::{
    later::{HoldInfo, Later},
    policy::Policy,
    queue::Queue,
    store::KeptId,
    traffic::ExchangeTraffic,
};
use alloc::{
    boxed::Box,
    collections::VecDeque,
    sync::{Arc, Weak},
    vec::Vec,
};
use core::{
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use hashbrown::{HashSet, HashTable};
use leveret_model::{Name, Table, Value};
use parking_lot::RwLock;
use std::{rc::Rc, sync::OnceLock};

/// How many changes of bindings an exchange remembers for instances that lag behind; one that
/// lags further starts from the whole list.
pub const CHANGES_MAX: usize = 4096;

/// Numbers an exchange for as long as the broker runs; never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ExchangeId(pub u64);

/// Numbers a binding within its exchange: the slot in the low half, how often the slot was used
/// before above it. Below 2^53, which the plugin contract promises to languages whose numbers are
/// floats; so a slot is not used any more after two million uses, and no id comes again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BindingId(pub u64);

impl BindingId {
    /// How often a slot is used again at most.
    const USES_MAX: u32 = (1 << 21) - 1;

    fn new(slot: usize, uses: u32) -> Self {
        Self((u64::from(uses.min(Self::USES_MAX)) << 32) | (slot as u64 & 0xffff_ffff))
    }

    fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

/// Numbers the states of an exchange's bindings.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Generation(pub u64);

/// Where a binding leads.
#[derive(Clone)]
pub enum Destination {
    /// To a queue.
    Queue(Arc<Queue>),
    /// To another exchange.
    Exchange(Arc<Exchange>),
}

impl Destination {
    /// The name of the queue or exchange.
    #[must_use]
    pub fn name(&self) -> &Name {
        match self {
            Self::Queue(queue) => queue.name(),
            Self::Exchange(exchange) => &exchange.spec.name,
        }
    }

    /// Whether both are the very same queue or exchange, not only of the same name.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Queue(a), Self::Queue(b)) => Arc::ptr_eq(a, b),
            (Self::Exchange(a), Self::Exchange(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(queue) => write!(f, "queue {}", queue.name()),
            Self::Exchange(exchange) => write!(f, "exchange {}", exchange.spec.name),
        }
    }
}

/// A binding of an exchange to a destination.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its number within the exchange.
    pub id: BindingId,
    /// Where it leads.
    pub destination: Destination,
    /// The binding key.
    pub routing_key: Name,
    /// Its arguments.
    pub arguments: Table,
}

/// What a declarer says of an exchange.
#[derive(Clone, Debug)]
pub struct ExchangeSpec {
    /// Its name.
    pub name: Name,
    /// The name of its type.
    pub type_name: Name,
    /// Survives a restart (once there is a store).
    pub durable: bool,
    /// Goes when its last binding as a source goes.
    pub auto_delete: bool,
    /// Only exchanges publish to it.
    pub internal: bool,
    /// All arguments, `alternate-exchange` included.
    pub arguments: Table,
}

/// One of the types of an exchange.
#[derive(Clone, Debug)]
pub struct TypeSpec {
    /// The type's name.
    pub type_name: Name,
    /// The arguments that it is opened with.
    pub arguments: Table,
    /// The type that it is put in front of, where an argument of the exchange asked for that.
    pub in_front_of: Option<Name>,
}

/// A declared exchange.
pub struct Exchange {
    /// Its number.
    pub id: ExchangeId,
    /// The vhost it is in.
    pub vhost: Name,
    /// What it was declared as; its arguments may have changed since ([`Self::settings`]).
    pub spec: ExchangeSpec,
    types: OnceLock<Box<[TypeSpec]>>,
    /// Its number in the store, where it is to outlive the process.
    pub(crate) kept_id: Option<KeptId>,
    pub(crate) later: Weak<Later>,
    generation: AtomicU64,
    deleted: AtomicBool,
    pub(crate) traffic: ExchangeTraffic,
    bindings: RwLock<Bindings>,
}

#[derive(Default)]
struct Bindings {
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: usize,
    /// Finds a binding by (destination, key, arguments).
    index: HashTable<u32>,
    hasher: foldhash::fast::FixedState,
    /// How many generations are of a type that changed.
    type_changes: u64,
    /// The changes that led to the newest generations, one each.
    changes: VecDeque<Change>,
    /// The arguments.
    settings: Arc<Settings>,
    /// The policy that applies to it.
    policy: Option<Arc<Policy>>,
}

#[derive(Default)]
struct Slot {
    uses: u32,
    binding: Option<Arc<Binding>>,
}

#[derive(Clone, Copy)]
enum Change {
    Bound(BindingId),
    Unbound(BindingId),
    /// The plugin behind the type changed.
    Type,
    /// The arguments changed.
    Settings,
}

/// What changed between two generations, net: what came and went between is in neither list.
#[derive(Debug, Default)]
pub struct Changes {
    /// New bindings.
    pub bound: Vec<Arc<Binding>>,
    /// Bindings that are gone.
    pub unbound: Vec<BindingId>,
    /// The generation they lead to.
    pub generation: Generation,
    /// The arguments at that generation.
    pub settings: Arc<Settings>,
    /// They are others than before.
    pub reconfigured: bool,
}

/// The asker lags behind by more changes than are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagging;

/// The destinations of an answer, each once. Shared within one worker.
#[derive(Clone, Debug, Default)]
pub struct RouteSet(Option<Rc<Targets>>);

/// The destinations of an answer by kind.
#[derive(Debug, Default)]
pub struct Targets {
    /// Queues, each once.
    pub queues: Vec<Arc<Queue>>,
    /// Exchanges, each once.
    pub exchanges: Vec<Arc<Exchange>>,
}

static NO_TARGETS: Targets = Targets { queues: Vec::new(), exchanges: Vec::new() };

impl RouteSet {
    /// A set of these.
    #[must_use]
    pub fn new(targets: Targets) -> Self {
        if targets.queues.is_empty() && targets.exchanges.is_empty() {
            Self(None)
        } else {
            Self(Some(Rc::new(targets)))
        }
    }

    /// The destinations.
    #[must_use]
    pub fn targets(&self) -> &Targets {
        self.0.as_deref().unwrap_or(&NO_TARGETS)
    }

    /// Whether there is no destination.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Exchange {
    /// A new exchange without bindings, at generation 0.
    #[must_use]
    pub fn new(id: ExchangeId, vhost: Name, spec: ExchangeSpec) -> Self {
        let settings = Arc::new(Settings::declared(&spec.arguments));
        Self {
            id,
            vhost,
            spec,
            types: OnceLock::new(),
            kept_id: None,
            later: Weak::new(),
            generation: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
            traffic: ExchangeTraffic::default(),
            bindings: RwLock::new(Bindings { settings, ..Bindings::default() }),
        }
    }

    /// The same, whose messages are held there.
    pub(crate) fn holding_in(mut self, later: &Arc<Later>) -> Self {
        self.later = Arc::downgrade(later);
        self
    }

    /// How many of its messages are held.
    #[must_use]
    pub fn hold_count(&self) -> usize {
        self.later.upgrade().map_or(0, |later| later.hold_count(self.id))
    }

    /// Its messages that are held, by their times, from the `skip`th on, at most `max`.
    #[must_use]
    pub fn holds(&self, skip: usize, max: usize) -> Vec<HoldInfo> {
        self.later.upgrade().map(|later| later.holds(self.id, skip, max)).unwrap_or_default()
    }

    /// Its types, those in front first, as whoever opened it found them: an exchange keeps the types
    /// that it was declared with. Empty until then.
    #[must_use]
    pub fn types(&self) -> &[TypeSpec] {
        self.types.get().map_or(&[], |types| types)
    }

    /// Notes its types; later calls change nothing.
    pub fn set_types(&self, types: Vec<TypeSpec>) {
        self.types.get_or_init(|| types.into_boxed_slice());
    }

    /// The generation of what can be read now.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Whether it was deleted. Whoever holds on to it looks it up by name again.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Marks it deleted; its bindings are removed by the caller.
    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    /// How many bindings it has as a source.
    #[must_use]
    pub fn binding_count(&self) -> usize {
        self.bindings.read().live
    }

    /// The binding of that number, if it is still there.
    #[must_use]
    pub fn binding(&self, id: BindingId) -> Option<Arc<Binding>> {
        self.bindings.read().get(id).cloned()
    }

    /// All bindings and the generation they belong to.
    #[must_use]
    pub fn all_bindings(&self) -> (Generation, Vec<Arc<Binding>>) {
        let bindings = self.bindings.read();
        let all = bindings.slots.iter().filter_map(|slot| slot.binding.clone()).collect();
        (self.generation(), all)
    }

    /// What changed since a generation.
    ///
    /// # Errors
    /// [`Lagging`] if that is more than [`CHANGES_MAX`] changes ago.
    pub fn changes_since(&self, since: Generation) -> Result<Changes, Lagging> {
        let bindings = self.bindings.read();
        let generation = self.generation();
        let count = usize::try_from(generation.0.saturating_sub(since.0)).map_err(|_| Lagging)?;
        let first = bindings.changes.len().checked_sub(count).ok_or(Lagging)?;
        let window = bindings.changes.range(first..);
        // An id is bound once and never used again: what was bound in the window and is not live
        // was unbound in it too.
        let mut bound = HashSet::with_hasher(bindings.hasher.clone());
        let mut unbound = Vec::new();
        let mut live = Vec::new();
        let mut reconfigured = false;
        for change in window {
            match *change {
                Change::Bound(id) => {
                    bound.insert(id);
                    live.extend(bindings.get(id).cloned());
                }
                Change::Unbound(id) => {
                    if !bound.contains(&id) {
                        unbound.push(id);
                    }
                }
                Change::Type => {}
                Change::Settings => reconfigured = true,
            }
        }
        let settings = bindings.settings.clone();
        Ok(Changes { bound: live, unbound, generation, settings, reconfigured })
    }

    /// The destinations of these bindings, and how many of the ids are not live bindings.
    #[must_use]
    pub fn resolve(&self, ids: &mut dyn Iterator<Item = BindingId>) -> (RouteSet, usize) {
        let bindings = self.bindings.read();
        let mut targets = Targets::default();
        let mut dead = 0;
        for id in ids {
            match bindings.get(id).map(|binding| &binding.destination) {
                Some(Destination::Queue(queue)) => targets.queues.push(queue.clone()),
                Some(Destination::Exchange(exchange)) => targets.exchanges.push(exchange.clone()),
                None => dead += 1,
            }
        }
        // Each once, the first place kept: short lists by looking, long ones by sorting.
        dedup_arcs(&mut targets.queues);
        dedup_arcs(&mut targets.exchanges);
        (RouteSet::new(targets), dead)
    }

    /// Those of these bindings that are live, in their order.
    #[must_use]
    pub fn live(&self, ids: &[BindingId]) -> Vec<BindingId> {
        let bindings = self.bindings.read();
        ids.iter().copied().filter(|id| bindings.get(*id).is_some()).collect()
    }

    /// Where a live binding leads.
    #[must_use]
    pub fn destination(&self, id: BindingId) -> Option<Destination> {
        self.bindings.read().get(id).map(|binding| binding.destination.clone())
    }

    /// The binding of this destination, key and arguments, if there is one.
    #[must_use]
    pub fn find(
        &self,
        destination: &Destination,
        routing_key: &[u8],
        arguments: &Table,
    ) -> Option<Arc<Binding>> {
        let bindings = self.bindings.read();
        let hash = bindings.hash(destination, routing_key, arguments);
        let slot = bindings.index.find(hash, |slot| {
            bindings.slot(*slot).is_some_and(|binding| {
                binding.destination.is(destination)
                    && binding.routing_key.as_bytes() == routing_key
                    && binding.arguments == *arguments
            })
        })?;
        bindings.slot(*slot).cloned()
    }

    /// A binding with a number that no other gets, for [`Self::commit`] or [`Self::give_up`].
    pub(crate) fn prepare(&self, destination: Destination, routing_key: Name, arguments: Table) -> Binding {
        let mut bindings = self.bindings.write();
        let slot = bindings.free.pop().map_or(bindings.slots.len(), |slot| slot as usize);
        if slot == bindings.slots.len() {
            bindings.slots.push(Slot::default());
        }
        let uses = bindings.slots.get(slot).map_or(0, |slot| slot.uses);
        Binding { id: BindingId::new(slot, uses), destination, routing_key, arguments }
    }

    /// A prepared binding is not to be made: the next one may have its number.
    pub(crate) fn give_up(&self, prepared: BindingId) {
        self.bindings.write().free.push(prepared.slot() as u32);
    }

    /// Makes a prepared binding visible. The vhost's lock for changes is held.
    pub(crate) fn commit(&self, binding: Binding) -> Arc<Binding> {
        let mut guard = self.bindings.write();
        let bindings = &mut *guard;
        let slot = binding.id.slot();
        let id = binding.id;
        let hash = bindings.hash(&binding.destination, &binding.routing_key, &binding.arguments);
        let binding = Arc::new(binding);
        if let Some(place) = bindings.slots.get_mut(slot) {
            place.binding = Some(binding.clone());
        }
        let (slots, hasher) = (&bindings.slots, &bindings.hasher);
        bindings.index.insert_unique(hash, slot as u32, |slot| {
            slots
                .get(*slot as usize)
                .and_then(|slot| slot.binding.as_deref())
                .map_or(0, |b| hash_of(hasher, &b.destination, &b.routing_key, &b.arguments))
        });
        bindings.live += 1;
        self.changed(bindings, Change::Bound(id));
        binding
    }

    /// Removes a binding and gives it; none if it is gone already. The vhost's lock for changes is
    /// held.
    pub(crate) fn remove(&self, id: BindingId) -> Option<Arc<Binding>> {
        let mut guard = self.bindings.write();
        let bindings = &mut *guard;
        let binding = bindings.get(id)?.clone();
        let hash = bindings.hash(&binding.destination, &binding.routing_key, &binding.arguments);
        if let Ok(entry) = bindings.index.find_entry(hash, |slot| *slot as usize == id.slot()) {
            entry.remove();
        }
        if let Some(slot) = bindings.slots.get_mut(id.slot()) {
            slot.binding = None;
            // A slot whose ids are used up is left empty for ever.
            if slot.uses < BindingId::USES_MAX {
                slot.uses += 1;
                bindings.free.push(id.slot() as u32);
            }
        }
        bindings.live -= 1;
        self.changed(bindings, Change::Unbound(id));
        Some(binding)
    }

    fn changed(&self, bindings: &mut Bindings, change: Change) {
        if bindings.changes.len() == CHANGES_MAX {
            bindings.changes.pop_front();
        }
        bindings.changes.push_back(change);
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Bindings {
    fn get(&self, id: BindingId) -> Option<&Arc<Binding>> {
        let slot = self.slots.get(id.slot())?;
        slot.binding.as_ref().filter(|binding| binding.id == id)
    }

    fn slot(&self, slot: u32) -> Option<&Arc<Binding>> {
        self.slots.get(slot as usize)?.binding.as_ref()
    }

    fn hash(&self, destination: &Destination, routing_key: &[u8], arguments: &Table) -> u64 {
        hash_of(&self.hasher, destination, routing_key, arguments)
    }
}

fn hash_of(
    hasher: &foldhash::fast::FixedState,
    destination: &Destination,
    routing_key: &[u8],
    arguments: &Table,
) -> u64 {
    let mut state = hasher.build_hasher();
    matches!(destination, Destination::Queue(_)).hash(&mut state);
    destination.name().as_bytes().hash(&mut state);
    routing_key.hash(&mut state);
    // The order of arguments does not matter, so their hashes are added up.
    let fields = arguments.iter().map(|(name, value)| {
        let mut state = hasher.build_hasher();
        name.as_bytes().hash(&mut state);
        hash_value(value, &mut state);
        state.finish()
    });
    fields.fold(0, u64::wrapping_add).hash(&mut state);
    state.finish()
}

/// Equal values hash alike. Of the rare kinds not everything is hashed.
fn hash_value(value: &Value, state: &mut impl Hasher) {
    core::mem::discriminant(value).hash(state);
    match value {
        Value::Boolean(boolean) => boolean.hash(state),
        Value::Integer(integer) | Value::Timestamp(integer) => integer.hash(state),
        Value::Unsigned(integer) => integer.hash(state),
        Value::Decimal { scale, unscaled } => (scale, unscaled).hash(state),
        Value::Text(text) => text.hash(state),
        Value::Binary(bytes) => bytes.hash(state),
        Value::List(values) => values.iter().for_each(|value| hash_value(value, state)),
        // Both zeros are equal; maps are rare here.
        Value::Void | Value::Real(_) | Value::Map(_) => {}
    }
}

/// Each once; up to sixteen keep the order of their first places.
fn dedup_arcs<T>(arcs: &mut Vec<Arc<T>>) {
    match arcs.len() {
        0 | 1 => {}
        2..=16 => {
            let mut kept = 0;
            for i in 0..arcs.len() {
                let (before, rest) = arcs.split_at(i);
                let seen =
                    rest.first().is_some_and(|arc| before.iter().take(kept).any(|k| Arc::ptr_eq(k, arc)));
                if !seen {
                    arcs.swap(kept, i);
                    kept += 1;
                }
            }
            arcs.truncate(kept);
        }
        _ => {
            arcs.sort_unstable_by_key(|arc| Arc::as_ptr(arc).cast::<()>() as usize);
            arcs.dedup_by(|a, b| Arc::ptr_eq(a, b));
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("id", &self.id)
            .field("name", &self.spec.name)
            .field("type", &self.spec.type_name)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
