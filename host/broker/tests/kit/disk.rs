//! A store whose disk can fail, and whose writing can be held up: what it has outlives the virtual hosts that
//! are kept in it.

#[path = "counts.rs"]
mod counts;
#[path = "owned.rs"]
mod owned;
#[path = "told.rs"]
mod told;

use leveret_broker::{
    QueueSpec, Vhost,
    store::{
        Aside, Change, Durability, Group, HeldAs, Kept, KeptExchange, KeptId, LargeBody, Noted, Paged,
        Ranges, StateChange, StateHolder, Store, StoreFailure, Stored, Suspicion, Target, Topology,
        TopologyChange, Written,
    },
};
use leveret_model::{MessageView, Name, OwnedMessage};
use owned::{OwnedBinding, OwnedExchange, OwnedHold};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, Weak},
};
use told::{key_of, text};

/// What was handed over, and how it answers next.
pub struct Disk(Mutex<Inner>, Weak<Disk>, OnRead);

/// Called with the number from which messages are read, before they are; not of what is read meanwhile.
type OnRead = Mutex<Option<Box<dyn Fn(u64) + Send>>>;

#[derive(Default)]
struct Inner {
    groups: Vec<Vec<String>>,
    full: bool,
    /// Messages from that number on cannot be read now.
    short_from: Option<u64>,
    /// Messages of these numbers cannot be read at all.
    damaged: Vec<u64>,
    reads: usize,
    /// How often it was told of deliveries that count.
    counted: usize,
    /// What is written is not safe until this is over.
    slow: bool,
    waiting: Vec<(Arc<dyn Written>, u64)>,
    /// A queue, and how many messages it had when each group came.
    watched: Option<(Arc<Vhost>, &'static str)>,
    seen: Vec<u64>,
    durabilities: Vec<Durability>,
    last_id: u64,
    queues: BTreeMap<u64, Queue>,
    exchanges: BTreeMap<(Name, Name), OwnedExchange>,
    /// The changes of topology of each group that had any.
    changes: Vec<Vec<String>>,
    declared: BTreeMap<(Name, Name), (KeptId, QueueSpec)>,
    bindings: Vec<(Name, OwnedBinding)>,
    holds: BTreeMap<Name, KeptId>,
    /// What was settled, by the groups that told it beside messages.
    progressed: Vec<Vec<(KeptId, Ranges)>>,
    /// What it suspects of messages, and which it was told of that were about to be handed out.
    suspicion: Option<(u64, Suspicion)>,
    handed_out: Vec<Vec<u64>>,
    /// Which of the queues are pages.
    pages: std::collections::BTreeSet<u64>,
    pages_written: usize,
    withholds: bool,
    /// What is not written yet.
    withheld: Vec<Op>,
}

#[derive(Default)]
struct Queue {
    next: u64,
    messages: BTreeMap<u64, Message>,
    /// Numbers that were settled, perhaps before their messages came.
    settled: std::collections::HashSet<u64>,
}

#[derive(Clone)]
struct Message {
    message: Arc<OwnedMessage>,
    dead_lettered: bool,
    came_ms: u64,
    deliveries: u16,
    held: Option<OwnedHold>,
    /// Of a page: marked as delivered before, and kept elsewhere too.
    of_page: Option<(bool, bool)>,
}

impl Message {
    fn of(view: &MessageView<'_>) -> Self {
        let message = Arc::new(OwnedMessage::from_view(view));
        Self { message, dead_lettered: false, came_ms: 0, deliveries: 0, held: None, of_page: None }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self(Mutex::default(), Weak::new(), OnRead::default())
    }
}

impl Disk {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|disk| Self(Mutex::default(), disk.clone(), OnRead::default()))
    }

    /// From now on nothing is taken, or everything again.
    pub fn is_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }

    /// From now on messages with that number and those behind it cannot be read, for want of a resource; or all can be.
    pub fn is_short_from(&self, number: Option<u64>) {
        self.0.lock().unwrap().short_from = number;
    }

    /// A message with that number cannot be read from now on, whenever it is tried; or all can be.
    pub fn is_damaged_at(&self, number: Option<u64>) {
        self.0.lock().unwrap().damaged = number.into_iter().collect();
    }

    /// That is suspected at the next start of the messages of the only queue that has any.
    pub fn suspects(&self, suspicion: Suspicion) {
        let queue = self.bodies()[0].0;
        self.0.lock().unwrap().suspicion = Some((queue, suspicion));
    }

    /// The numbers of messages that were in hand together since the last time.
    pub fn in_hand(&self) -> Vec<Vec<u64>> {
        let mut told = std::mem::take(&mut self.0.lock().unwrap().handed_out);
        told.retain(|together| !together.is_empty());
        told
    }

    /// Has that called from now on before messages are read, with the number from which.
    pub fn on_read(&self, call: impl Fn(u64) + Send + 'static) {
        *self.2.lock().unwrap() = Some(Box::new(call));
    }

    /// What is handed over from now on is written later, or not any more.
    pub fn withhold(&self, withhold: bool) {
        self.0.lock().unwrap().withholds = withhold;
    }

    /// Writes what was to be written later.
    pub fn write_withheld(&self) {
        let mut inner = self.0.lock().unwrap();
        for op in std::mem::take(&mut inner.withheld) {
            op(&mut inner);
        }
    }

    /// How often messages were read.
    pub fn reads(&self) -> usize {
        self.0.lock().unwrap().reads
    }

    /// From now on nobody is told that what is written is safe; or everybody who waits is, and whoever comes.
    pub fn is_slow(&self, slow: bool) {
        let waiting = {
            let mut inner = self.0.lock().unwrap();
            inner.slow = slow;
            if slow { Vec::new() } else { std::mem::take(&mut inner.waiting) }
        };
        waiting.iter().for_each(|(waiter, token)| waiter.written(*token, Ok(())));
    }

    /// Whoever waits is told that it is not safe, and never will be.
    pub fn give_up(&self) {
        let waiting = std::mem::take(&mut self.0.lock().unwrap().waiting);
        let failure = StoreFailure(Arc::from("the disk does not answer"));
        waiting.iter().for_each(|(waiter, token)| waiter.written(*token, Err(failure.clone())));
    }

    /// Notes how many messages that queue has when a group comes.
    pub fn watch(&self, vhost: &Arc<Vhost>, queue: &'static str) {
        self.0.lock().unwrap().watched = Some((vhost.clone(), queue));
    }

    /// The groups that were taken since the last time: the keys, and what else they have, of each.
    pub fn groups(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.0.lock().unwrap().groups)
    }

    /// The changes of topology since the last time, by group.
    pub fn changes(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.0.lock().unwrap().changes)
    }

    /// What the watched queue had.
    pub fn seen(&self) -> Vec<u64> {
        self.0.lock().unwrap().seen.clone()
    }

    /// What was asked of each group that had somebody waiting, since the last time.
    pub fn durabilities(&self) -> Vec<Durability> {
        std::mem::take(&mut self.0.lock().unwrap().durabilities)
    }

    /// The bodies of the messages that are kept, by queue and number.
    pub fn bodies(&self) -> Vec<(u64, u64, String)> {
        let inner = self.0.lock().unwrap();
        let all = inner.queues.iter().flat_map(|(id, queue)| {
            queue.messages.iter().map(move |(number, message)| {
                (*id, *number, String::from_utf8_lossy(message.message.view().body).into_owned())
            })
        });
        all.collect()
    }

    /// How often each message was delivered, by queue and number.
    pub fn deliveries(&self) -> Vec<(u64, u64, u16)> {
        let inner = self.0.lock().unwrap();
        let all = inner.queues.iter().flat_map(|(id, queue)| {
            queue.messages.iter().map(move |(number, message)| (*id, *number, message.deliveries))
        });
        all.collect()
    }

    fn take(&self, group: &mut Making, durability: Durability, waiter: Option<(&Arc<dyn Written>, u64)>) {
        let told = {
            let mut inner = self.0.lock().unwrap();
            let seen = inner.watched.as_ref().and_then(|(vhost, queue)| vhost.queue(queue.as_bytes()));
            inner.seen.extend(seen.map(|queue| queue.status().messages));
            if !group.names.is_empty() {
                inner.groups.push(std::mem::take(&mut group.names));
            }
            if !group.changes.is_empty() {
                inner.changes.push(std::mem::take(&mut group.changes));
            }
            if inner.withholds {
                inner.withheld.append(&mut group.ops);
            }
            for op in group.ops.drain(..) {
                op(&mut inner);
            }
            match waiter {
                Some((waiter, token)) => {
                    inner.durabilities.push(durability);
                    let slow = inner.slow;
                    if slow {
                        inner.waiting.push((waiter.clone(), token));
                    }
                    !slow
                }
                None => false,
            }
        };
        if let Some((waiter, token)) = waiter.filter(|_| told) {
            waiter.written(token, Ok(()));
        }
    }
}

