//! Who starts what: workers, the listener, the HTTP API, the plugin watcher, and the clean stop.

use crate::{
    amqp10,
    amqp091::StashRoom,
    config::Config,
    data_folder::DataFolder,
    decisions::DecisionsFile,
    global::GlobalParameters,
    http::{self, HttpServer},
    live::Live,
    policies::PolicyBook,
    quorum::QuorumRule,
    store::{self, DiskStore},
    tls::{Reload, Tls},
    users,
    vhosts::{Keepers, Usual, Vhosts},
    watch::PluginWatcher,
    worker::{self, Order, WorkerHandle},
};
use anyhow::Context;
use leveret_access::{Access, Identity, Limits};
use leveret_amqp091::{Mechanism, SessionConfig};
use leveret_broker::{
    MemoryAccount, Restored, Vhost, policy,
    port::Router as _,
    queue::{Queue, QueueKind},
    store::Store,
};
use leveret_model::Name;
use leveret_plugin::{CompileIn, Host, HostConfig, Policies, Scope, registry::KeepDecisions as _};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

/// The most connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// What all workers share; nothing of it is on a message's path but by reference.
pub struct Shared {
    /// The plugin host.
    pub plugins: Arc<Host>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// The open connections.
    pub live: Arc<Live>,
    /// The virtual hosts.
    pub vhosts: Vhosts,
    /// Where the policies of virtual hosts are kept.
    pub policies: PolicyBook,
    /// What tools keep in the broker.
    pub globals: GlobalParameters,
    /// The bytes of all queued messages.
    pub memory: Arc<MemoryAccount>,
    /// Where what connections send waits while their publishes are held back.
    pub stash: Arc<StashRoom>,
    /// Where what is to outlive the process is written.
    pub store: DiskStore,
    /// What a session tells clients.
    pub session: Arc<SessionConfig>,
    /// The same for those that showed a certificate.
    pub session_with_external: Arc<SessionConfig>,
    /// What clients of AMQP 1.0 are told.
    pub amqp10: amqp10::Settings,
    /// Their links that can be resumed.
    pub(crate) suspended: amqp10::suspended::Suspended,
    /// Nodes that do not go with the link that made them.
    pub(crate) nodes: amqp10::nodes::Nodes,
    /// What connections with TLS begin with, if there are any.
    pub tls: Option<Arc<Tls>>,
    /// Whether quorum queues may be declared.
    pub quorum: QuorumRule,
    /// How long deliveries of quorum queues may take, in milliseconds, where nothing else is said.
    pub consumer_timeout_ms: Option<u64>,
    workers: usize,
    connection_ids: AtomicU64,
    connections: AtomicUsize,
}

impl Shared {
    /// How much a user may have now who logged in, or nobody.
    pub(crate) fn limits_of(&self, identity: Option<&Identity>) -> Limits {
        let name = identity.map(|identity| identity.name().as_bytes());
        name.and_then(|name| self.access.user(name)).map(|user| user.limits).unwrap_or_default()
    }

    /// The virtual hosts that worker number `index` keeps house for: each has one worker.
    pub fn vhosts_of(&self, index: usize) -> Vec<Arc<Vhost>> {
        let vhosts = self.vhosts.list().into_iter().map(|place| place.vhost);
        vhosts.skip(index).step_by(self.workers.max(1)).collect()
    }

    /// For tests of what works with it: one worker, these virtual hosts.
    #[cfg(test)]
    pub(crate) fn for_tests(plugins: Arc<Host>, vhost: &Arc<Vhost>, store: DiskStore) -> Self {
        let access =
            Access::new(leveret_access::Settings::default(), [], [], Arc::new(leveret_access::Nowhere));
        let (access, names) = (access.unwrap(), [vhost.name().clone()]);
        access.ensure_guest(&names, &names).unwrap();
        let memory = Arc::new(MemoryAccount::new(1 << 30));
        let usual = Usual { data_dir: PathBuf::new(), durability: store::VhostDurability::default() };
        let vhosts = Vhosts::new(store.clone(), memory.clone(), 0, usual);
        vhosts.put(vhost.clone());
        Self {
            access,
            live: Arc::default(),
            plugins,
            vhosts,
            policies: PolicyBook::open(&[], &store).0,
            globals: GlobalParameters::open(&store),
            store,
            stash: StashRoom::beside(memory.watermark_bytes()),
            memory,
            session: Arc::default(),
            session_with_external: Arc::default(),
            amqp10: amqp10::Settings::default(),
            suspended: amqp10::suspended::Suspended::default(),
            nodes: amqp10::nodes::Nodes::default(),
            tls: None,
            quorum: QuorumRule::default(),
            consumer_timeout_ms: None,
            workers: 1,
            connection_ids: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
        }
    }

