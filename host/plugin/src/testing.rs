//! A guest by hand for the tests of this crate, and a vhost whose exchanges it serves.
//!
//! The guest matches keys exactly, and does evil on request: see `testing_guest.wat`.

use crate::{
    host::{Host, HostConfig},
    policy::{Policies, PolicyRules},
    registry::TypeState,
    scope::Scope,
    worker::Worker,
};
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec, MemoryAccount, QueueSpec, Vhost,
    exchange::Exchange,
    port::{Answer, Layer, Routed, Router, Wake},
};
use leveret_model::{
    Form, HeaderSelection, MessageView, Name, Patch, PatchError, Property, Refusal, Table, flat,
};
use std::{
    os::unix::fs::DirBuilderExt as _,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What the guest is made with.
#[derive(Clone, Copy)]
pub(crate) struct Guest {
    pub(crate) type_name: &'static str,
    pub(crate) version: u8,
    pub(crate) pure: bool,
    pub(crate) independent: bool,
    /// Only the newest binding of a key gets its messages, whatever it claims.
    pub(crate) newest_only: bool,
    pub(crate) batch: bool,
    /// Every binding gets every message.
    pub(crate) fanout: bool,
    /// Six bytes: the key that it refuses to bind.
    pub(crate) refuses: &'static str,
    /// Bytes of padding, to make the file large.
    pub(crate) padding_bytes: usize,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            type_name: "x-test",
            version: 1,
            pure: true,
            independent: true,
            newest_only: false,
            batch: true,
            fanout: false,
            refuses: "refuse",
            padding_bytes: 0,
        }
    }
}

impl Guest {
    pub(crate) fn component(self) -> Vec<u8> {
        self.component_of(&|wit| wit, &|wat| wat)
    }

    /// The guest of another contract, by another text.
    pub(crate) fn component_of(
        self,
        edit_wit: &dyn Fn(String) -> String,
        edit_wat: &dyn Fn(String) -> String,
    ) -> Vec<u8> {
        let mut module = wat::parse_str(
            edit_wat(String::from(include_str!("testing_guest.wat")))
                .replace("$$NAME", self.type_name)
                .replace("$$LENGTH", &self.type_name.len().to_string())
                .replace("$$REFUSE", self.refuses)
                .replace("$$VERSION", &self.version.to_string())
                .replace("$$PURE", if self.pure { "\\01" } else { "\\00" })
                .replace("$$INDEPENDENT", if self.independent { "1" } else { "0" })
                .replace("$$NEWEST", if self.newest_only { "1" } else { "0" })
                .replace("$$FANOUT", if self.fanout { "1" } else { "0" }),
        )
        .unwrap();
        let mut resolve = wit_parser::Resolve::default();
        // One file of both, so with one package line.
        let types = include_str!("../../../wit/0.1.0/types.wit");
        let interfaces = include_str!("../../../wit/0.1.0/exchange-type.wit");
        let interfaces = interfaces.replace("package leveret:routing@0.1.0;", "");
        let package = resolve.push_str("contract.wit", &edit_wit(format!("{types}\n{interfaces}"))).unwrap();
        let world = if self.batch { "exchange-type-batch-plugin" } else { "exchange-type-plugin" };
        let world = resolve.select_world(&[package], Some(world)).unwrap();
        wit_component::embed_component_metadata(
            &mut module,
            &resolve,
            world,
            wit_component::StringEncoding::UTF8,
        )
        .unwrap();
        let mut component = wit_component::ComponentEncoder::default()
            .module(&module)
            .unwrap()
            .validate(true)
            .encode()
            .unwrap();
        if self.padding_bytes > 0 {
            // A custom section of the component: its name has one byte.
            let size = u32::try_from(self.padding_bytes + 2).unwrap();
            component.push(0);
            component
                .extend((0..5).map(|at| (size >> (7 * at)) as u8 & 0x7f | if at < 4 { 0x80 } else { 0 }));
            component.extend([1, b'p']);
            component.resize(component.len() + self.padding_bytes, 0);
        }
        component
    }
}

/// A directory for this user alone, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("leveret-plugin-{}-{number}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A form whose properties are headers, `name=text` each, with `;` between.
pub(crate) struct Plain;
pub(crate) static PLAIN: Plain = Plain;

impl Form for Plain {
    fn protocol(&self) -> &'static str {
        "test"
    }

    fn is_persistent(&self, _: &[u8]) -> bool {
        false
    }

    fn empty(&self) -> &'static [u8] {
        &[]
    }

    fn put_headers(&self, properties: &[u8], selection: &HeaderSelection, out: &mut Vec<u8>) {
        let headers = std::str::from_utf8(properties).unwrap().split(';').filter_map(|h| h.split_once('='));
        let headers: Vec<_> = match selection {
            HeaderSelection::None => Vec::new(),
            HeaderSelection::All => headers.collect(),
            HeaderSelection::Named(names) => {
                let named =
                    |name: &Name| headers.clone().find(|(header, _)| header.as_bytes() == name.as_bytes());
                names.iter().filter_map(named).collect()
            }
        };
        out.extend_from_slice(&(headers.len() as u16).to_le_bytes());
        for (name, text) in headers {
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
            flat::put_string(out, text.as_bytes());
        }
    }

    fn put_property(&self, _properties: &[u8], _property: Property, out: &mut Vec<u8>) {
        out.push(flat::ABSENT);
    }

    fn patch(&self, _properties: &[u8], _patch: &Patch, _out: &mut Vec<u8>) -> Result<(), PatchError> {
        unreachable!("nothing here changes a message")
    }
}

