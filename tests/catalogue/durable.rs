//! What the shipped types keep outlives the process where their exchange is durable, and is not lost where a
//! disk fails. The store and the types are the real ones.

use leveret_amqp091::form::FORM;
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec, MemoryAccount, Publish, Published, Publisher, QueueSpec, Vhost,
    port::{Layer, Wake},
    store::{
        Aside, Change, Durability, Group, HeldAs, Kept, KeptId, LargeBody, Ranges, StateChange, StateHolder,
        Store, StoreFailure, Stored, Target, Topology, TopologyChange, Written,
    },
};
use leveret_model::{MessageView, Name, Refusal, Table, Value};
use leveret_plugin::{
    Host, HostConfig, Policies, Scope, Worker,
    policy::{Capability, PluginRules, PolicyRules},
    registry::{GoTo, PinTo},
};
use leveret_server::store::DiskStore;
use leveret_testkit::{guests, scratch::ScratchDirectory};
use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

const BY: ConnectionId = ConnectionId(1);

/// The real store, which can be told to be full, and counts what types have kept.
struct Disk {
    folder: ScratchDirectory,
    store: Mutex<Option<DiskStore>>,
    full: AtomicBool,
    changes: Arc<AtomicUsize>,
}

/// A group of it.
struct Counting {
    group: Box<dyn Group>,
    changes: Arc<AtomicUsize>,
}

impl Disk {
    fn new() -> Arc<Self> {
        let folder = ScratchDirectory::new("catalogue");
        Arc::new(Self {
            folder,
            store: Mutex::default(),
            full: AtomicBool::default(),
            changes: Arc::default(),
        })
    }

    /// Stops what has the store open, and opens it again.
    fn open_again(&self) {
        let mut store = self.store.lock().unwrap();
        store.take().inspect(DiskStore::close);
        let config = leveret_store::Config {
            segment_bytes: 1 << 20,
            group_bytes_max: 512 * 1024,
            batch_bytes: 256 * 1024,
            ..leveret_store::Config::default()
        };
        *store = Some(DiskStore::open_with(self.folder.path(), config).unwrap());
    }

    fn store(&self) -> DiskStore {
        self.store.lock().unwrap().clone().unwrap()
    }

    fn is_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    fn len(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }
}

impl Store for Disk {
    fn keeps(&self) -> bool {
        true
    }

