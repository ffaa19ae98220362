//! A broker without its connections, from a start to the next: the broker's own library with the real plugins, on the
//! real store.

use crate::disk::Disk;
use leveret_amqp091::form::FORM;
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec, MemoryAccount, Publish, Published, Publisher, QueueSpec, Vhost,
    port::Wake, store::Store,
};
use leveret_model::{MessageView, Name, Refusal, Table, Value};
use leveret_plugin::{
    Host, HostConfig, Policies, Scope, Worker,
    policy::{Capability, Limit, PluginRules, PolicyRules},
};
use leveret_testkit::guests;
use std::{path::Path, sync::Arc};

/// How many messages a plugin may have held.
pub(crate) const HELD_MAX: u64 = 3;

const BY: ConnectionId = ConnectionId(1);

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(crate) fn table(fields: &[(&str, Value)]) -> Table {
    fields.iter().map(|(field, value)| (name(field), value.clone())).collect()
}

/// A broker's life: from a start to the next.
pub(crate) struct Life {
    pub(crate) host: Arc<Host>,
    pub(crate) worker: Worker,
    pub(crate) vhost: Arc<Vhost>,
}

impl Life {
    pub(crate) fn begin(disk: &Arc<Disk>) -> Self {
        disk.open_again();
        let store: Arc<dyn Store> = disk.clone();
        let mut rules = PolicyRules::default();
        for plugin in ["stateful", "obeys", "x-delayed-message"] {
            let grants = Some(Capability::ALL.into_iter().collect());
            let limits = [(Limit::HeldMessages, HELD_MAX)].into_iter().collect();
            rules.plugins.insert(plugin.into(), PluginRules { grants, limits, ..PluginRules::default() });
        }
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
    pub(crate) fn with(disk: &Arc<Disk>, type_name: &str, arguments: &[(&str, Value)]) -> Self {
        let mut life = Self::begin(disk);
        life.declare(type_name, true, arguments).unwrap();
        life.bind("q", "k");
        life
    }

    /// The same with the plugin that counts its messages, whose file is of these versions in turn.
    pub(crate) fn counting(disk: &Arc<Disk>, versions: &[u8]) -> Self {
        let mut life = Self::begin(disk);
        versions.iter().for_each(|version| life.deploy(*version).unwrap());
        life.declare("x-stateful", true, &[]).unwrap();
        life.bind("q", "k");
        life
    }

    /// Publishes so many messages.
    pub(crate) fn count_more(&mut self, messages: usize) {
        (0..messages).for_each(|_| assert_eq!(self.publish("k", "1"), Published::Routed));
    }

    /// How many messages it says that it counted.
    pub(crate) fn counted(&mut self) -> u64 {
        let exchange = self.vhost.exchange(b"x").unwrap();
        let shown = format!("{:?}", self.worker.info(&exchange));
        // After its own version.
        let mut numbers = shown.split("Text(\"").filter_map(|part| part.split('"').next()?.parse().ok());
        numbers.nth(1).unwrap_or_else(|| panic!("{shown}"))
    }

    /// Goes back to the version before.
    pub(crate) fn roll_back(&self) {
        self.host.registry().rollback(&Scope::Global, "stateful").unwrap();
    }

    pub(crate) fn declare(
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
    pub(crate) fn deploy(&self, version: u8) -> Result<(), String> {
        self.deploy_file(version, &[])
    }

    /// The same with a section more.
    pub(crate) fn deploy_file(&self, version: u8, section: &[u8]) -> Result<(), String> {
        let mut component = std::fs::read(guests::component(&format!("stateful_v{version}"))).unwrap();
        component.extend_from_slice(section);
        self.offer("stateful", &component)
    }

    /// The plugin that does what routing keys say.
    pub(crate) fn deploy_obeys(&self) {
        let component = std::fs::read(guests::component("obeys")).unwrap();
        self.offer("obeys", &component).unwrap();
    }

    fn offer(&self, plugin: &str, component: &[u8]) -> Result<(), String> {
        let file = format!("{plugin}.wasm");
        let loaded = self.host.registry().offer(Path::new(&file), component);
        loaded.map(drop).map_err(|error| error.to_string())
    }

    pub(crate) fn queue(&self, queue: &str) {
        self.vhost.declare_queue(QueueSpec { name: name(queue), ..QueueSpec::default() }, BY).unwrap();
    }

    pub(crate) fn bind(&mut self, queue: &str, key: &str) {
        self.queue(queue);
        let to = BindTo::Queue(queue.as_bytes());
        self.vhost.bind(&mut self.worker, b"x", to, key.as_bytes(), Table::new(), BY).unwrap();
    }

    /// Publishes a persistent message with this id in the header `x-deduplication-header`.
    pub(crate) fn publish(&mut self, key: &str, id: &str) -> Published {
        let field = [&b"\x16x-deduplication-headerS"[..], &(id.len() as u32).to_be_bytes(), id.as_bytes()];
        self.publish_with(key, &field.concat(), id.as_bytes())
    }

    /// Publishes a persistent message with this field among its headers.
    fn publish_with(&mut self, key: &str, field: &[u8], body: &[u8]) -> Published {
        let properties = [&[0x30, 0, 0, 0, 0, field.len() as u8][..], field, &[2]].concat();
        let message = MessageView {
            exchange: b"x",
            routing_key: key.as_bytes(),
            form: FORM,
            properties: &properties,
            body,
            publisher: None,
        };
        let batch = [Publish { channel: 1, message, mandatory: false, more_keys: None }];
        let (mut outcomes, waker): (_, Arc<dyn Wake>) = (Vec::new(), Arc::new(Nobody));
        Publisher::default().publish(&self.vhost, &mut self.worker, &batch, &mut outcomes, &waker);
        outcomes.pop().unwrap()
    }

    /// Publishes a persistent message that is to be held for so long.
    pub(crate) fn publish_delayed(&mut self, key: &str, delay_ms: u32) -> Published {
        let field = [&b"\x07x-delayI"[..], &delay_ms.to_be_bytes()].concat();
        self.publish_with(key, &field, b"delayed")
    }

    pub(crate) fn count(&self, queue: &str) -> u64 {
        self.vhost.check_queue(queue.as_bytes(), BY).unwrap().messages
    }
}
