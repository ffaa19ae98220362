//! What can be configured, from three places: flags, environment variables, a TOML file.
//!
//! One table, [`Settings`], gives the flags, the variables and the keys of the file: a setting
//! `plugins_dir` is `--plugins-dir`, `LEVERET_PLUGINS_DIR` and `plugins-dir = …`. A flag wins over
//! a variable, a variable over the file, the file over the default. What is said of plugins and of
//! single virtual hosts is tables (`tables.rs`), so it is in the file alone.

#[cfg(test)]
mod any_file;
mod compatibility;
mod durability;
mod intercept;
mod listen;
mod messages;
mod policies;
mod tables;
#[cfg(test)]
mod tests;
mod tls;
mod users;
mod vhosts;

pub use compatibility::{Announced, QuorumQueues};
pub use durability::{DurabilityTable, SyncMode};
pub use intercept::InterceptTable;
pub use listen::{HTTP_LISTEN_DEFAULT, HttpListen, LISTEN_DEFAULT, TLS_LISTEN_DEFAULT};
pub use policies::{DeclaredPolicy, PolicyTable};
pub use tables::{LimitTable, PluginTable, PluginTables, TotalsTable, VhostTable, VhostTotalsTable};
pub use users::{UserTable, UserTables};
pub use vhosts::{VhostConfig, VhostLimits};