    fn admit(&self) -> Result<(), StoreFailure> {
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreFailure(Arc::from("no space left on the disk")));
        }
        self.store().admit()
    }

    fn append(&self, group: &[Change]) -> Result<(), StoreFailure> {
        self.admit()?;
        self.changes.fetch_add(group.len(), Ordering::SeqCst);
        self.store().append(group)
    }

    fn load(&self, holder: &StateHolder) -> Result<Vec<StateChange>, StoreFailure> {
        self.store().load(holder)
    }

    fn load_aside(&self, holder: &StateHolder) -> Result<Vec<Aside>, StoreFailure> {
        self.store().load_aside(holder)
    }

    fn group(&self) -> Box<dyn Group> {
        Box::new(Counting { group: self.store().group(), changes: self.changes.clone() })
    }

    fn settled(&self, queue: KeptId, ranges: &[Ranges]) {
        self.store().settled(queue, ranges);
    }

    fn progressed(&self, settled: &[(KeptId, Ranges)], delivered: &[(KeptId, Ranges)]) {
        self.store().progressed(settled, delivered);
    }

    fn when_safe(&self, waiter: &Arc<dyn Written>, token: u64) {
        self.store().when_safe(waiter, token);
    }

    fn next_id(&self) -> KeptId {
        self.store().next_id()
    }

    fn kept(&self, queue: KeptId) -> Kept {
        self.store().kept(queue)
    }

    fn count(&self, queue: KeptId, numbers: Range<u64>) -> u64 {
        self.store().count(queue, numbers)
    }

    fn read(
        &self,
        queue: KeptId,
        from: u64,
        bytes_max: usize,
        each: &mut dyn FnMut(Stored<'_>),
    ) -> Option<u64> {
        self.store().read(queue, from, bytes_max, each)
    }

    fn topology(&self, vhost: &Name, each: &mut dyn FnMut(Topology<'_>)) {
        self.store().topology(vhost, each);
    }
}

impl Group for Counting {
    fn is_empty(&self) -> bool {
        self.group.is_empty()
    }

    fn enqueue(
        &mut self,
        message: &MessageView<'_>,
        large: Option<&Arc<LargeBody>>,
        dead_lettered: bool,
        targets: &[Target],
    ) {
        self.group.enqueue(message, large, dead_lettered, targets);
    }

    fn hold(&mut self, message: &MessageView<'_>, dead_lettered: bool, held: HeldAs<'_>, target: Target) {
        self.group.hold(message, dead_lettered, held, target);
    }

    fn settle(&mut self, queue: KeptId, ranges: &[Ranges]) {
        self.group.settle(queue, ranges);
    }

    fn change(&mut self, changes: &[Change]) {
        self.changes.fetch_add(changes.len(), Ordering::SeqCst);
        self.group.change(changes);
    }

    fn topology(&mut self, vhost: &Name, change: TopologyChange<'_>) {
        self.group.topology(vhost, change);
    }

    fn submit(&mut self, durability: Durability, waiter: Option<(&Arc<dyn Written>, u64)>) {
        self.group.submit(durability, waiter);
    }
}

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn table(fields: &[(&str, Value)]) -> Table {
    fields.iter().map(|(field, value)| (name(field), value.clone())).collect()
}

/// A broker's life: from a start to the next.
struct Life {
    host: Arc<Host>,
    worker: Worker,
    vhost: Arc<Vhost>,
}

impl Life {
    fn begin(disk: &Arc<Disk>) -> Self {
        disk.open_again();
        let store: Arc<dyn Store> = disk.clone();
        let mut rules = PolicyRules::default();
        let grants = Some([Capability::KeyValue].into_iter().collect());
        rules.plugins.insert("stateful".into(), PluginRules { grants, ..PluginRules::default() });
        let policies = Arc::new(Policies::new(rules).unwrap());
        let kept_dir = Some(disk.folder.path().join("kept"));
        let config = HostConfig {
            policies,
            form: Some(FORM),
            store: store.clone(),
            kept_dir,
            ..HostConfig::default()
        };
        let host = Host::new(config).unwrap();
        let mut worker = host.worker(0);
        let memory = Arc::new(MemoryAccount::new(1 << 30));
        let vhost = Vhost::kept_in(store, name("/"), memory, &mut worker).unwrap();
        Self { host, worker, vhost }
    }

    /// The same, with a type that is declared, unless it is there, and a queue.
    fn with(disk: &Arc<Disk>, type_name: &str, arguments: &[(&str, Value)]) -> Self {
        let mut life = Self::begin(disk);
        life.declare(type_name, true, arguments).unwrap();
        life.bind("q", "k");
        life
    }

    /// The same with the plugin that counts its messages, whose file is of these versions in turn.
    fn counting(disk: &Arc<Disk>, versions: &[u8]) -> Self {
        let mut life = Self::begin(disk);
        versions.iter().for_each(|version| life.deploy(*version).unwrap());
        life.declare("x-stateful", true, &[]).unwrap();
        life.bind("q", "k");
        life
    }

    /// Publishes so many messages.
    fn count_more(&mut self, messages: usize) {
        (0..messages).for_each(|_| assert_eq!(self.publish("k", "1"), Published::Routed));
    }

    /// How many messages it says that it counted.
    fn counted(&mut self) -> u64 {
        let exchange = self.vhost.exchange(b"x").unwrap();
        let shown = format!("{:?}", self.worker.info(&exchange));
        // After its own version.
        let mut numbers = shown.split("Text(\"").filter_map(|part| part.split('"').next()?.parse().ok());
        numbers.nth(1).unwrap_or_else(|| panic!("{shown}"))
    }

    /// Goes back to the version before.
    fn roll_back(&self) {
        self.host.registry().rollback(&Scope::Global, "stateful").unwrap();
    }

    fn declare(
        &mut self,
        type_name: &str,
        durable: bool,
        arguments: &[(&str, Value)],
    ) -> Result<(), Refusal> {
        let spec = ExchangeSpec {
            name: name("x"),
            type_name: name(type_name),
            durable,
            auto_delete: false,
            internal: false,
            arguments: table(arguments),
        };
        self.vhost.declare_exchange(&mut self.worker, spec).map(drop)
    }

    /// The file with the plugin that counts its messages is of that version now. Gives why it is refused.
    fn deploy(&self, version: u8) -> Result<(), String> {
        self.deploy_file(version, &[])
    }

    /// The same with a section more.
    fn deploy_file(&self, version: u8, section: &[u8]) -> Result<(), String> {
        let mut component = std::fs::read(guests::component(&format!("stateful_v{version}"))).unwrap();
        component.extend_from_slice(section);
        let loaded = self.host.registry().offer(Path::new("stateful.wasm"), &component);
        loaded.map(drop).map_err(|error| error.to_string())
    }

    fn bind(&mut self, queue: &str, key: &str) {
        self.vhost.declare_queue(QueueSpec { name: name(queue), ..QueueSpec::default() }, BY).unwrap();
        let to = BindTo::Queue(queue.as_bytes());
        self.vhost.bind(&mut self.worker, b"x", to, key.as_bytes(), Table::new(), BY).unwrap();
    }

    /// Publishes with this id in the header `x-deduplication-header`.
    fn publish(&mut self, key: &str, id: &str) -> Published {
        let field = [&b"\x16x-deduplication-headerS"[..], &(id.len() as u32).to_be_bytes(), id.as_bytes()];
        let field = field.concat();
        let properties = [&[0x20, 0, 0, 0, 0, field.len() as u8][..], &field].concat();
        let message = MessageView {
            exchange: b"x",
            routing_key: key.as_bytes(),
            form: FORM,
            properties: &properties,
            body: id.as_bytes(),
            publisher: None,
        };
        let batch = [Publish { channel: 1, message, mandatory: false }];
        let (mut outcomes, waker): (_, Arc<dyn Wake>) = (Vec::new(), Arc::new(Nobody));
        Publisher::default().publish(&self.vhost, &mut self.worker, &batch, &mut outcomes, &waker);
        outcomes.pop().unwrap()
    }

    fn count(&self, queue: &str) -> u64 {
        self.vhost.check_queue(queue.as_bytes(), BY).unwrap().messages
    }
}

fn full() -> Published {
    Published::Unavailable(Arc::from("the store: no space left on the disk"))
}

fn deduplicates(persistence: &str) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Text(text.into());
    vec![
        ("x-cache-size", Value::Integer(100)),
        ("x-cache-persistence", text(persistence)),
        ("x-inner-type", text("direct")),
    ]
}