    /// A number for the next connection; never used again.
    pub fn next_connection_id(&self) -> u64 {
        self.connection_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// How many AMQP connections there are.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// A connection is gone.
    pub fn connection_ended(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A broker that accepts connections.
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: TcpListener,
    tls_listener: Option<TcpListener>,
    workers: Vec<WorkerHandle>,
    http: Option<HttpServer>,
    main: MainThread,
    store: DiskStore,
    _reload: Option<Reload>,
    _watcher: PluginWatcher,
    _data_folder: DataFolder,
}

/// The main thread's runtime and the signals that end the broker.
struct MainThread {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl MainThread {
    /// From now on the signals are kept for [`Running::serve`] instead of ending the process.
    fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (terminate, interrupt) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        Ok(Self { runtime, terminate, interrupt })
    }
}

/// What a broker has before anything of it runs.
struct Place {
    data_folder: DataFolder,
    folders: Vec<(Scope, PathBuf)>,
    listener: TcpListener,
    http_listener: Option<TcpListener>,
    metrics_listener: Option<TcpListener>,
    https_listener: Option<TcpListener>,
    tls_listener: Option<TcpListener>,
    store: DiskStore,
}

/// Starts everything up to the listening socket. `since` is when the program began, for the log.
///
/// # Errors
/// If a folder cannot be made, another broker has the data folder, the address is taken, the store cannot be opened, or
/// the system gives no thread.
pub fn start(config: &Config, since: Instant) -> anyhow::Result<Running> {
    make_folder(&config.data_dir)?;
    let data_folder = DataFolder::take(&config.data_dir)?;
    plugins_folders(config).iter().try_for_each(|(_, folder)| make_folder(folder))?;
    let listener = listen(config.listen, "--listen chooses another")?;
    let http_listener = match config.http_listen {
        Some(address) => Some(listen(address, "for HTTP; --http-listen chooses another, none turns it off")?),
        None => None,
    };
    let metrics_listener = match config.metrics_listen {
        Some(address) => Some(listen(address, "for metrics; --metrics-listen chooses another")?),
        None => None,
    };
    let https_listener = match config.https_listen {
        Some(address) => Some(listen(address, "for HTTPS; --https-listen chooses another")?),
        None => None,
    };
    let tls_listener = match &config.tls {
        Some(tls) => Some(listen(tls.listen, "for TLS; --tls-listen chooses another")?),
        None => None,
    };
    let store = DiskStore::open(&config.data_dir.join(store::FOLDER))?;
    let usual = Usual { data_dir: config.data_dir.clone(), durability: config.durability_usual.clone() };
    let known = store.known_vhosts();
    let is_configured = |name: &Name| config.vhosts.iter().any(|vhost| vhost.name == *name);
    let made = known.iter().filter(|(name, record)| record.made && !is_configured(name));
    let config = &config.with_vhosts(made.map(|(name, _)| usual.of(name)))?;
    let folders = plugins_folders(config);
    folders.iter().try_for_each(|(_, folder)| make_folder(folder))?;
    let place = Place {
        data_folder,
        folders,
        listener,
        http_listener,
        metrics_listener,
        https_listener,
        tls_listener,
        store: store.clone(),
    };
    // Not as after a crash, after which every message would count as delivered before.
    start_in(place, config, since).inspect_err(|_| store.close())
}

fn start_in(place: Place, config: &Config, since: Instant) -> anyhow::Result<Running> {
    let Place {
        data_folder,
        folders,
        listener,
        http_listener,
        metrics_listener,
        https_listener,
        tls_listener,
        store,
    } = place;
    let address = listener.local_addr().context("the listening socket has no address")?;
    let tls = config.tls.clone().map(Tls::open).transpose().context("TLS")?.map(Arc::new);
    let reload =
        tls.clone().map(Reload::start).transpose().context("the thread that watches certificates")?;
    let kept_in: Arc<dyn Store> = Arc::new(store.clone());
    let (decided, decisions) = DecisionsFile::read(&config.data_dir);
    let decisions = Arc::new(decisions);
    let host_config = HostConfig {
        decisions: Some((decided, decisions.clone())),
        store: kept_in.clone(),
        ..host_config(config)?
    };
    let plugins = Host::new(host_config).context("the plugin host cannot start")?;
    if let Some(why) = decisions.broken() {
        plugins.registry().note_refused(&Scope::Global, decisions.place(), &why);
    }
    let shared = Arc::new(share(config, (&plugins, &store), tls)?);
    warn_of_quorum_queues(&shared);
    let watcher = PluginWatcher::start(&folders, &plugins).context("cannot watch the plugins folders")?;
    let workers = (0..config.workers)
        .map(|index| worker::start(index, shared.clone()))
        .collect::<std::io::Result<Vec<_>>>()
        .context("cannot start the worker threads")?;
    let orders = || workers.iter().map(|worker| worker.orders.clone()).collect();
    shared.vhosts.tell(Keepers { workers: orders(), folders: watcher.folders() });
    // Before anybody is told that the broker runs: whoever knows may want it to stop cleanly.
    let main = MainThread::new().context("the main thread's runtime and signals")?;
    let tls_address = tls_listener.as_ref().map(TcpListener::local_addr).transpose();
    let tls_address = tls_address.context("the listening socket for TLS has no address")?;
    let metrics_address = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let https = https_listener.zip(shared.tls.clone());
    let listeners = http::Listeners { plain: http_listener, tls: https, metrics: metrics_listener };
    let http = match listeners.is_empty() {
        true => None,
        false => Some(
            http::start(listeners, shared.clone(), orders(), (address, tls_address), &config.data_dir)
                .context("cannot start the HTTP API")?,
        ),
    };

    tracing::info!("exchange types from {}", config.plugins_dir.display());
    log_addresses(http.as_ref(), metrics_address, tls_address);
    tracing::info!("listening on {address} after {} ms", since.elapsed().as_millis());
    Ok(Running {
        address,
        shared,
        listener,
        tls_listener,
        workers,
        http,
        main,
        store,
        _reload: reload,
        _watcher: watcher,
        _data_folder: data_folder,
    })
}

/// What the workers are to share.
fn share(
    config: &Config,
    (plugins, store): (&Arc<Host>, &DiskStore),
    tls: Option<Arc<Tls>>,
) -> anyhow::Result<Shared> {
    let memory =
        Arc::new(MemoryAccount::new(config.memory_bytes_max).paging_from(config.memory_paging_percent));
    let (policies, given) = PolicyBook::open(&config.declared_policies, store);
    let vhosts = vhosts((config, given), store, &memory, plugins)?;
    let session = session_config(config);
    Ok(Shared {
        access: users::open(config, store)?,
        live: Arc::default(),
        plugins: plugins.clone(),
        vhosts,
        policies,
        globals: GlobalParameters::open(store),
        stash: StashRoom::beside(memory.watermark_bytes()),
        memory,
        store: store.clone(),
        session_with_external: Arc::new(with_external(&session)),
        amqp10: amqp10::Settings::of(&session, config.large_message_bytes_max),
        suspended: amqp10::suspended::Suspended::default(),
        nodes: amqp10::nodes::Nodes::default(),
        session: Arc::new(session),
        tls,
        quorum: QuorumRule::of(config.quorum),
        consumer_timeout_ms: config.consumer_timeout_ms,
        workers: config.workers,
        connection_ids: AtomicU64::new(1),
        connections: AtomicUsize::new(0),
    })
}

/// There are quorum queues from before, which have one replica here.
fn warn_of_quorum_queues(shared: &Shared) {
    let is_quorum = |queue: &Arc<Queue>| queue.kind() == QueueKind::Quorum;
    if shared.vhosts.list().iter().any(|place| place.vhost.queues().iter().any(is_quorum)) {
        shared.quorum.warn();
    }
}

/// Says where it listens beside AMQP without TLS.
fn log_addresses(http: Option<&HttpServer>, metrics: Option<SocketAddr>, tls: Option<SocketAddr>) {
    if let Some(http) = http {
        if let Some(address) = http.address() {
            tracing::info!("HTTP API on http://{address}");
        }
        if let Some(address) = http.https_address() {
            tracing::info!("HTTPS API on https://{address}");
        }
    }
    if let Some(address) = metrics {
        tracing::info!("metrics on http://{address}/metrics");
    }
    if let Some(address) = tls {
        tracing::info!("TLS on {address}");
    }
}

/// The virtual hosts, with what they have from before.
fn vhosts(
    (config, mut policies): (&Config, BTreeMap<Name, policy::Policies>),
    store: &DiskStore,
    memory: &Arc<MemoryAccount>,
    plugins: &Arc<Host>,
) -> anyhow::Result<Vhosts> {
    let mut router = plugins.worker(0);
    let usual = Usual { data_dir: config.data_dir.clone(), durability: config.durability_usual.clone() };
    let vhosts = Vhosts::new(store.clone(), memory.clone(), config.retry_ms_max, usual);
    let mut known = store.known_vhosts();
    for vhost in &config.vhosts {
        let record = known.remove(&vhost.name).unwrap_or_default();
        let opened = vhosts.open(vhost, record, &mut router);
        let opened = opened.with_context(|| format!("virtual host {}", vhost.name))?;
        if let Some(its) = policies.remove(&vhost.name) {
            opened.set_policies(its, router.now_ms());
        }
        log_restored(&opened);
    }
    for name in store.vhosts().iter().filter(|name| vhosts.get(name).is_none()) {
        tracing::warn!(
            "the store has something of virtual host '{name}', which is not configured; it is kept"
        );
    }
    Ok(vhosts)
}

/// What a virtual host has from before, if it has anything.
fn log_restored(vhost: &Vhost) {
    let Restored { exchanges, queues, messages, bindings, dangling, held, held_lost, timers } =
        vhost.restored();
    let name = vhost.name();
    if held_lost > 0 {
        tracing::warn!(
            "virtual host '{name}': {held_lost} messages are dropped that an exchange held which is gone"
        );
    }
    if exchanges + queues > 0 {
        tracing::info!(
            "virtual host '{name}' has {exchanges} exchanges, {queues} queues with {messages} messages, {bindings} \
             bindings, {held} held messages and {timers} timers from before"
        );
    }
    if dangling > 0 {
        tracing::warn!(
            "virtual host '{name}': {dangling} bindings from before lead from or to what is not there, and are left out"
        );
    }
}

/// The broker's plugins folder, then that of each virtual host.
fn plugins_folders(config: &Config) -> Vec<(Scope, PathBuf)> {
    let own = config.vhosts.iter().map(|vhost| (Scope::Vhost(vhost.name.clone()), vhost.plugins_dir.clone()));
    [(Scope::Global, config.plugins_dir.clone())].into_iter().chain(own).collect()
}

/// Makes a folder that is not there, so that nobody but this user writes there, whatever the umask.
fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.with_context(|| format!("cannot make the folder {}", folder.display()))
}

fn host_config(config: &Config) -> anyhow::Result<HostConfig> {
    let compile_in = CompileIn::Child {
        executable: own_executable().context("cannot find this program, which compiles plugins")?,
        limits: config.compile_limits.clone(),
    };
    Ok(HostConfig {
        workers: config.workers,
        policies: Arc::new(Policies::new(config.policies.clone())?),
        attachments: config.attachments.clone(),
        form: Some(leveret_amqp091::form::FORM),
        compile_in,
        cache_dir: Some(config.data_dir.join("cache/plugins")),
        kept_dir: Some(config.data_dir.join("plugins-kept")),
        ..HostConfig::default()
    })
}

/// The program that runs, whatever lies under its name by now: on Linux this path means it even
/// after an upgrade has put another file there.
fn own_executable() -> std::io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { std::env::current_exe() }
}

