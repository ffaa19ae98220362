//! What the server makes once: the engines, the registry with the built-in types, the threads
//! beside the workers.

use crate::{
    account::Accounts,
    attachment::Attachments,
    audit::Auditor,
    builder::{Builder, Mailbox},
    builtin::BUILTINS,
    candidate::Shadow,
    compile::{CACHE_BYTES_MAX, CompileIn, Compiler},
    engine::Engines,
    lane::{Errand, Lane},
    memo::MEMO_BYTES_MAX,
    pace::InlineTimes,
    policy::Policies,
    registry::{Decisions, KeepDecisions, Registry},
    services::Services,
    state::Cells,
    together::TogetherUse,
    worker::{Worker, WorkerParts},
};
use leveret_broker::{
    port::Wake,
    store::{Store, Volatile},
};
use leveret_model::{Form, Name};
use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

/// How a host is made.
#[derive(Clone)]
pub struct HostConfig {
    /// How many workers there will be: each is handed instances of a new version before the swap.
    pub workers: usize,
    /// The memory of remembered answers, for each exchange on each worker, in bytes. What there is for all
    /// of them together is a matter of the policies.
    pub memo_bytes_max: usize,
    /// How much CPU time plugins may take where connections wait for the thread, before they are asked beside it.
    pub inline_times: InlineTimes,
    /// What plugins may do.
    pub policies: Arc<Policies>,
    /// Where interceptors are attached.
    pub attachments: Arc<Attachments>,
    /// How messages that plugins make are encoded. Without it they cannot make any.
    pub form: Option<&'static dyn Form>,
    /// Where plugins are compiled.
    pub compile_in: CompileIn,
    /// Keeps compiled code over restarts, in a directory for this user alone; it must not be one
    /// that plugins are put into. Off if there is none.
    pub cache_dir: Option<PathBuf>,
    /// How much compiled code is kept, in bytes; the oldest goes.
    pub cache_bytes_max: u64,
    /// Keeps the last versions that served of each plugin of each scope, in a directory for this user
    /// alone. Without one there is no going back.
    pub kept_dir: Option<PathBuf>,
    /// Where what plugins keep is written if it is to outlive the process; the virtual hosts' too.
    pub store: Arc<dyn Store>,
    /// What was decided before, and what keeps what is decided from now on. Without it switches and pins end
    /// with the host.
    pub decisions: Option<(Decisions, Arc<dyn KeepDecisions>)>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            memo_bytes_max: MEMO_BYTES_MAX,
            inline_times: InlineTimes::default(),
            policies: Arc::default(),
            attachments: Arc::default(),
            form: None,
            compile_in: CompileIn::default(),
            cache_dir: None,
            cache_bytes_max: CACHE_BYTES_MAX,
            kept_dir: None,
            store: Arc::new(Volatile),
            decisions: None,
        }
    }
}

/// A host could not be made.
#[derive(Debug)]
pub struct HostError(String);

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HostError {}

/// The host of all plugins of a broker.
pub struct Host {
    engines: Arc<Engines>,
    mailboxes: Vec<Arc<Mailbox>>,
    parts: WorkerParts,
    lane: Arc<Lane>,
    /// How many exchanges were closed, by any worker.
    closed: Arc<AtomicU64>,
    memo_bytes_max: usize,
}

impl Host {
    /// A host with the built-in types.
    ///
    /// # Errors
    /// If this machine cannot run guests, a thread cannot be started, or a built-in type does not
    /// load: the broker cannot work then.
    pub fn new(config: HostConfig) -> Result<Arc<Self>, HostError> {
        let host = Self::without_builtins(&config)?;
        for builtin in BUILTINS {
            host.parts
                .registry
                .add_builtin(builtin)
                .map_err(|what| HostError(format!("the built-in exchange type {}: {what}", builtin.name)))?;
        }
        Ok(Arc::new(host))
    }

