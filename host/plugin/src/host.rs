//! What the server makes once: the engines, the registry with the built-in types, the threads
//! beside the workers.

use crate::{
    account::Accounts,
    attachment::Attachments,
    audit::Auditor,
    builder::{Builder, Mailbox},
    builtin::BUILTINS,
    engine::Engines,
    memo::MEMO_BYTES_MAX,
    policy::Policies,
    registry::Registry,
    services::Services,
    worker::Worker,
};
use leveret_model::Form;
use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

/// How a host is made.
#[derive(Clone)]
pub struct HostConfig {
    /// How many workers there will be: each is handed instances of a new version before the swap.
    pub workers: usize,
    /// The memory of remembered answers, for each exchange on each worker, in bytes.
    pub memo_bytes_max: usize,
    /// What plugins may do.
    pub policies: Arc<Policies>,
    /// Where interceptors are attached.
    pub attachments: Arc<Attachments>,
    /// How messages that plugins make are encoded. Without it they cannot make any.
    pub form: Option<&'static dyn Form>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            memo_bytes_max: MEMO_BYTES_MAX,
            policies: Arc::default(),
            attachments: Arc::default(),
            form: None,
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
    registry: Arc<Registry>,
    mailboxes: Vec<Arc<Mailbox>>,
    builder: Arc<Builder>,
    auditor: Arc<Auditor>,
    /// How many exchanges were closed, by any worker.
    closed: Arc<AtomicU64>,
    memo_bytes_max: usize,
    services: Arc<Services>,
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
            host.registry
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
            accounts: Accounts::new(config.policies.clone()),
            ..Services::default()
        });
        let builder =
            Builder::start(&engines, &services).map_err(|error| HostError(format!("a thread: {error}")))?;
        let mailboxes: Vec<Arc<Mailbox>> = (0..config.workers).map(|_| Arc::default()).collect();
        let registry = Arc::new(Registry::new(
            engines.clone(),
            config.policies.clone(),
            mailboxes.clone(),
            services.clone(),
            config.attachments.clone(),
        ));
        let auditor = Auditor::start(&engines, &registry, &services)
            .map_err(|error| HostError(format!("a thread: {error}")))?;
        Ok(Self {
            registry,
            auditor: Arc::new(auditor),
            engines,
            mailboxes,
            builder: Arc::new(builder),
            closed: Arc::default(),
            memo_bytes_max: config.memo_bytes_max,
            services,
        })
    }

    /// Waits until the audit has checked all that workers handed in.
    #[cfg(test)]
    pub(crate) fn wait_for_audit(&self) {
        self.auditor.wait();
    }

    /// Which plugin serves which exchange type.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The exchange types for the worker of that index. One for each thread; a worker whose index
    /// is not below [`HostConfig::workers`] makes all its instances itself.
    #[must_use]
    pub fn worker(&self, index: usize) -> Worker {
        Worker::new(
            self.registry.clone(),
            self.mailboxes.get(index).cloned().unwrap_or_default(),
            self.builder.clone(),
            self.auditor.clone(),
            self.engines.ticker().slot(),
            self.services.clone(),
            self.closed.clone(),
            self.memo_bytes_max,
        )
    }
}