type Op = Box<dyn FnOnce(&mut Inner) + Send>;

struct Making {
    disk: Arc<Disk>,
    names: Vec<String>,
    changes: Vec<String>,
    ops: Vec<Op>,
}

impl Making {
    fn place(&mut self, targets: Vec<Target>, message: Message) {
        self.ops.push(Box::new(move |inner| {
            for Target { queue, sequence } in targets {
                let queue = inner.queues.entry(queue.0).or_default();
                queue.next = queue.next.max(sequence + 1);
                if !queue.settled.contains(&sequence) {
                    queue.messages.insert(sequence, message.clone());
                }
            }
        }));
    }
}

fn settle(inner: &mut Inner, queue: KeptId, ranges: &[Ranges]) {
    let queue = inner.queues.entry(queue.0).or_default();
    for range in ranges {
        for number in range.first..range.first + u64::from(range.count) {
            queue.settled.insert(number);
            queue.messages.remove(&number);
        }
    }
}

impl Group for Making {
    fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    fn enqueue(
        &mut self,
        message: &MessageView<'_>,
        _large: Option<&Arc<LargeBody>>,
        noted: Noted,
        targets: &[Target],
    ) {
        let Noted { dead_lettered, came_ms } = noted;
        self.place(targets.to_vec(), Message { dead_lettered, came_ms, ..Message::of(message) });
    }