/// Counts how often it was called.
#[derive(Default)]
pub(crate) struct Woken(pub(crate) AtomicUsize);

impl Wake for Woken {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A host with some workers, and a vhost.
pub(crate) struct World {
    pub(crate) host: Arc<Host>,
    pub(crate) workers: Vec<Worker>,
    /// The vhost in which everything is done.
    pub(crate) vhost: Arc<Vhost>,
    /// The others.
    vhosts: Vec<Arc<Vhost>>,
    pub(crate) woken: Arc<Woken>,
}

const BY: ConnectionId = ConnectionId(1);

impl World {
    /// A world in which the guest serves already.
    pub(crate) fn with(guest: Guest, workers: usize) -> Self {
        let world = Self::empty(workers);
        world.offer("guest.wasm", &guest.component()).unwrap();
        world
    }

    pub(crate) fn empty(workers: usize) -> Self {
        Self::of(HostConfig { workers, ..HostConfig::default() })
    }

    /// A world in which these rules hold.
    pub(crate) fn ruled_by(rules: PolicyRules, workers: usize) -> Self {
        let policies = Arc::new(Policies::new(rules).unwrap());
        Self::of(HostConfig { workers, policies, ..HostConfig::default() })
    }

    pub(crate) fn of(config: HostConfig) -> Self {
        let (workers, store) = (config.workers, config.store.clone());
        let host = Host::new(config).unwrap();
        let mut workers: Vec<Worker> = (0..workers).map(|index| host.worker(index)).collect();
        let memory = Arc::new(MemoryAccount::new(1 << 30));
        let vhost = Vhost::kept_in(store, Name::from_static("/"), memory, &mut workers[0]).unwrap();
        Self { host, workers, vhost, vhosts: Vec::new(), woken: Arc::default() }
    }

    /// From now on everything is done in the vhost of that name, which is made if it is not there.
    pub(crate) fn enter(&mut self, name: &str) {
        let known = self.vhosts.iter().position(|vhost| vhost.name().as_bytes() == name.as_bytes());
        let entered = match known {
            Some(place) => self.vhosts.swap_remove(place),
            None if self.vhost.name().as_bytes() == name.as_bytes() => return,
            None => {
                let name = Name::new(name.as_bytes()).unwrap();
                Vhost::new(name, self.vhost.memory().clone(), &mut self.workers[0]).unwrap()
            }
        };
        self.vhosts.push(std::mem::replace(&mut self.vhost, entered));
    }

    /// Offers a file of the vhost of that name alone.
    pub(crate) fn offer_own(
        &self,
        vhost: &str,
        path: &str,
        bytes: &[u8],
    ) -> Result<crate::LoadReport, crate::LoadError> {
        let scope = Scope::Vhost(Name::new(vhost.as_bytes()).unwrap());
        self.host.registry().offer_in(&scope, Path::new(path), bytes)
    }

    /// Takes a file of the vhost of that name away.
    pub(crate) fn remove_own(&self, vhost: &str, path: &str) -> Option<crate::RemoveReport> {
        let scope = Scope::Vhost(Name::new(vhost.as_bytes()).unwrap());
        self.host.registry().remove_in(&scope, Path::new(path))
    }

    pub(crate) fn offer(&self, path: &str, bytes: &[u8]) -> Result<crate::LoadReport, crate::LoadError> {
        self.host.registry().offer(Path::new(path), bytes)
    }

    pub(crate) fn declare(&mut self, worker: usize, exchange: &str) -> Result<(), Refusal> {
        self.declare_with(worker, exchange, "x-test", Table::new())
    }

    pub(crate) fn declare_with(
        &mut self,
        worker: usize,
        exchange: &str,
        type_name: &'static str,
        arguments: Table,
    ) -> Result<(), Refusal> {
        let spec = ExchangeSpec {
            name: Name::new(exchange.as_bytes()).unwrap(),
            type_name: Name::from_static(type_name),
            durable: false,
            auto_delete: false,
            internal: false,
            arguments,
        };
        self.vhost.declare_exchange(&mut self.workers[worker], spec).map(drop)
    }

    pub(crate) fn delete(&mut self, worker: usize, exchange: &str) {
        let router = &mut self.workers[worker];
        self.vhost.delete_exchange(router, exchange.as_bytes(), false).unwrap();
    }

    /// Binds a queue that is named like the key, and declared first.
    pub(crate) fn bind(&mut self, worker: usize, exchange: &str, key: &str) -> Result<(), Refusal> {
        self.bind_to(worker, exchange, key, key)
    }