#[test]
fn deduplication_loses_nothing_and_forgets_nothing_when_the_disk_fails() {
    let disk = Disk::new();
    let mut life = Life::with(&disk, "x-message-deduplication", &deduplicates("disk"));
    assert_eq!(life.publish("k", "1"), Published::Routed);
    disk.is_full(true);
    assert_eq!([life.publish("k", "2"), life.publish("k", "2")], [full(), full()]);
    assert_eq!(life.publish("k", "1"), Published::Dropped, "what was seen stays seen");
    disk.is_full(false);
    assert_eq!(life.publish("k", "2"), Published::Routed, "it is no duplicate of what was refused");
    assert_eq!(life.publish("k", "2"), Published::Dropped);
    assert_eq!(life.count("q"), 2);
    drop(life);

    let mut life = Life::with(&disk, "x-message-deduplication", &deduplicates("disk"));
    let again = ["1", "2", "3"].map(|id| life.publish("k", id));
    assert_eq!(again, [Published::Dropped, Published::Dropped, Published::Routed]);
}

#[test]
fn what_goes_because_there_are_too_many_goes_from_the_disk_too() {
    let disk = Disk::new();
    let mut life = Life::with(&disk, "x-message-deduplication", &deduplicates("disk"));
    for id in 0..300 {
        assert_eq!(life.publish("k", &id.to_string()), Published::Routed);
    }
    let holder = life.vhost.exchange(b"x").unwrap().state_holder(Layer::FRONT).unwrap();
    drop(life);
    disk.open_again();
    let kept = disk.load(&holder).unwrap();
    let values = kept.iter().filter(|change| matches!(change, StateChange::Set { .. })).count();
    // The last one that went was gone only when it was told of.
    assert!((100..=101).contains(&values), "{values} of 300 with room for 100");
}