fn session_config(config: &Config) -> SessionConfig {
    let anonymous = config.access.anonymous_user.is_some().then_some(Mechanism::Anonymous);
    SessionConfig {
        product: config.announced.product.clone(),
        version: config.announced.version.clone(),
        platform: "Rust".to_owned(),
        cluster_name: format!("leveret@{}", config.listen.ip()),
        frame_bytes_max: worker::FRAME_BYTES_MAX,
        channel_max: 2047,
        heartbeat_seconds: 60,
        message_body_bytes_max: config.message_bytes_max,
        mechanisms: [Mechanism::Plain, Mechanism::AmqPlain].into_iter().chain(anonymous).collect(),
    }
}

/// The same for those that showed a certificate.
fn with_external(session: &SessionConfig) -> SessionConfig {
    let mut session = session.clone();
    session.mechanisms.push(Mechanism::External);
    session
}

/// `way_out` says which flag to use where the address is taken.
fn listen(address: SocketAddr, way_out: &str) -> anyhow::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)
        .context("the system gives no socket")?;
    socket.set_reuse_address(true).context("SO_REUSEADDR")?;
    socket.bind(&address.into()).with_context(|| {
        format!("cannot listen on {address}; is another broker running there? ({way_out})")
    })?;
    socket.listen(BACKLOG).with_context(|| format!("cannot listen on {address}"))?;
    socket.set_nonblocking(true).context("a non-blocking listener")?;
    Ok(socket.into())
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until SIGTERM or Ctrl-C, then tells every client and ends.
    ///
    /// # Errors
    /// If the listening socket cannot be used.
    pub fn serve(self) -> anyhow::Result<()> {
        let MainThread { runtime, mut terminate, mut interrupt } = self.main;
        let signal = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            let tls_listener = self.tls_listener.map(tokio::net::TcpListener::from_std).transpose()?;
            let with_tls = async {
                match &tls_listener {
                    Some(listener) => accept(listener, true, &self.shared, &self.workers).await,
                    None => std::future::pending().await,
                }
            };
            anyhow::Ok(tokio::select! {
                () = calm(&self.shared) => unreachable_by_design(),
                () = accept(&listener, false, &self.shared, &self.workers) => unreachable_by_design(),
                () = with_tls => unreachable_by_design(),
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "Ctrl-C",
            })
        })?;
        tracing::info!("{signal}: closing {} connections", self.shared.connections.load(Ordering::Relaxed));
        for worker in &self.workers {
            // A worker that is gone already has nothing to stop.
            let _ = worker.orders.send(Order::Stop);
        }
        for worker in self.workers {
            if worker.thread.join().is_err() {
                tracing::error!("a worker thread had panicked");
            }
        }
        drop(self.http);
        self.shared.suspended.clear();
        self.store.close();
        tracing::info!("stopped");
        Ok(())
    }
}

/// `accept` never returns; this gives the arm of the select its type.
fn unreachable_by_design() -> &'static str {
    "the listener ended"
}

/// Says when the process has lived long enough not to be ended by what it found at its start. Never ends.
async fn calm(shared: &Shared) {
    tokio::time::sleep(store::CALM_AFTER).await;
    shared.store.calm();
    shared.vhosts.list().iter().for_each(|place| place.vhost.end_suspicion());
    std::future::pending().await
}

/// Gives connections to the workers in turn.
async fn accept(
    listener: &tokio::net::TcpListener,
    with_tls: bool,
    shared: &Shared,
    workers: &[WorkerHandle],
) {
    /// How long to wait when the process is out of file descriptors.
    const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(100);
    for worker in workers.iter().cycle() {
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _peer)) => match stream.into_std() {
                    Ok(stream) => break stream,
                    Err(error) => tracing::warn!(%error, "a new connection is lost"),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        if worker.orders.send(Order::Serve(stream, with_tls)).is_err() {
            shared.connection_ended();
        }
    }
}