    pub(crate) fn bind_to(
        &mut self,
        worker: usize,
        exchange: &str,
        key: &str,
        queue: &str,
    ) -> Result<(), Refusal> {
        let spec = QueueSpec {
            name: Name::new(queue.as_bytes()).unwrap(),
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: Table::new(),
        };
        self.vhost.declare_queue(spec, BY)?;
        let router = &mut self.workers[worker];
        let to = BindTo::Queue(queue.as_bytes());
        self.vhost.bind(router, exchange.as_bytes(), to, key.as_bytes(), Table::new(), BY).map(drop)
    }

    pub(crate) fn unbind(&mut self, worker: usize, exchange: &str, key: &str) {
        let router = &mut self.workers[worker];
        let to = BindTo::Queue(key.as_bytes());
        self.vhost.unbind(router, exchange.as_bytes(), to, key.as_bytes(), Table::new(), BY).unwrap();
    }

    pub(crate) fn exchange(&self, name: &str) -> Arc<Exchange> {
        self.vhost.exchange(name.as_bytes()).unwrap()
    }

    /// Routes messages with these keys, as often as it takes; each answer as a text.
    pub(crate) fn route(&mut self, worker: usize, exchange: &str, keys: &[&str]) -> Vec<String> {
        let exchange = self.exchange(exchange);
        route(&mut self.workers[worker], &exchange, keys, &self.woken)
    }

    /// What serves a type, as an operator sees it: whether it is pure, and whether it was found not
    /// to be.
    pub(crate) fn purity(&self, type_name: &str) -> (bool, bool) {
        self.host.wait_for_audit();
        let types = self.host.registry().types();
        match types.into_iter().find(|t| t.name.as_bytes() == type_name.as_bytes()).map(|t| t.state) {
            Some(TypeState::Serving { pure, purity_withdrawn, .. }) => (pure, purity_withdrawn),
            other => panic!("{other:?}"),
        }
    }
}

/// Tests what counts calls. On a busy machine one that took long makes the next ones smaller, or is cut off and made
/// again in the slow lane: then the count says nothing, and all is done once more.
pub(crate) fn undisturbed(make: impl Fn() -> World, test: impl Fn(&mut World)) {
    for _ in 0..50 {
        let mut world = make();
        let tested = panic::catch_unwind(AssertUnwindSafe(|| test(&mut world)));
        match tested {
            Ok(()) => return,
            Err(_) if world.host.registry().any_took_long() => {}
            Err(why) => panic::resume_unwind(why),
        }
    }
    panic!("each time a call took long");
}

/// See [`World::route`].
pub(crate) fn route(
    worker: &mut Worker,
    exchange: &Arc<Exchange>,
    keys: &[&str],
    woken: &Arc<Woken>,
) -> Vec<String> {
    let messages: Vec<MessageView<'_>> = keys.iter().map(|key| message(key.as_bytes())).collect();
    route_messages(worker, exchange, &messages, woken)
}

/// Routes messages, as often as it takes; each answer as a text.
pub(crate) fn route_messages(
    worker: &mut Worker,
    exchange: &Arc<Exchange>,
    messages: &[MessageView<'_>],
    woken: &Arc<Woken>,
) -> Vec<String> {
    let waker: Arc<dyn Wake> = woken.clone();
    let mut answers = vec![Answer::OPEN];
    loop {
        let woken_before = woken.0.load(Ordering::SeqCst);
        let (given, rest) = (answers.len(), &messages[answers.len() - 1..]);
        match worker.route(exchange, Layer::FRONT, &mut rest.iter(), &mut answers, &waker) {
            Routed::Ready => break,
            Routed::Cut => {
                assert!((given + 1..given + rest.len()).contains(&answers.len()), "some, and not all");
                continue;
            }
            Routed::Pending => assert_eq!(answers.len(), given, "nothing is appended"),
        }
        while woken.0.load(Ordering::SeqCst) == woken_before {
            std::thread::yield_now();
        }
    }
    answers.remove(0);
    assert_eq!(answers.len(), messages.len());
    answers.iter().map(text).collect()
}

pub(crate) fn message(routing_key: &[u8]) -> MessageView<'_> {
    MessageView { exchange: b"x", routing_key, form: &PLAIN, properties: &[], body: &[], publisher: None }
}

/// `a,b` for the queues a and b, sorted; else what the answer is.
pub(crate) fn text(answer: &Answer) -> String {
    match answer {
        Answer::Deliver(routes) => {
            let mut names: Vec<String> = routes.targets().queues.iter().map(|q| q.name().to_text()).collect();
            names.sort();
            names.join(",")
        }
        Answer::Drop(None, _) => String::from("drop"),
        Answer::Drop(Some(reason), _) => format!("drop {reason}"),
        Answer::Reject(reason, _) => format!("reject {reason}"),
        Answer::Failed(refusal) => format!("failed: {refusal}"),
        Answer::Hold(hold) => format!("hold {} ms", hold.delay_ms),
        Answer::Effective(effective) => format!("effects and {}", text(&effective.answer)),
    }
}
