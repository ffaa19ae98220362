//! The store with real files.

mod added;
mod health;
mod look;
mod messages;
mod newer;
mod pages;
mod state;
mod suspects;
mod topology;

use super::*;
use leveret_amqp091::form::FORM;
use leveret_broker::store::{KeptExchange, Noted, Target, TopologyChange};
use leveret_broker::{ExchangeSpec, QueueSpec};
use leveret_model::{MessageView, Table, Value};
use leveret_testkit::scratch::ScratchDirectory;
use parking_lot::Condvar;
use std::collections::BTreeMap;

/// Small enough to meet every end of a group, large enough for a body apart.
fn config() -> Config {
    Config {
        segment_bytes: 1 << 20,
        own_segment_bytes: 700 * 1024,
        batch_bytes: 64 * 1024,
        reserve_segments: 1,
        ..Config::default()
    }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn table(fields: &[(&str, Value)]) -> Table {
    fields.iter().map(|(field, value)| (name(field), value.clone())).collect()
}

/// A folder, and the store that has it open.
struct Life {
    // Ends before its folder is taken away.
    store: Option<DiskStore>,
    folder: ScratchDirectory,
    config: Config,
}

impl Life {
    fn begin() -> Self {
        Self::begin_with(config())
    }

    fn begin_with(config: Config) -> Self {
        let mut life = Self { folder: ScratchDirectory::new("store"), store: None, config };
        life.open(now_ms);
        life
    }

    fn open(&mut self, now_ms: fn() -> u64) {
        let folder = self.folder.path().join(FOLDER);
        self.store = Some(DiskStore::open_at(&folder, self.config.clone(), now_ms).unwrap());
    }

    fn store(&self) -> &DiskStore {
        self.store.as_ref().unwrap()
    }

    /// As after a clean stop.
    fn restart(&mut self) {
        self.restart_at(now_ms);
    }

    fn restart_at(&mut self, now_ms: fn() -> u64) {
        self.store.take().unwrap().close();
        self.open(now_ms);
    }

    /// As after a crash of the process once all is written.
    fn crash(&mut self) {
        self.crash_at(now_ms);
    }

    fn crash_at(&mut self, now_ms: fn() -> u64) {
        safe(self.store());
        let store = self.store.take().unwrap();
        // Two stores in one folder would take each other's files.
        assert_eq!(Arc::strong_count(&store.shared), 1, "somebody holds the store");
        drop(store);
        self.open(now_ms);
    }
}

/// Somebody who waits.
#[derive(Default)]
struct Waiting(Mutex<BTreeMap<u64, Result<(), StoreFailure>>>, Condvar);

impl Written for Waiting {
    fn written(&self, token: u64, outcome: Result<(), StoreFailure>) {
        assert!(self.0.lock().insert(token, outcome).is_none(), "told once");
        self.1.notify_all();
    }
}

impl Waiting {
    fn wait(&self, token: u64) -> Result<(), StoreFailure> {
        let mut told = self.0.lock();
        self.1.wait_while(&mut told, |told| !told.contains_key(&token));
        told[&token].clone()
    }
}

/// Waits until all is safe that was handed over.
fn safe(store: &DiskStore) {
    let waiting = Arc::new(Waiting::default());
    let to: Arc<dyn Written> = waiting.clone();
    store.when_safe(&to, 7);
    assert_eq!(waiting.wait(7), Ok(()));
}

/// Hands a group over, and waits until it is safe.
fn commit(group: &mut dyn Group, durability: Durability) -> Result<(), StoreFailure> {
    let waiting = Arc::new(Waiting::default());
    let to: Arc<dyn Written> = waiting.clone();
    group.submit(durability, Some((&to, 1)));
    assert!(group.is_empty());
    waiting.wait(1)
}

fn message(body: &[u8]) -> MessageView<'_> {
    let (exchange, routing_key) = (&b"x"[..], &b"key"[..]);
    MessageView { exchange, routing_key, form: FORM, properties: &[0, 0], body, publisher: None }
}

fn target(queue: KeptId, sequence: u64) -> Target {
    Target { queue, sequence }
}

fn queue_spec(text: &str) -> QueueSpec {
    QueueSpec { name: name(text), durable: true, ..QueueSpec::default() }
}

/// An exchange that has the arguments and the type of its declaration.
fn as_declared(spec: &ExchangeSpec) -> KeptExchange<'_> {
    KeptExchange { id: KeptId(0), spec, arguments: &spec.arguments, types: &[] }
}

fn exchange_spec(text: &str) -> ExchangeSpec {
    ExchangeSpec {
        name: name(text),
        type_name: name("topic"),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    }
}

/// Declares a queue.
fn declare(store: &DiskStore, text: &str) -> KeptId {
    let id = store.next_id();
    let mut group = store.group();
    group.topology(&name("/"), TopologyChange::Declared(Topology::Queue(id, &queue_spec(text))));
    commit(&mut *group, Durability::Always).unwrap();
    id
}

/// What is known of a message: its number, body, whether it came before, how often, died, and where it is held.
type Seen = (u64, Option<Vec<u8>>, bool, u16, bool, Option<(u64, String, u8, u8)>);

fn read_all(store: &DiskStore, queue: KeptId, bytes_max: usize) -> Vec<Seen> {
    let (mut from, mut seen) = (Some(0), Vec::new());
    while let Some(next) = from {
        from = store.read(queue, next, bytes_max, &mut |stored| {
            let body = stored.message.map(|message| {
                assert_eq!((message.exchange, message.routing_key), (&b"x"[..], &b"key"[..]));
                assert_eq!((message.properties, message.form.protocol()), (&[0, 0][..], "amqp-0-9-1"));
                message.body.to_vec()
            });
            let held =
                stored.held.map(|held| (held.due_ms, held.exchange.to_text(), held.resume.0, held.hops));
            seen.push((
                stored.sequence,
                body,
                stored.redelivered,
                stored.deliveries,
                stored.dead_lettered,
                held,
            ));
        });
    }
    seen
}