    fn without_builtins(config: &HostConfig) -> Result<Self, HostError> {
        let engines =
            Engines::new().map_err(|error| HostError(format!("the engine of plugins: {error:#}")))?;
        let engines = Arc::new(engines);
        let services = Arc::new(Services {
            form: config.form,
            accounts: Accounts::new(config.policies.clone(), config.inline_times),
            cells: Cells::kept_in(config.store.clone()),
            ..Services::default()
        });
        let builder = Builder::new(&engines, &services);
        let mailboxes: Vec<Arc<Mailbox>> = (0..config.workers).map(|_| Arc::default()).collect();
        let cache = config.cache_dir.as_deref().map(|dir| (dir, config.cache_bytes_max));
        let registry = Arc::new(Registry::new(
            engines.clone(),
            config.policies.clone(),
            mailboxes.clone(),
            services.clone(),
            Compiler::new(engines.clone(), config.compile_in.clone(), cache),
            config.kept_dir.as_deref(),
            config.attachments.clone(),
        ));
        if let Some((decisions, kept_by)) = &config.decisions {
            registry.take_up(decisions, kept_by.clone());
        }
        let auditor = Auditor::start(&engines, &registry, &services)
            .map_err(|error| HostError(format!("a thread: {error}")))?;
        let shadow = Shadow::start(&engines).map_err(|error| HostError(format!("a thread: {error}")))?;
        let parts = WorkerParts {
            registry,
            mailbox: Arc::default(),
            builder: Arc::new(builder),
            auditor: Arc::new(auditor),
            shadow: Arc::new(shadow),
            services,
        };
        let closed = Arc::default();
        let lane = Lane::start(&engines, parts.clone(), &closed, config.workers)
            .map_err(|error| HostError(format!("a thread: {error}")))?;
        let memo_bytes_max = config.memo_bytes_max;
        Ok(Self { lane: Arc::new(lane), parts, engines, mailboxes, closed, memo_bytes_max })
    }

    /// Waits until the audit has checked all that workers handed in.
    #[cfg(test)]
    pub(crate) fn wait_for_audit(&self) {
        self.parts.auditor.wait();
    }

    /// Waits until shadows were asked about all that workers handed in.
    #[cfg(test)]
    pub(crate) fn wait_for_shadow(&self) {
        self.parts.shadow.wait();
    }

    /// Which plugin serves which exchange type.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.parts.registry
    }

    /// What the plugins of a virtual host have together.
    #[must_use]
    pub fn together(&self, vhost: &Name) -> TogetherUse {
        self.parts.services.accounts.together().of(vhost).read()
    }

    /// How many questions to plugins of a virtual host, and errands, wait in the slow lane.
    #[must_use]
    pub fn waiting_in_lane(&self, vhost: &Name) -> usize {
        self.lane.waiting(vhost)
    }

    /// Has something done for a virtual host in the slow lane, after the errands that are there already.
    ///
    /// # Errors
    /// The errand, if the virtual host has too many there: then `waker` is called when it makes sense to try
    /// again. Without a waker it is always taken: for what there is one of at a time.
    pub fn run_beside(
        &self,
        vhost: &Name,
        errand: Errand,
        waker: Option<&Arc<dyn Wake>>,
    ) -> Result<(), Errand> {
        self.lane.run(vhost, errand, waker)
    }

    /// The exchange types for the worker of that index. One for each thread; a worker whose index
    /// is not below [`HostConfig::workers`] makes all its instances itself.
    #[must_use]
    pub fn worker(&self, index: usize) -> Worker {
        let mailbox = self.mailboxes.get(index).cloned().unwrap_or_default();
        let parts = WorkerParts { mailbox, ..self.parts.clone() };
        let homes = parts.homes(self.engines.ticker().slot(), true);
        Worker::new(parts, (homes, Some(self.lane.clone())), self.closed.clone(), self.memo_bytes_max)
    }
}
