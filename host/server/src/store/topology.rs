//! What virtual hosts consist of, as values: see `spaces.rs` and `codec.rs`.
//!
//! The keys of all bindings are kept in memory too, by both ends, so that those of an exchange or a queue that is gone
//! are found without looking through all. Changes that concern the same exchange, queue or binding are made and
//! handed over one after the other: the broker holds the virtual host's lock for changes meanwhile.

use super::{
    codec::{self, Malformed, Take, TakeMore, put_name},
    parts::Parts,
    spaces::{BINDINGS, EXCHANGES, HOLDS, OTHERS, QUEUES},
};
use leveret_broker::store::{BindingSpec, KeptExchange, KeptId, Topology, TopologyChange};
use leveret_model::{Name, Table, Value, flat};
use leveret_store::{QueueId, Space, Store};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Bound,
    sync::Arc,
};

type Key = Arc<[u8]>;
type KeyAndValue = (Box<[u8]>, Box<[u8]>);

/// The bindings by both ends.
#[derive(Default)]
pub(super) struct Bindings(Mutex<Index>);

#[derive(Default)]
struct Index {
    /// All; the keys of one source begin alike.
    all: BTreeSet<Key>,
    /// By virtual host, kind of destination, destination.
    to: HashMap<Box<[u8]>, HashSet<Key>>,
    next_number: u64,
}

impl Bindings {
    /// Reads which there are.
    pub(super) fn open(store: &Store) -> Self {
        let mut index = Index::default();
        store.values_with(BINDINGS, b"", |key, value, _| {
            let number = codec::take_binding(value).map_or(0, |(number, _)| number);
            index.next_number = index.next_number.max(number + 1);
            index.insert(key);
        });
        Self(Mutex::new(index))
    }

    /// Puts a change into a group.
    pub(super) fn change(&self, vhost: &Name, change: TopologyChange<'_>, parts: &mut Parts) {
        match change {
            TopologyChange::Declared(Topology::Exchange(kept)) => {
                parts.set(EXCHANGES, &exchange_key(vhost, &kept.spec.name), &codec::exchange(&kept), 0);
            }
            TopologyChange::Declared(Topology::Queue(id, spec)) => {
                parts.set(QUEUES, &queue_key(vhost, id), &codec::queue(spec), 0);
                parts.create(QueueId(id.0));
            }
            TopologyChange::Declared(Topology::Binding(spec)) => {
                let key = binding_key(vhost, &spec);
                let number = self.0.lock().insert(&key);
                parts.set(BINDINGS, &key, &codec::binding(number, spec.arguments), 0);
            }
            TopologyChange::Declared(Topology::Holds(id)) => {
                let mut value = vec![codec::VERSION];
                value.extend_from_slice(&id.0.to_le_bytes());
                parts.set(OTHERS, &holds_key(vhost), &value, 0);
                parts.create(QueueId(id.0));
            }
            TopologyChange::Declared(Topology::Lane(id)) => parts.create(QueueId(id.0)),
            TopologyChange::LaneGone(id) => parts.delete(QueueId(id.0)),
            TopologyChange::ExchangeGone(name) => {
                parts.unset(EXCHANGES, &exchange_key(vhost, name));
                let gone = self.0.lock().remove_exchange(vhost, name);
                gone.iter().for_each(|key| parts.unset(BINDINGS, key));
            }
            TopologyChange::QueueGone(id, name) => {
                parts.unset(QUEUES, &queue_key(vhost, id));
                parts.delete(QueueId(id.0));
                let gone = self.0.lock().remove_to(&destination_key(vhost, true, name));
                gone.iter().for_each(|key| parts.unset(BINDINGS, key));
            }
            TopologyChange::Unbound(spec) => {
                let key = binding_key(vhost, &spec);
                self.0.lock().remove(&key);
                parts.unset(BINDINGS, &key);
            }
        }
    }
}