use crate::{
    store::VhostDurability,
    tls::{ClientCertificates, LoginFrom, TlsSettings},
};
use anyhow::{Context, bail};
use leveret_access::{GUEST, User};
use leveret_broker::{
    CONSUMER_TIMEOUT_MS,
    later::{RETRY_AFTER_MS_MAX, RETRY_AFTER_MS_MIN},
};
use leveret_model::Name;
use leveret_plugin::{
    AttachmentRule, Attachments, CompileLimits,
    policy::{PolicyError, PolicyRules},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use toml::Spanned;

/// The folder for everything that the broker keeps.
pub const DATA_DIR_DEFAULT: &str = "leveret-data";
/// The share of the machine's memory that queued messages may take before publishers wait.
const MEMORY_SHARE_DEFAULT: f64 = 0.4;
/// The least memory for queued messages that makes sense, in bytes.
const MEMORY_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// The least memory in which the compiler can do anything at all, in bytes.
const COMPILE_MEMORY_BYTES_MIN: u64 = 128 * 1024 * 1024;
/// Longer is surely a mistake, in seconds.
const COMPILE_CPU_SECONDS_MAX: u64 = 24 * 3600;
/// What the longest pause between tries may be: never shorter than the first one, in milliseconds.
const RETRY_MAX_MS: RangeInclusive<u64> = RETRY_AFTER_MS_MIN..=3_600_000;
/// How much longer than its CPU time a compilation may take, on a machine that is busy.
const COMPILE_WALL_PER_CPU: u64 = 10;

/// The settings as a user gives them.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Address and port for AMQP clients [default: 127.0.0.1:5672]
    #[arg(long, env = "LEVERET_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Address and port for the HTTP API, or none [default: 127.0.0.1:15672]
    #[arg(long, env = "LEVERET_HTTP_LISTEN", value_name = "ADDRESS:PORT")]
    pub http_listen: Option<HttpListen>,

    /// Address and port for Prometheus, which needs no credentials there [default: none]
    #[arg(long, env = "LEVERET_METRICS_LISTEN", value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,

    /// Address and port for the HTTP API with TLS [default: none]
    #[arg(long, env = "LEVERET_HTTPS_LISTEN", value_name = "ADDRESS:PORT")]
    pub https_listen: Option<SocketAddr>,

    /// Folder for everything the broker keeps [default: leveret-data]
    #[arg(long, env = "LEVERET_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Folder that is watched for exchange types (*.wasm) [default: DATA_DIR/plugins]
    #[arg(long, env = "LEVERET_PLUGINS_DIR", value_name = "DIR")]
    pub plugins_dir: Option<PathBuf>,

    /// Virtual hosts, separated by commas [default: /]
    #[arg(long, env = "LEVERET_VHOSTS", value_name = "NAMES", value_delimiter = ',')]
    pub vhosts: Option<Vec<String>>,

    /// Worker threads [default: one for each processor]
    #[arg(long, env = "LEVERET_WORKERS", value_name = "NUMBER")]
    pub workers: Option<usize>,

    /// MiB of queued messages from which on publishers wait [default: 40 % of the machine's memory]
    #[arg(long, env = "LEVERET_MEMORY_MIB", value_name = "MIB")]
    pub memory_mib: Option<u64>,

    /// MiB that the body of a message of AMQP 0-9-1 may have [default: 16]
    #[arg(long, env = "LEVERET_MESSAGE_MIB", value_name = "MIB")]
    pub message_mib: Option<u64>,

    /// MiB that a message of AMQP 1.0 may have [default: 256]
    #[arg(long, env = "LEVERET_LARGE_MESSAGE_MIB", value_name = "MIB")]
    pub large_message_mib: Option<u64>,

    /// Percent of that from which on transient messages are written to disk too; 100: never [default: 50]
    #[arg(long, env = "LEVERET_MEMORY_PAGING_PERCENT", value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    pub memory_paging_percent: Option<u8>,

    /// MiB of memory that compiling a plugin may take [default: 2048]
    #[arg(long, env = "LEVERET_COMPILE_MEMORY_MIB", value_name = "MIB")]
    pub compile_memory_mib: Option<u64>,

    /// Seconds of CPU time that compiling a plugin may take [default: 60]
    #[arg(long, env = "LEVERET_COMPILE_CPU_SECONDS", value_name = "SECONDS")]
    pub compile_cpu_seconds: Option<u64>,

    /// Milliseconds that what was refused waits at most before it is tried again [default: 30000]
    #[arg(long, env = "LEVERET_RETRY_MAX_MS", value_name = "MS")]
    pub retry_max_ms: Option<u64>,

    /// The name under which the broker shows itself to AMQP clients [default: Leveret]
    #[arg(long, env = "LEVERET_ANNOUNCED_PRODUCT", value_name = "NAME")]
    pub announced_product: Option<String>,

    /// The version that goes with that name, such as 4.3.0 [default: Leveret's own]
    #[arg(long, env = "LEVERET_ANNOUNCED_VERSION", value_name = "VERSION")]
    pub announced_version: Option<String>,

    /// Whether quorum queues, which have one replica here, may be declared [default: accept-single]
    #[arg(long, env = "LEVERET_QUORUM", value_name = "WHETHER", value_enum)]
    pub quorum: Option<QuorumQueues>,

    /// Milliseconds that a delivery of a quorum queue may take; 0 is for ever [default: 1800000]
    #[arg(long, env = "LEVERET_CONSUMER_TIMEOUT_MS", value_name = "MS")]
    pub consumer_timeout_ms: Option<u64>,

    /// What is logged: error, warn, info, debug, trace, or a filter such as leveret=debug [default: info]
    #[arg(long, env = "LEVERET_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// Users that may connect from the machine itself only [default: guest]
    #[arg(long, env = "LEVERET_LOOPBACK_USERS", value_name = "NAMES", value_delimiter = ',')]
    pub loopback_users: Option<Vec<String>>,

    /// The user for clients that do not say who they are (ANONYMOUS) [default: they are refused]
    #[arg(long, env = "LEVERET_ANONYMOUS_USER", value_name = "NAME")]
    pub anonymous_user: Option<String>,

    /// Address and port for AMQP with TLS [default: 127.0.0.1:5671, if there is a certificate]
    #[arg(long, env = "LEVERET_TLS_LISTEN", value_name = "ADDRESS:PORT")]
    pub tls_listen: Option<SocketAddr>,

    /// File with the broker's certificate and those between it and its authority (PEM) [default: no TLS]
    #[arg(long, env = "LEVERET_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,

    /// File with the key of that certificate (PEM)
    #[arg(long, env = "LEVERET_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// File with the authorities of clients' certificates (PEM)
    #[arg(long, env = "LEVERET_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// File of what these authorities have revoked (PEM)
    #[arg(long, env = "LEVERET_TLS_CRL", value_name = "FILE")]
    pub tls_crl: Option<PathBuf>,

    /// Which clients show a certificate [default: none]
    #[arg(long, env = "LEVERET_TLS_CLIENTS", value_name = "WHICH", value_enum)]
    pub tls_clients: Option<ClientCertificates>,

    /// What of a client's certificate is the user's name (EXTERNAL) [default: common-name]
    #[arg(long, env = "LEVERET_TLS_LOGIN_FROM", value_name = "WHAT", value_enum)]
    pub tls_login_from: Option<LoginFrom>,

    /// `[users."name"]`: users and what they may do
    #[arg(skip)]
    #[serde(default)]
    pub users: UserTables,

    /// `[plugins."name"]`: what a global plugin may do, everywhere
    #[arg(skip)]
    #[serde(default)]
    pub plugins: PluginTables,

    /// `[vhost."name"]`: what holds in one virtual host
    #[arg(skip)]
    #[serde(default)]
    pub vhost: BTreeMap<String, Spanned<VhostTable>>,

    /// `[totals]`: what the plugins of all virtual hosts may have together
    #[arg(skip)]
    #[serde(default)]
    pub totals: TotalsTable,

    /// `[[intercept]]`: where interceptors are attached
    #[arg(skip)]
    #[serde(default)]
    pub intercept: Vec<Spanned<InterceptTable>>,

    /// `[[durability]]`: when messages of which queues count as safe
    #[arg(skip)]
    #[serde(default)]
    pub durability: Vec<Spanned<DurabilityTable>>,

    /// `[[policy]]`: what holds for queues and exchanges by their names
    #[arg(skip)]
    #[serde(default)]
    pub policy: Vec<Spanned<PolicyTable>>,

    /// `[[operator-policy]]`: how much there may be of it
    #[arg(skip)]
    #[serde(default)]
    pub operator_policy: Vec<Spanned<PolicyTable>>,
}