    fn hold(&mut self, message: &MessageView<'_>, dead_lettered: bool, held: HeldAs<'_>, target: Target) {
        let HeldAs { due_ms, exchange, resume, hops } = held;
        let held = Some(OwnedHold { due_ms, exchange: exchange.clone(), resume, hops });
        self.place(vec![target], Message { dead_lettered, held, ..Message::of(message) });
    }

    fn settle(&mut self, queue: KeptId, ranges: &[Ranges]) {
        let ranges = ranges.to_vec();
        self.ops.push(Box::new(move |inner| settle(inner, queue, &ranges)));
    }

    fn change(&mut self, changes: &[Change]) {
        self.names.extend(changes.iter().map(key_of));
        self.ops.push(Box::new(|_| {}));
    }

    fn topology(&mut self, vhost: &Name, change: TopologyChange<'_>) {
        let vhost = vhost.clone();
        self.changes.push(text(change));
        self.ops.push(match change {
            TopologyChange::Declared(Topology::Exchange(kept)) => {
                let KeptExchange { id, spec, arguments, types } = kept;
                let (spec, arguments, types) = (spec.clone(), arguments.clone(), types.to_vec());
                Box::new(move |inner| {
                    let key = (vhost, spec.name.clone());
                    inner.exchanges.insert(key, OwnedExchange { id, spec, arguments, types });
                })
            }
            TopologyChange::Declared(Topology::Queue(id, spec)) => {
                let spec = spec.clone();
                Box::new(move |inner| {
                    inner.queues.entry(id.0).or_default();
                    inner.declared.insert((vhost, spec.name.clone()), (id, spec));
                })
            }
            TopologyChange::Declared(Topology::Binding(spec)) => {
                let spec = OwnedBinding::of(spec);
                Box::new(move |inner| inner.bindings.push((vhost, spec)))
            }
            TopologyChange::Declared(Topology::Holds(id)) => Box::new(move |inner| {
                inner.holds.insert(vhost, id);
            }),
            TopologyChange::Declared(Topology::Lane(id)) => Box::new(move |inner| {
                inner.queues.entry(id.0).or_default();
            }),
            TopologyChange::LaneGone(id) => Box::new(move |inner| {
                inner.queues.remove(&id.0);
            }),
            TopologyChange::ExchangeGone(name) => {
                let name = name.clone();
                Box::new(move |inner| {
                    inner.exchanges.remove(&(vhost.clone(), name.clone()));
                    inner.bindings.retain(|(of, binding)| {
                        let to = !binding.to_queue && binding.destination == name;
                        *of != vhost || !(binding.source == name || to)
                    });
                })
            }
            TopologyChange::QueueGone(id, name) => {
                let name = name.clone();
                Box::new(move |inner| {
                    inner.queues.remove(&id.0);
                    inner.declared.remove(&(vhost.clone(), name.clone()));
                    inner.bindings.retain(|(of, binding)| {
                        *of != vhost || !(binding.to_queue && binding.destination == name)
                    });
                })
            }
            TopologyChange::Unbound(spec) => {
                let spec = OwnedBinding::of(spec);
                Box::new(move |inner| inner.bindings.retain(|(of, other)| *of != vhost || *other != spec))
            }
        });
    }