impl Bindings {
    /// Puts into a group that all is gone that is kept of a virtual host, but for what exchange types keep. Gives the numbers
    /// of its queues and their lanes.
    pub(super) fn forget_vhost(&self, store: &Store, vhost: &Name, parts: &mut Parts) -> Vec<QueueId> {
        let prefix = vhost_key(vhost);
        let mut gone = BTreeSet::new();
        for (key, _) in values(store, EXCHANGES, &prefix) {
            parts.unset(EXCHANGES, &key);
        }
        for (key, _) in values(store, QUEUES, &prefix) {
            let mut take = Take(&key);
            gone.extend(take.name().and_then(|_| take.u64_sorted()).ok());
            parts.unset(QUEUES, &key);
        }
        // Nothing but its number says whose a lane is.
        let all = store.queues().into_iter().map(|(id, ..)| id);
        let gone: Vec<_> = all.filter(|id| gone.contains(&KeptId(id.0).queue().0)).collect();
        gone.iter().for_each(|id| parts.delete(*id));
        for (key, _) in values(store, BINDINGS, &prefix) {
            self.0.lock().remove(&key);
            parts.unset(BINDINGS, &key);
        }
        for (key, value) in values(store, OTHERS, &holds_key(vhost)) {
            let mut take = Take(&value);
            if let Ok(id) = take.version().and_then(|()| take.u64()) {
                parts.delete(QueueId(id));
            }
            parts.unset(OTHERS, &key);
        }
        gone
    }
}

impl Index {
    /// Adds a binding, and gives it a number.
    fn insert(&mut self, key: &[u8]) -> u64 {
        if let Ok(binding) = BindingKey::take(key)
            && !self.all.contains(key)
        {
            let key: Key = key.into();
            let to = destination_key(&binding.vhost, binding.to_queue, &binding.destination);
            self.to.entry(to.into()).or_default().insert(key.clone());
            self.all.insert(key);
        }
        self.next_number += 1;
        self.next_number - 1
    }

    fn remove(&mut self, key: &[u8]) {
        let (true, Ok(binding)) = (self.all.remove(key), BindingKey::take(key)) else { return };
        let to = destination_key(&binding.vhost, binding.to_queue, &binding.destination);
        if let Some(keys) = self.to.get_mut(&*to) {
            keys.remove(key);
            if keys.is_empty() {
                self.to.remove(&*to);
            }
        }
    }

    /// Removes all that lead to a queue or an exchange, and gives them.
    fn remove_to(&mut self, destination: &[u8]) -> Vec<Key> {
        let gone: Vec<Key> = self.to.remove(destination).into_iter().flatten().collect();
        gone.iter().for_each(|key| {
            self.all.remove(key);
        });
        gone
    }

    /// The same for those from an exchange, and those to it.
    fn remove_exchange(&mut self, vhost: &Name, name: &Name) -> Vec<Key> {
        let mut gone = self.remove_to(&destination_key(vhost, false, name));
        let prefix = exchange_key(vhost, name);
        let range = self.all.range::<[u8], _>((Bound::Included(&*prefix), Bound::Unbounded));
        let from: Vec<Key> = range.take_while(|key| key.starts_with(&prefix)).cloned().collect();
        from.iter().for_each(|key| self.remove(key));
        gone.extend(from);
        gone
    }
}

/// What a binding's key says.
struct BindingKey {
    vhost: Name,
    source: Name,
    to_queue: bool,
    destination: Name,
    routing_key: Name,
}

impl BindingKey {
    fn take(key: &[u8]) -> Result<Self, Malformed> {
        let mut take = Take(key);
        let (vhost, source) = (take.name()?, take.name()?);
        let to_queue = take.u8()? != 0;
        Ok(Self { vhost, source, to_queue, destination: take.name()?, routing_key: take.name()? })
    }
}

fn vhost_key(vhost: &Name) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    put_name(&mut key, vhost);
    key
}

pub(super) fn exchange_key(vhost: &Name, name: &Name) -> Vec<u8> {
    let mut key = vhost_key(vhost);
    put_name(&mut key, name);
    key
}