impl Settings {
    /// Reads the file's settings.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, has a key that is no setting, or limits that do not go together;
    /// the error names the key and the line.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("the configuration {} is not valid", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let settings: Self = toml::from_str(text)?;
        settings.check_attachments(text)?;
        settings.check_durability(text)?;
        let checked = users::check(&settings.users);
        let checked = checked.and_then(|()| policies::check(&settings.policy, &settings.operator_policy));
        if let Err((start, what)) = checked {
            let before = text.get(..start).unwrap_or_default();
            bail!("line {}: {what}", before.matches('\n').count() + 1);
        }
        let Err(error) = settings.policies()?.check() else {
            return Ok(settings);
        };
        match settings.place(&error).and_then(|place| text.get(..place.start)) {
            Some(before) => bail!("line {}: {error}", before.matches('\n').count() + 1),
            None => bail!("{error}"),
        }
    }

    /// What is said of plugins, not checked yet.
    fn policies(&self) -> anyhow::Result<PolicyRules> {
        let mut vhosts = BTreeMap::new();
        for (name, table) in &self.vhost {
            let vhost = Name::new(name.as_bytes()).with_context(|| format!("[vhost.{name:?}]"))?;
            vhosts.insert(vhost, table.get_ref().rules());
        }
        let remembered_mib = self.totals.remembered_mib;
        Ok(PolicyRules { plugins: tables::plugin_rules(&self.plugins), vhosts, remembered_mib })
    }

    /// What is attached where, not checked yet.
    fn attachments(&self) -> Result<Vec<AttachmentRule>, (usize, String)> {
        let rules = self.intercept.iter().enumerate();
        rules.map(|(at, table)| table.get_ref().rule().map_err(|what| (at, what))).collect()
    }

    /// Checks what is attached as far as it does not depend on which virtual hosts there are.
    fn check_attachments(&self, text: &str) -> anyhow::Result<()> {
        let error = match self.attachments() {
            Ok(rules) => {
                let vhosts: Vec<Name> = rules.iter().filter_map(|rule| rule.vhost.clone()).collect();
                Attachments::new(rules, &vhosts).err().map(|error| (error.rule(), error.to_string()))
            }
            Err(error) => Some(error),
        };
        let Some((at, what)) = error else { return Ok(()) };
        let start = self.intercept.get(at).map(|table| table.span().start);
        match start.and_then(|start| text.get(..start)) {
            Some(before) => bail!("line {}: [[intercept]]: {what}", before.matches('\n').count() + 1),
            None => bail!("[[intercept]]: {what}"),
        }
    }

    /// The same for when messages count as safe.
    fn check_durability(&self, text: &str) -> anyhow::Result<()> {
        let Err((at, what)) = durability::check(&self.durability) else { return Ok(()) };
        let start = self.durability.get(at).map(|table| table.span().start);
        match start.and_then(|start| text.get(..start)) {
            Some(before) => bail!("line {}: [[durability]]: {what}", before.matches('\n').count() + 1),
            None => bail!("[[durability]]: {what}"),
        }
    }

    /// Where in the text is what an error speaks of: the limit's value, else the plugin's table, else
    /// the virtual host's.
    fn place(&self, error: &PolicyError) -> Option<Range<usize>> {
        let (plugin, vhost, limit) = match error {
            PolicyError::OutOfRange { plugin, vhost, limit, .. } => {
                (plugin.as_ref(), vhost.as_ref(), Some(limit))
            }
            PolicyError::AboveCeiling { plugin, vhost, limit, .. } => {
                (Some(plugin), Some(vhost), Some(limit))
            }
            PolicyError::Contradiction { plugin, vhost, .. } => (plugin.as_ref(), vhost.as_ref(), None),
            PolicyError::TotalOutOfRange { vhost, .. } => (None, vhost.as_ref(), None),
            PolicyError::MemoryAtStart { plugin, vhost, .. }
            | PolicyError::MemoryTogether { plugin, vhost, .. }
            | PolicyError::Fallback { plugin, vhost, .. }
            | PolicyError::Unsuitable { plugin, vhost, .. } => (Some(plugin), vhost.as_ref(), None),
        };
        let vhost = vhost.and_then(|vhost| self.vhost.get(&vhost.to_text()));
        let tables = vhost.map_or(&self.plugins, |table| &table.get_ref().plugins);
        let table = plugin.and_then(|plugin| tables.get(plugin));
        let limits = match table {
            Some(table) => Some(&table.get_ref().limits),
            None => vhost.map(|vhost| &vhost.get_ref().ceilings),
        };
        let value = limits.zip(limit).and_then(|(limits, limit)| limits.place(*limit));
        value.or_else(|| table.map(Spanned::span)).or_else(|| vhost.map(Spanned::span))
    }

    /// These settings, and where they are silent the `other` ones.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            http_listen: self.http_listen.or(other.http_listen),
            metrics_listen: self.metrics_listen.or(other.metrics_listen),
            https_listen: self.https_listen.or(other.https_listen),
            data_dir: self.data_dir.or(other.data_dir),
            plugins_dir: self.plugins_dir.or(other.plugins_dir),
            vhosts: self.vhosts.or(other.vhosts),
            workers: self.workers.or(other.workers),
            memory_mib: self.memory_mib.or(other.memory_mib),
            message_mib: self.message_mib.or(other.message_mib),
            large_message_mib: self.large_message_mib.or(other.large_message_mib),
            memory_paging_percent: self.memory_paging_percent.or(other.memory_paging_percent),
            compile_memory_mib: self.compile_memory_mib.or(other.compile_memory_mib),
            compile_cpu_seconds: self.compile_cpu_seconds.or(other.compile_cpu_seconds),
            retry_max_ms: self.retry_max_ms.or(other.retry_max_ms),
            announced_product: self.announced_product.or(other.announced_product),
            announced_version: self.announced_version.or(other.announced_version),
            quorum: self.quorum.or(other.quorum),
            consumer_timeout_ms: self.consumer_timeout_ms.or(other.consumer_timeout_ms),
            log: self.log.or(other.log),
            loopback_users: self.loopback_users.or(other.loopback_users),
            tls_listen: self.tls_listen.or(other.tls_listen),
            tls_certificate: self.tls_certificate.or(other.tls_certificate),
            tls_key: self.tls_key.or(other.tls_key),
            tls_ca: self.tls_ca.or(other.tls_ca),
            tls_crl: self.tls_crl.or(other.tls_crl),
            tls_clients: self.tls_clients.or(other.tls_clients),
            tls_login_from: self.tls_login_from.or(other.tls_login_from),
            anonymous_user: self.anonymous_user.or(other.anonymous_user),
            users: if self.users.is_empty() { other.users } else { self.users },
            plugins: if self.plugins.is_empty() { other.plugins } else { self.plugins },
            vhost: if self.vhost.is_empty() { other.vhost } else { self.vhost },
            totals: TotalsTable {
                remembered_mib: self.totals.remembered_mib.or(other.totals.remembered_mib),
            },
            intercept: if self.intercept.is_empty() { other.intercept } else { self.intercept },
            durability: if self.durability.is_empty() { other.durability } else { self.durability },
            policy: if self.policy.is_empty() { other.policy } else { self.policy },
            operator_policy: match self.operator_policy.is_empty() {
                true => other.operator_policy,
                false => self.operator_policy,
            },
        }
    }
}