#[test]
fn what_need_not_outlive_the_process_is_not_written() {
    for (durable, persistence) in [(false, "disk"), (true, "memory")] {
        let disk = Disk::new();
        for _ in 0..2 {
            let mut life = Life::begin(&disk);
            life.declare("x-message-deduplication", durable, &deduplicates(persistence)).unwrap();
            life.bind("q", "k");
            assert_eq!(life.publish("k", "1"), Published::Routed);
            assert_eq!(life.publish("k", "1"), Published::Dropped);
        }
        assert_eq!(disk.len(), 0, "{durable} {persistence}");
    }
}

#[test]
fn messages_kept_for_later_bindings_are_there_after_a_start() {
    let history = [("x-recent-history-length", Value::Integer(2))];
    for (type_name, arguments, expected) in [("x-recent-history", &history[..], 2), ("x-lvc", &[], 3)] {
        let disk = Disk::new();
        let mut life = Life::with(&disk, type_name, arguments);
        for (key, id) in [("a", "1"), ("b", "2"), ("k", "3"), ("k", "4")] {
            assert_ne!(life.publish(key, id), full());
        }
        disk.is_full(true);
        assert_eq!(life.publish("k", "5"), full(), "{type_name}");
        disk.is_full(false);
        drop(life);

        let mut life = Life::begin(&disk);
        life.declare(type_name, true, arguments).unwrap();
        for key in ["a", "b", "k"] {
            life.bind("late", key);
        }
        let once = if type_name == "x-lvc" { 1 } else { 3 };
        assert_eq!(life.count("late"), expected * once, "{type_name}");
    }
}

#[test]
fn what_a_deleted_exchange_kept_never_comes_back() {
    let disk = Disk::new();
    let begin = || Life::with(&disk, "x-message-deduplication", &deduplicates("disk"));
    let mut life = begin();
    let declare = |life: &mut Life| life.declare("x-message-deduplication", true, &deduplicates("disk"));
    assert_eq!(life.publish("k", "1"), Published::Routed);
    disk.is_full(true);
    life.vhost.delete_exchange(&mut life.worker, b"x", false).unwrap();
    let refused = declare(&mut life).unwrap_err().to_string();
    assert!(refused.contains("the store: no space left on the disk"), "{refused}");
    disk.is_full(false);
    declare(&mut life).unwrap();
    life.bind("q", "k");
    assert_eq!(life.publish("k", "1"), Published::Routed, "another exchange of the same name");
    drop(life);
    let mut life = begin();
    assert_eq!(life.publish("k", "1"), Published::Dropped);
}

#[test]
fn state_that_a_version_migrated_is_there_after_a_start_in_its_form() {
    let disk = Disk::new();
    let mut life = Life::counting(&disk, &[1]);
    life.count_more(3);
    disk.is_full(true);
    let refused = life.deploy(2).unwrap_err();
    assert!(refused.contains("the store: no space left on the disk"), "{refused}");
    disk.is_full(false);
    life.count_more(1);
    drop(life);

    // The file is another one when the broker starts: what is there is migrated.
    let mut life = Life::counting(&disk, &[1]);
    life.count_more(1);
    life.deploy(2).unwrap();
    life.count_more(1);
    drop(life);

    let mut life = Life::counting(&disk, &[2]);
    life.count_more(1);
    assert_eq!(life.counted(), 7);
}