    fn submit(&mut self, durability: Durability, waiter: Option<(&Arc<dyn Written>, u64)>) {
        self.disk.clone().take(self, durability, waiter);
    }
}

impl Store for Disk {
    fn keeps(&self) -> bool {
        true
    }

    fn admit(&self) -> Result<(), StoreFailure> {
        if self.0.lock().unwrap().full {
            return Err(StoreFailure(Arc::from("no space left on the disk")));
        }
        Ok(())
    }

    fn append(&self, group: &[Change]) -> Result<(), StoreFailure> {
        self.admit()?;
        let mut making = self.group();
        making.change(group);
        making.submit(Durability::Always, None);
        Ok(())
    }

    fn load(&self, _: &StateHolder) -> Result<Vec<StateChange>, StoreFailure> {
        Ok(Vec::new())
    }

    fn timers(&self, _: &Name, _: &mut dyn FnMut(StateHolder, Name, u64)) {}

    fn load_aside(&self, _: &StateHolder) -> Result<Vec<Aside>, StoreFailure> {
        Ok(Vec::new())
    }

    fn durability_of(&self, queue: &Name) -> Durability {
        if queue.as_bytes() == b"never" { Durability::Never } else { Durability::Always }
    }

    fn group(&self) -> Box<dyn Group> {
        let disk = self.1.upgrade().unwrap();
        Box::new(Making { disk, names: Vec::new(), changes: Vec::new(), ops: Vec::new() })
    }

    fn settled(&self, queue: KeptId, ranges: &[Ranges]) {
        settle(&mut self.0.lock().unwrap(), queue, ranges);
    }

    fn progressed(&self, settled: &[(KeptId, Ranges)], delivered: &[(KeptId, Ranges)], counts: bool) {
        let mut inner = self.0.lock().unwrap();
        inner.counted += usize::from(counts);
        inner.progressed.push(settled.to_vec());
        for (queue, range) in delivered {
            let queue = inner.queues.entry(queue.0).or_default();
            for (_, message) in queue.messages.range_mut(range.first..range.first + u64::from(range.count)) {
                message.deliveries += 1;
            }
        }
        settled.iter().for_each(|(queue, range)| settle(&mut inner, *queue, &[*range]));
    }

    fn when_safe(&self, waiter: &Arc<dyn Written>, token: u64) {
        let mut inner = self.0.lock().unwrap();
        if inner.slow {
            inner.waiting.push((waiter.clone(), token));
            return;
        }
        drop(inner);
        waiter.written(token, Ok(()));
    }

    fn next_id(&self) -> KeptId {
        let mut inner = self.0.lock().unwrap();
        inner.last_id += 1;
        KeptId(inner.last_id)
    }

    fn kept(&self, queue: KeptId) -> Kept {
        let inner = self.0.lock().unwrap();
        let Some(queue) = inner.queues.get(&queue.0) else { return Kept::default() };
        let first = queue.messages.keys().next().copied().unwrap_or(queue.next);
        Kept { messages: queue.messages.len() as u64, first, next: queue.next }
    }

    fn count(&self, queue: KeptId, numbers: Range<u64>) -> u64 {
        let inner = self.0.lock().unwrap();
        inner.queues.get(&queue.0).map_or(0, |queue| queue.messages.range(numbers).count() as u64)
    }