/// The settings, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AMQP clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the HTTP API listens, if it does; port 0 takes a free one.
    pub http_listen: Option<SocketAddr>,
    /// Where Prometheus asks without credentials, if anywhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Where the HTTP API listens with TLS, if it does.
    pub https_listen: Option<SocketAddr>,
    /// The folder for everything that the broker keeps.
    pub data_dir: PathBuf,
    /// The folder that is watched for plugins.
    pub plugins_dir: PathBuf,
    /// The virtual hosts; the first is the default one.
    pub vhosts: Vec<VhostConfig>,
    /// How many worker threads.
    pub workers: usize,
    /// How many bytes of queued messages there may be before publishers wait.
    pub memory_bytes_max: u64,
    /// How many bytes the body of a message of AMQP 0-9-1 may have.
    pub message_bytes_max: u64,
    /// How many bytes a message of AMQP 1.0 may have.
    pub large_message_bytes_max: u64,
    /// From which part of that on, in hundredths, transient messages are written to disk too.
    pub memory_paging_percent: u8,
    /// What compiling a plugin may take.
    pub compile_limits: CompileLimits,
    /// How long what was refused waits at most before it is tried again, in milliseconds.
    pub retry_ms_max: u64,
    /// What AMQP clients are told of the broker.
    pub announced: Announced,
    /// Whether quorum queues may be declared.
    pub quorum: QuorumQueues,
    /// How long a delivery of a quorum queue may take, in milliseconds; `None` is for ever.
    pub consumer_timeout_ms: Option<u64>,
    /// The log filter.
    pub log: String,
    /// What plugins may do.
    pub policies: PolicyRules,
    /// Where interceptors are attached.
    pub attachments: Arc<Attachments>,
    /// What holds for all users.
    pub access: leveret_access::Settings,
    /// The users that are declared.
    pub users: Vec<User>,
    /// The policies for queues and exchanges that are declared.
    pub declared_policies: Vec<DeclaredPolicy>,
    /// How TLS is served, if it is.
    pub tls: Option<TlsSettings>,
    /// The rules behind `attachments`.
    pub attachment_rules: Vec<AttachmentRule>,
    /// When messages count as safe in virtual hosts of which nothing is said.
    pub durability_usual: VhostDurability,
}