fn queue_key(vhost: &Name, id: KeptId) -> Vec<u8> {
    let mut key = vhost_key(vhost);
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

fn holds_key(vhost: &Name) -> Vec<u8> {
    let mut key = vec![HOLDS];
    put_name(&mut key, vhost);
    key
}

fn destination_key(vhost: &Name, to_queue: bool, name: &Name) -> Vec<u8> {
    let mut key = vhost_key(vhost);
    key.push(to_queue.into());
    put_name(&mut key, name);
    key
}

fn binding_key(vhost: &Name, spec: &BindingSpec<'_>) -> Vec<u8> {
    let mut key = exchange_key(vhost, spec.source);
    key.push(spec.to_queue.into());
    put_name(&mut key, spec.destination);
    put_name(&mut key, spec.routing_key);
    if !spec.arguments.is_empty() {
        key.extend_from_slice(&digest(spec.arguments));
    }
    key
}

/// Of equal arguments the same, whatever their order.
fn digest(arguments: &Table) -> [u8; 32] {
    let mut fields: Vec<_> = arguments.iter().collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    let mut bytes = Vec::new();
    for (name, value) in fields {
        put_name(&mut bytes, name);
        flat::put_value(&mut bytes, &alike(value));
    }
    Sha256::digest(&bytes).into()
}

/// A value that has the same bytes as all that equal it.
fn alike(value: &Value) -> Value {
    match value {
        Value::Real(real) if real.is_nan() => Value::Real(f64::NAN),
        Value::Real(real) => Value::Real(real + 0.0),
        Value::List(values) => Value::List(values.iter().map(alike).collect()),
        Value::Map(pairs) => {
            Value::Map(pairs.iter().map(|(key, value)| (alike(key), alike(value))).collect())
        }
        other => other.clone(),
    }
}

/// The numbers of all exchanges by their keys; `None` for one that cannot be read.
pub(super) fn exchange_numbers(store: &Store) -> HashMap<Box<[u8]>, Option<KeptId>> {
    let mut numbers = HashMap::new();
    store.values_with(EXCHANGES, b"", |key, value, _| {
        let read = codec::take_exchange(Name::EMPTY, value);
        numbers.insert(key.into(), read.ok().map(|exchange| exchange.id));
    });
    numbers
}

/// The virtual hosts that anything is kept of.
pub(super) fn vhosts(store: &Store) -> BTreeSet<Name> {
    let mut vhosts = BTreeSet::new();
    for space in [EXCHANGES, QUEUES, BINDINGS] {
        store.values_with(space, b"", |key, _, _| vhosts.extend(Take(key).name().ok()));
    }
    store.values_with(OTHERS, &[HOLDS], |key, _, _| {
        vhosts.extend(key.get(1..).and_then(|key| Take(key).name().ok()));
    });
    vhosts
}

/// Hands over what there is of a virtual host. What cannot be read is handed to `damaged`, in words.
pub(super) fn read(
    store: &Store,
    vhost: &Name,
    each: &mut dyn FnMut(Topology<'_>),
    damaged: &mut dyn FnMut(String),
) {
    let prefix = vhost_key(vhost);
    for (key, value) in values(store, EXCHANGES, &prefix) {
        let read = || {
            let mut take = Take(&key);
            take.name()?;
            codec::take_exchange(take.name()?, &value)
        };
        match read() {
            Ok(codec::OwnedExchange { id, spec, arguments, types }) => {
                let (spec, arguments, types) = (&spec, &arguments, &types);
                each(Topology::Exchange(KeptExchange { id, spec, arguments, types }));
            }
            Err(Malformed) => {
                damaged(format!("an exchange of virtual host {vhost}, key {}", key.escape_ascii()))
            }
        }
    }
    for (key, value) in values(store, QUEUES, &prefix) {
        let read = || {
            let mut take = Take(&key);
            take.name()?;
            Ok((KeptId(take.u64_sorted()?), codec::take_queue(&value)?))
        };
        match read() {
            Ok((id, spec)) => each(Topology::Queue(id, &spec)),
            Err(Malformed) => damaged(format!("a queue of virtual host {vhost}, key {}", key.escape_ascii())),
        }
    }
    read_bindings(store, vhost, each, damaged);
    for (_, value) in values(store, OTHERS, &holds_key(vhost)) {
        let mut take = Take(&value);
        match take.version().and_then(|()| take.u64()) {
            Ok(id) => each(Topology::Holds(KeptId(id))),
            Err(Malformed) => damaged(format!("where virtual host {vhost} holds messages")),
        }
    }
}

fn read_bindings(
    store: &Store,
    vhost: &Name,
    each: &mut dyn FnMut(Topology<'_>),
    damaged: &mut dyn FnMut(String),
) {
    let mut bindings = Vec::new();
    for (key, value) in values(store, BINDINGS, &vhost_key(vhost)) {
        match BindingKey::take(&key).and_then(|key| Ok((codec::take_binding(&value)?, key))) {
            Ok(((number, arguments), key)) => bindings.push((number, key, arguments)),
            Err(Malformed) => {
                damaged(format!("a binding of virtual host {vhost}, key {}", key.escape_ascii()))
            }
        }
    }
    bindings.sort_by_key(|(number, ..)| *number);
    for (_, BindingKey { source, to_queue, destination, routing_key, .. }, arguments) in &bindings {
        let (source, destination) = (source, destination);
        each(Topology::Binding(BindingSpec {
            source,
            to_queue: *to_queue,
            destination,
            routing_key,
            arguments,
        }));
    }
}

/// Copies: whoever gets them may ask the store.
fn values(store: &Store, space: Space, prefix: &[u8]) -> Vec<KeyAndValue> {
    let mut found = Vec::new();
    store.values_with(space, prefix, |key, value, _| found.push((key.into(), value.into())));
    found
}
