//! A plugin host and a virtual host in this process, with one file put into service by the broker's own
//! stages: what `check`, `test` and `bench` work on.
//!
//! Everything is granted here, with the default limits; what a broker must grant is told.

use anyhow::{Context, anyhow};
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec, MemoryAccount, Publish, Published, Publisher, QueueSpec, Vhost,
    exchange::Exchange, port::Wake,
};
use leveret_model::{Name, OwnedMessage, Refusal, Table};
use leveret_plugin::{
    Host, HostConfig, LoadError, LoadReport, Policies, Scope, Worker,
    policy::{Capability, PluginRules, PolicyRules},
    registry::{InterceptorInfo, TypeInfo},
};
use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

/// The memory of queued messages, in bytes: as good as none is queued for long.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// How long an answer that comes later may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);
const BY: ConnectionId = ConnectionId(1);
/// From how many bytes on it is said that a file is being compiled: it takes a second for each two megabytes.
const COMPILES_LONG_BYTES: usize = 1 << 20;

/// A virtual host, and a host that knows one file.
pub(super) struct Trial {
    /// The virtual host.
    pub(super) vhost: Arc<Vhost>,
    /// The exchange types.
    pub(super) router: Worker,
    host: Arc<Host>,
    publisher: Publisher,
    waker: Arc<dyn Wake>,
    woken: Receiver<()>,
}

/// Notes that somebody was woken; once is enough.
struct Bell(SyncSender<()>);

impl Wake for Bell {
    fn wake(&self) {
        // Full is rung already.
        let _ = self.0.try_send(());
    }
}

impl Trial {
    /// A host with the built-in types, and with so much memory for remembered answers of each exchange;
    /// with a file, which passes all stages or is refused at one.
    pub(super) fn new(
        file: &Path,
        bytes: &[u8],
        memo_bytes_max: usize,
    ) -> anyhow::Result<(Self, Result<LoadReport, LoadError>)> {
        let plugin = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        let everything =
            PluginRules { grants: Some(Capability::ALL.into_iter().collect()), ..PluginRules::default() };
        let rules =
            PolicyRules { plugins: [(plugin, everything)].into_iter().collect(), ..PolicyRules::default() };
        let policies = Arc::new(Policies::new(rules)?);
        let form = Some(leveret_amqp091::form::FORM);
        let config = HostConfig { workers: 1, memo_bytes_max, policies, form, ..HostConfig::default() };
        let host = Host::new(config).context("the plugin host cannot start")?;
        if bytes.len() >= COMPILES_LONG_BYTES {
            let mib = bytes.len().div_ceil(1 << 20);
            eprintln!("{}: {mib} MiB are compiled, which takes some seconds", file.display());
        }
        let loaded = host.registry().offer(file, bytes);
        let mut router = host.worker(0);
        let memory = Arc::new(MemoryAccount::new(MEMORY_BYTES_MAX));
        let vhost = Vhost::new(Name::from_static("/"), memory, &mut router)?;
        let (bell, woken) = sync_channel(1);
        let waker = Arc::new(Bell(bell));
        Ok((Self { vhost, router, host, publisher: Publisher::default(), waker, woken }, loaded))
    }

    /// The same, for a file that must be in order.
    pub(super) fn with(file: &Path, memo_bytes_max: usize) -> anyhow::Result<(Self, LoadReport)> {
        let bytes = read(file)?;
        let (trial, loaded) = Self::new(file, &bytes, memo_bytes_max)?;
        let loaded = loaded.map_err(|error| anyhow!("{}: {error}", file.display()))?;
        Ok((trial, loaded))
    }

    /// What the file's types say of themselves.
    pub(super) fn types(&self) -> Vec<TypeInfo> {
        let types = self.host.registry().types().into_iter();
        types.filter(|info| info.scope == Scope::Global).collect()
    }

    /// What the file has of interceptors.
    pub(super) fn interceptors(&self) -> Vec<InterceptorInfo> {
        self.host.registry().interceptors()
    }

    /// Declares an exchange.
    pub(super) fn declare(
        &mut self,
        exchange: &Name,
        type_name: &Name,
        arguments: Table,
    ) -> Result<Arc<Exchange>, Refusal> {
        let (name, type_name) = (exchange.clone(), type_name.clone());
        let spec =
            ExchangeSpec { name, type_name, durable: false, auto_delete: false, internal: false, arguments };
        self.vhost.declare_exchange(&mut self.router, spec)?;
        self.vhost.exchange(exchange).ok_or(Refusal::NoLastQueue)
    }

    /// Binds a queue, which is declared first.
    pub(super) fn bind(
        &mut self,
        exchange: &Name,
        queue: &Name,
        key: &str,
        arguments: Table,
    ) -> Result<(), Refusal> {
        self.vhost.declare_queue(QueueSpec { name: queue.clone(), ..QueueSpec::default() }, BY)?;
        let to = BindTo::Queue(queue);
        self.vhost.bind(&mut self.router, exchange, to, key.as_bytes(), arguments, BY).map(drop)
    }

    /// Publishes a message, and waits for it to be dealt with.
    pub(super) fn publish(&mut self, message: &OwnedMessage) -> anyhow::Result<Published> {
        let batch = [Publish { channel: 1, message: message.view(), mandatory: false, more_keys: None }];
        loop {
            let mut outcomes = Vec::new();
            let Self { vhost, router, publisher, waker, .. } = &mut *self;
            publisher.publish(vhost, router, &batch, &mut outcomes, waker);
            if let Some(outcome) = outcomes.pop() {
                return Ok(outcome);
            }
            self.woken.recv_timeout(ANSWER_MAX).context("the type gives no answer")?;
        }
    }

    /// The queues that have messages, each as often; they are emptied.
    pub(super) fn take_queued(&self) -> anyhow::Result<Vec<String>> {
        let mut queued = Vec::new();
        for queue in self.vhost.queues() {
            let messages = self.vhost.purge_queue(queue.name(), BY)?;
            queued.extend((0..messages).map(|_| queue.name().to_text()));
        }
        queued.sort();
        Ok(queued)
    }

    /// The exchange types, and what waits until they answer.
    pub(super) fn router_and_wait(&mut self) -> (&mut Worker, impl FnMut() -> anyhow::Result<()>) {
        let Self { router, woken, .. } = self;
        (router, || woken.recv_timeout(ANSWER_MAX).context("the type gives no answer"))
    }

    /// Who waits is told through this.
    pub(super) fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }
}

/// The bytes of a file.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