impl Config {
    /// The same with more virtual hosts, which are as those of which nothing is said.
    ///
    /// # Errors
    /// Interceptors that are attached everywhere cannot be attached there.
    pub fn with_vhosts(&self, more: impl IntoIterator<Item = VhostConfig>) -> anyhow::Result<Self> {
        let mut config = self.clone();
        config.vhosts.extend(more);
        let names: Vec<Name> = config.vhosts.iter().map(|vhost| vhost.name.clone()).collect();
        let attachments =
            Attachments::new(config.attachment_rules.clone(), &names).context("[[intercept]]")?;
        config.attachments = Arc::new(attachments);
        Ok(config)
    }
}

impl TryFrom<Settings> for Config {
    type Error = anyhow::Error;

    fn try_from(settings: Settings) -> anyhow::Result<Self> {
        let policies = settings.policies()?;
        policies.check()?;
        let tls = tls::tls(&settings)?;
        let rules = settings.attachments().map_err(|(_, what)| anyhow::anyhow!("[[intercept]]: {what}"))?;
        let data_dir = settings.data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
        let plugins_dir = settings.plugins_dir.unwrap_or_else(|| data_dir.join("plugins"));
        let workers = match settings.workers {
            Some(0) => bail!("workers = 0: there must be at least one worker thread"),
            Some(workers) => workers,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let memory_bytes_max = match settings.memory_mib {
            Some(mib) => mib.saturating_mul(1024 * 1024),
            None => (memory_of_machine_bytes() as f64 * MEMORY_SHARE_DEFAULT) as u64,
        };
        if memory_bytes_max < MEMORY_BYTES_MIN {
            bail!("memory-mib must be at least {}", MEMORY_BYTES_MIN / 1024 / 1024);
        }
        let compile_limits = compile_limits(settings.compile_memory_mib, settings.compile_cpu_seconds)?;
        let retry_ms_max = settings.retry_max_ms.unwrap_or(RETRY_AFTER_MS_MAX);
        if !RETRY_MAX_MS.contains(&retry_ms_max) {
            bail!("retry-max-ms must be between {} and {}", RETRY_MAX_MS.start(), RETRY_MAX_MS.end());
        }
        let names = settings.vhosts.unwrap_or_else(|| vec!["/".to_owned()]);
        let vhosts = vhosts::vhosts(names, (&settings.vhost, &settings.durability), &data_dir, &plugins_dir)?;
        let vhost_names: Vec<Name> = vhosts.iter().map(|vhost| vhost.name.clone()).collect();
        let attachments = Attachments::new(rules.clone(), &vhost_names).context("[[intercept]]")?;
        let declared_policies =
            policies::declared(&settings.policy, &settings.operator_policy, &vhost_names)?;
        Ok(Self {
            listen: settings.listen.unwrap_or(LISTEN_DEFAULT),
            http_listen: match settings.http_listen {
                Some(HttpListen::Off) => None,
                Some(HttpListen::At(address)) => Some(address),
                None => Some(HTTP_LISTEN_DEFAULT),
            },
            metrics_listen: settings.metrics_listen,
            https_listen: settings.https_listen,
            data_dir,
            plugins_dir,
            vhosts,
            workers,
            memory_bytes_max,
            message_bytes_max: messages::bytes_max(settings.message_mib)?,
            large_message_bytes_max: messages::large_bytes_max(settings.large_message_mib)?,
            memory_paging_percent: settings.memory_paging_percent.unwrap_or(50).min(100),
            compile_limits,
            retry_ms_max,
            announced: Announced::of(settings.announced_product, settings.announced_version)?,
            quorum: settings.quorum.unwrap_or_default(),
            consumer_timeout_ms: Some(settings.consumer_timeout_ms.unwrap_or(CONSUMER_TIMEOUT_MS))
                .filter(|timeout_ms| *timeout_ms > 0),
            log: settings.log.unwrap_or_else(|| "info".to_owned()),
            policies,
            attachments: Arc::new(attachments),
            access: access(settings.loopback_users, settings.anonymous_user)?,
            users: users::users(&settings.users)?,
            declared_policies,
            tls,
            attachment_rules: rules,
            durability_usual: durability::of_vhost("", None, &settings.durability),
        })
    }
}

/// An empty name is nobody's, so that a flag can say that there are none.
fn access(
    loopback_users: Option<Vec<String>>,
    anonymous_user: Option<String>,
) -> anyhow::Result<leveret_access::Settings> {
    let name = |text: &String| Name::new(text.as_bytes()).with_context(|| format!("user {text:?}"));
    let loopback_users = loopback_users.unwrap_or_else(|| vec![GUEST.to_owned()]);
    let loopback_users =
        loopback_users.iter().filter(|text| !text.is_empty()).map(name).collect::<Result<_, _>>()?;
    let anonymous_user = anonymous_user.as_ref().filter(|text| !text.is_empty()).map(name).transpose()?;
    Ok(leveret_access::Settings { loopback_users, anonymous_user, ..leveret_access::Settings::default() })
}

fn compile_limits(memory_mib: Option<u64>, cpu_seconds: Option<u64>) -> anyhow::Result<CompileLimits> {
    let mut limits = CompileLimits::default();
    if let Some(mib) = memory_mib {
        limits.memory_bytes_max = mib.saturating_mul(1024 * 1024);
        if limits.memory_bytes_max < COMPILE_MEMORY_BYTES_MIN {
            bail!("compile-memory-mib must be at least {}", COMPILE_MEMORY_BYTES_MIN / 1024 / 1024);
        }
    }
    if let Some(seconds) = cpu_seconds {
        if !(1..=COMPILE_CPU_SECONDS_MAX).contains(&seconds) {
            bail!("compile-cpu-seconds must be between 1 and {COMPILE_CPU_SECONDS_MAX}");
        }
        limits.cpu_seconds_max = seconds;
        limits.wall_time_max = Duration::from_secs(seconds * COMPILE_WALL_PER_CPU);
    }
    Ok(limits)
}

/// The machine's memory in bytes, or a cautious guess of 4 GiB where it cannot be read.
fn memory_of_machine_bytes() -> u64 {
    const GUESS_BYTES: u64 = 4 << 30;
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else {
        return GUESS_BYTES;
    };
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map_or(GUESS_BYTES, |kib| kib * 1024)
}