#[test]
fn after_a_start_one_goes_back_from_a_version_that_migrates_as_before() {
    let disk = Disk::new();
    let mut life = Life::counting(&disk, &[1]);
    life.count_more(3);
    life.deploy(2).unwrap();
    life.count_more(1);
    assert_eq!(life.counted(), 4);
    drop(life);

    let mut life = Life::counting(&disk, &[2]);
    let exchange = life.vhost.exchange(b"x").unwrap();
    let to = PinTo::Named(String::from("1"));
    let refused = life.host.registry().pin(&exchange, &to).unwrap_err().to_string();
    assert!(refused.contains("its state was migrated"), "{refused}");
    life.count_more(1);
    assert_eq!(life.counted(), 5);
    disk.is_full(true);
    let refused = life.host.registry().rollback(&Scope::Global, "stateful").unwrap_err().to_string();
    assert!(refused.contains("the store: no space left on the disk"), "{refused}");
    assert_eq!(life.counted(), 5, "nothing has changed");
    disk.is_full(false);
    life.roll_back();
    assert_eq!(life.counted(), 3, "what the older version left");
    life.count_more(1);
    drop(life);

    // Which is what there is in the next life too, and nothing was left but that.
    let mut life = Life::counting(&disk, &[1]);
    life.count_more(1);
    assert_eq!(life.counted(), 5);
    let holder = life.vhost.exchange(b"x").unwrap().state_holder(Layer::FRONT).unwrap();
    assert!(disk.load_aside(&holder).unwrap().is_empty());
    life.vhost.delete_exchange(&mut life.worker, b"x", false).unwrap();
    assert!(disk.load(&holder).unwrap().is_empty());
}

#[test]
fn after_a_start_an_exchange_that_began_with_the_newer_version_goes_back_to_nothing() {
    let disk = Disk::new();
    let mut life = Life::counting(&disk, &[1, 2]);
    life.count_more(3);
    drop(life);
    let mut life = Life::counting(&disk, &[2]);
    life.roll_back();
    life.count_more(1);
    assert_eq!(life.counted(), 1);
}

#[test]
fn what_a_version_left_goes_with_its_exchange_and_when_it_is_forgotten() {
    let left = |disk: &Disk, life: &Life| {
        let holder = life.vhost.exchange(b"x").unwrap().state_holder(Layer::FRONT).unwrap();
        (disk.load_aside(&holder).unwrap().len(), holder)
    };
    let disk = Disk::new();
    let mut life = Life::counting(&disk, &[1]);
    life.count_more(1);
    life.deploy(2).unwrap();
    life.count_more(1);
    drop(life);
    let mut life = Life::counting(&disk, &[2]);
    let (count, holder) = left(&disk, &life);
    assert_eq!(count, 1);
    life.vhost.delete_exchange(&mut life.worker, b"x", false).unwrap();
    assert!(disk.load_aside(&holder).unwrap().is_empty());

    // Of a plugin three versions are kept: with the fourth the first is forgotten.
    life.deploy(1).unwrap();
    life.declare("x-stateful", true, &[]).unwrap();
    life.bind("q", "k");
    life.count_more(1);
    life.deploy(2).unwrap();
    drop(life);
    let life = Life::counting(&disk, &[2]);
    for (number, expected) in [(0, 1), (1, 1), (2, 0)] {
        // Like the first, in other bytes.
        if number > 0 {
            life.deploy_file(1, &[0, 3, 1, b'n', number]).unwrap();
        }
        assert_eq!(left(&disk, &life).0, expected, "{number}");
    }
}

#[test]
fn after_going_back_and_forth_the_store_knows_who_wrote_last() {
    let disk = Disk::new();
    let mut life = Life::counting(&disk, &[1, 2]);
    life.count_more(3);
    life.roll_back();
    life.host.registry().go_to(&Scope::Global, "stateful", &GoTo::Newest).unwrap();
    life.count_more(2);
    drop(life);

    let mut life = Life::counting(&disk, &[2]);
    life.count_more(1);
    assert_eq!(life.counted(), 3);
}