    fn read(
        &self,
        queue: KeptId,
        from: u64,
        bytes_max: usize,
        each: &mut dyn FnMut(Stored<'_>),
    ) -> Option<u64> {
        let call = self.2.lock().unwrap().take();
        if let Some(call) = call {
            call(from);
            *self.2.lock().unwrap() = Some(call);
        }
        let mut inner = self.0.lock().unwrap();
        inner.reads += 1;
        let inner = &*inner;
        let mut bytes = 0;
        for (sequence, found) in inner.queues.get(&queue.0)?.messages.range(from..) {
            if bytes >= bytes_max {
                return Some(*sequence);
            }
            let view = found.message.view();
            bytes += view.body.len().max(1);
            let held = found.held.as_ref().map(|held| HeldAs {
                due_ms: held.due_ms,
                exchange: &held.exchange,
                resume: held.resume,
                hops: held.hops,
            });
            let is_later = inner.short_from.is_some_and(|from| *sequence >= from);
            each(Stored {
                sequence: *sequence,
                message: (!is_later && !inner.damaged.contains(sequence)).then_some(view),
                is_later,
                redelivered: found.of_page.is_none_or(|(redelivered, _)| redelivered),
                deliveries: found.deliveries,
                dead_lettered: found.dead_lettered,
                came_ms: found.came_ms,
                held,
                is_kept: found.of_page.is_some_and(|(_, is_kept)| is_kept),
            });
        }
        None
    }

    fn suspicion(&self, of: KeptId) -> Option<Suspicion> {
        let inner = self.0.lock().unwrap();
        inner.suspicion.clone().filter(|(queue, _)| *queue == of.0).map(|(_, suspicion)| suspicion)
    }

    fn handing_out(&self, _: KeptId, sequence: u64) {
        let told = &mut self.0.lock().unwrap().handed_out;
        if told.is_empty() {
            told.push(Vec::new());
        }
        told.last_mut().unwrap().push(sequence);
    }

    fn handed_out(&self) {
        self.0.lock().unwrap().handed_out.push(Vec::new());
    }

    fn takes_pages(&self) -> bool {
        self.admit().is_ok()
    }

    fn page(&self, messages: &mut dyn Iterator<Item = Paged<'_>>) -> Option<KeptId> {
        self.admit().ok()?;
        let (id, mut page) = (self.next_id(), Queue::default());
        for Paged { sequence, message, noted, redelivered, is_kept } in messages {
            let Noted { dead_lettered, came_ms } = noted;
            let of_page = Some((redelivered, is_kept));
            let message = Message { dead_lettered, came_ms, of_page, ..Message::of(&message) };
            page.messages.insert(sequence, message);
        }
        let mut inner = self.0.lock().unwrap();
        inner.queues.insert(id.0, page);
        inner.pages.insert(id.0);
        inner.pages_written += 1;
        Some(id)
    }

    fn drop_pages(&self, pages: &[KeptId]) {
        let mut inner = self.0.lock().unwrap();
        for page in pages {
            assert!(
                inner.pages.remove(&page.0) && inner.queues.remove(&page.0).is_some(),
                "it is dropped once"
            );
        }
    }

    fn topology(&self, vhost: &Name, each: &mut dyn FnMut(Topology<'_>)) {
        let inner = self.0.lock().unwrap();
        let of = |name: &Name| name == vhost;
        for (_, kept) in inner.exchanges.iter().filter(|((name, _), _)| of(name)) {
            let OwnedExchange { id, spec, arguments, types } = kept;
            each(Topology::Exchange(KeptExchange { id: *id, spec, arguments, types }));
        }
        let queues = inner.declared.iter().filter(|((name, _), _)| of(name));
        queues.for_each(|(_, (id, spec))| each(Topology::Queue(*id, spec)));
        let bindings = inner.bindings.iter().filter(|(name, _)| of(name));
        bindings.for_each(|(_, binding)| each(Topology::Binding(binding.spec())));
        if let Some(id) = inner.holds.get(vhost) {
            each(Topology::Holds(*id));
        }
    }
}

/// That a key has a value now.
pub fn set(key: String) -> Change {
    let (vhost, exchange) = (super::name("/"), super::name("x"));
    let holder = StateHolder { vhost, exchange, number: KeptId(0), layer: Default::default() };
    let change = StateChange::Set { key: key.into_bytes().into(), value: Arc::from(&b""[..]), end_ms: None };
    Change { holder: Arc::new(holder), change }
}
