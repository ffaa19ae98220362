//! What the host knows of a plugin in a virtual host, over all its versions and workers: what its
//! state takes, its metrics, what was counted.

use crate::{
    capability::{LogLimit, MetricValue, Metrics},
    guest::GuestFailure,
    memo::PluginRoom,
    pace::{InlineTimes, Pace},
    policy::{PluginPolicy, Policies},
    scope::{CORE_TYPES, Scope},
    state::Usage,
    tally::{Calls, Tally},
    together::{AllTogether, InstancesRoom},
    version::Version,
};
use hashbrown::HashMap;
use leveret_broker::{
    ReasonCounts,
    later::{HoldLimits, HoldQuota},
};
use leveret_model::Name;
use parking_lot::{Mutex, RwLock};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How many lines a second say what a plugin did not accept in a virtual host, and as many what it answered wrongly.
const REJECTIONS_LOGGED_PER_SECOND: u32 = 1;

/// How often it is said at most that a plugin's state is full in a virtual host.
const FULL_LOGGED_EVERY_MS: u64 = 60_000;

/// A plugin in a virtual host.
#[derive(Debug)]
pub(crate) struct Account {
    /// What held when the account was made; whether it is switched off is asked elsewhere.
    policy: Arc<PluginPolicy>,
    name: Arc<str>,
    /// The virtual host; empty where it is in none.
    vhost: Name,
    state: Arc<Usage>,
    /// When it was logged last that the state is full, in milliseconds since 1970.
    full_logged_ms: AtomicU64,
    /// What older versions left and can be gone back to: it is beyond the plugin's limits.
    state_kept: Arc<Usage>,
    held: Arc<HoldQuota>,
    instances: Arc<InstanceUse>,
    remembered: Arc<PluginRoom>,
    metrics: Metrics,
    emitted: AtomicU64,
    /// Messages that were not accepted for want of room.
    no_room: AtomicU64,
    log_lines_left_out: AtomicU64,
    drops: Mutex<ReasonCounts>,
    rejections: Mutex<ReasonCounts>,
    rejections_logged: Mutex<LogLimit>,
    bad_answers_logged: Mutex<LogLimit>,
    tallies: Mutex<Tallies>,
    failures: Mutex<Failures>,
    pace: Arc<Pace>,
}

/// The instances of a plugin in a virtual host, over all workers and versions.
#[derive(Debug, Default)]
pub(crate) struct InstanceUse {
    count: AtomicU64,
    bytes: AtomicU64,
    /// That of all plugins in the virtual host; `None` for what is not limited together.
    room: Option<Arc<InstancesRoom>>,
}

impl InstanceUse {
    /// None yet, of those of a virtual host.
    pub(crate) fn of(room: Arc<InstancesRoom>) -> Self {
        Self { room: Some(room), ..Self::default() }
    }

    /// The limit for all plugins of the virtual host together, for people to read.
    pub(crate) fn limit_together(&self) -> String {
        self.room.as_ref().map(|room| room.limit()).unwrap_or_default()
    }

    /// One more.
    pub(crate) fn began(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// One with so much memory is gone.
    pub(crate) fn ended(&self, bytes: usize) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.shrank(bytes);
    }

    /// The memory of one grows by so much. False if all of the virtual host together have too much for that.
    pub(crate) fn grow(&self, bytes: usize) -> bool {
        let fits = self.room.as_ref().is_none_or(|room| room.take(bytes));
        if fits {
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        fits
    }

    /// It did not grow in the end.
    pub(crate) fn shrank(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        if let Some(room) = &self.room {
            room.give_back(bytes);
        }
    }

    /// How many there are, and the bytes of their memories.
    pub(crate) fn now(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// The tallies of workers.
#[derive(Debug, Default)]
struct Tallies {
    live: Vec<Arc<Tally>>,
    /// What those had whose workers are done with the plugin.
    before: Calls,
}

/// How a plugin failed in a virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Calls that trapped.
    pub traps: u64,
    /// Calls that used more CPU time than they may.
    pub cpu: u64,
    /// Calls that wanted more memory than they may.
    pub memory: u64,
    /// Answers that break the contract or its limits.
    pub answers: u64,
    /// Instances that could not be made, for any other reason.
    pub others: u64,
    /// The last failure, for people to read, and when it was, in milliseconds since 1970.
    pub last: Option<(String, u64)>,
    /// Some worker does not ask it until then, in milliseconds since 1970.
    pub set_aside_until_ms: Option<u64>,
}

impl Failures {
    /// That is the last failure, just now. Gives the time since 1970.
    fn failed_last(&mut self, what: &str) -> Duration {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last = Some((String::from(what), milliseconds(since)));
        since
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a plugin used and did in a virtual host, over its versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginUse {
    /// What its calls came to.
    pub calls: Calls,
    /// How it failed.
    pub failures: Failures,
    /// Its calls take long: it is asked in the slow lane.
    pub slow: bool,
    /// How much CPU time a message takes it now; `None` while that is not known.
    pub cpu_per_message: Option<Duration>,
    /// Messages that it emitted.
    pub emitted: u64,
    /// What its keys, values and stored messages take, in bytes.
    pub state_bytes: u64,
    /// How many there are.
    pub state_entries: u64,
    /// What the state takes that older versions left and that can be gone back to, in bytes.
    pub state_kept_bytes: u64,
    /// How often a value or a message was not kept because the limit of that was reached.
    pub state_refused: u64,
    /// Messages that wait because it said so.
    pub held: u64,
    /// What they take, in bytes.
    pub held_bytes: u64,
    /// Messages that were not held because the limit of that was reached.
    pub held_refused: u64,
    /// Messages that were not accepted because there was no room for what it emits or enqueues.
    pub no_room: u64,
    /// Its instances, over all workers; while a version is replaced, of both versions.
    pub instances: u64,
    /// Their memory, in bytes.
    pub memory_bytes: u64,
    /// What is remembered of its answers and verdicts, over all workers, in bytes.
    pub remembered_bytes: u64,
    /// Lines that were left out of the log.
    pub log_lines_left_out: u64,
    /// Its own metrics, by name.
    pub metrics: Vec<(String, MetricValue)>,
    /// How often it used a metric beyond its limit.
    pub metrics_ignored: u64,
    /// Messages that its interceptors dropped, by reason, the latest reason first.
    pub intercepted_drops: Vec<(Arc<str>, u64)>,
    /// Messages that its interceptors did not accept, by reason, the latest reason first.
    pub intercepted_rejections: Vec<(Arc<str>, u64)>,
}

/// By scope, virtual host and plugin.
type ByPlace = HashMap<(Scope, Name, String), Arc<Account>, foldhash::fast::RandomState>;

/// The accounts of all plugins.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    policies: Arc<Policies>,
    inline_times: InlineTimes,
    by_place: RwLock<ByPlace>,
    together: Arc<AllTogether>,
}

impl Account {
    pub(crate) fn plugin(&self) -> &str {
        &self.policy.plugin
    }

    /// Its name, to be kept.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it may do, and how much of it.
    pub(crate) fn policy(&self) -> &PluginPolicy {
        &self.policy
    }

    /// What its key-value and message stores take.
    pub(crate) fn state(&self) -> &Arc<Usage> {
        &self.state
    }

    /// Something was not kept for want of room: says so now and then.
    pub(crate) fn state_is_full(&self, now_ms: u64) {
        let last_ms = self.full_logged_ms.load(Ordering::Relaxed);
        let is_quiet = now_ms.abs_diff(last_ms) < FULL_LOGGED_EVERY_MS;
        let is_mine = |last_ms| {
            let (order, failed) = (Ordering::Relaxed, Ordering::Relaxed);
            self.full_logged_ms.compare_exchange(last_ms, now_ms, order, failed).is_ok()
        };
        if is_quiet || !is_mine(last_ms) {
            return;
        }
        let ((bytes, entries), (bytes_max, entries_max)) = (self.state.used(), self.state.limits());
        tracing::warn!(
            target: "leveret::plugin",
            plugin = self.plugin(),
            "its state in virtual host '{}' is full: {entries} of {entries_max} entries (state-entries), {bytes} of \
             {bytes_max} bytes (state-mib); {} times something was not kept so far",
            self.vhost,
            self.state.refused(),
        );
    }

    /// What the state takes that older versions left.
    pub(crate) fn state_kept(&self) -> &Arc<Usage> {
        &self.state_kept
    }

    /// What is charged for the messages that it holds back.
    pub(crate) fn held(&self) -> &Arc<HoldQuota> {
        &self.held
    }

    /// Its instances.
    pub(crate) fn instances(&self) -> &Arc<InstanceUse> {
        &self.instances
    }

    /// What is remembered of its answers.
    pub(crate) fn remembered(&self) -> &Arc<PluginRoom> {
        &self.remembered
    }

    /// A line was left out of the log.
    pub(crate) fn count_log_line_left_out(&self) {
        self.log_lines_left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// Its own metrics.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Makes its random numbers a fixed series.
    pub(crate) fn random_seed(&self) -> Option<u64> {
        self.policy.random_seed
    }

    /// How many lines it may log in a second.
    pub(crate) fn log_lines_per_second_max(&self) -> u32 {
        self.policy.limits.log_lines_per_second_max
    }

    /// How fast it is, and where it is asked for that.
    pub(crate) fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// It emitted a message.
    pub(crate) fn count_emitted(&self) {
        self.emitted.fetch_add(1, Ordering::Relaxed);
    }

    /// It answered something for a message that cannot be done, at that exchange or attachment: counted, and a line in
    /// the log, if there was none within a second.
    pub(crate) fn bad_answer(&self, at: fmt::Arguments<'_>, what: &str) {
        {
            let mut failures = self.failures.lock();
            failures.answers += 1;
            failures.failed_last(what);
        }
        let Some(left_out) = self.bad_answers_logged.lock().pass(Instant::now()) else { return };
        let vhost = self.policy.vhost.as_ref().map(tracing::field::display);
        tracing::warn!(
            target: "leveret::plugin", plugin = self.policy.plugin, vhost, left_out,
            "{at}: what the plugin answered cannot be done: {what}"
        );
    }

    /// A message is not accepted, because there is no room for what it emits or enqueues.
    pub(crate) fn no_room(&self, why: &str) {
        self.no_room.fetch_add(1, Ordering::Relaxed);
        self.failures.lock().failed_last(why);
        self.log_rejection(format_args!("virtual host '{}'", self.vhost), why);
    }

    /// A tally for one worker, to count in for as long as it keeps it.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        let tally = Arc::new(Tally::default());
        self.tallies.lock().live.push(tally.clone());
        tally
    }

    /// A call or a start failed; with `aside`, it is not asked for so long.
    pub(crate) fn count_failure(&self, failure: Option<&GuestFailure>, what: &str, aside: Option<Duration>) {
        let mut failures = self.failures.lock();
        *match failure {
            Some(GuestFailure::Trap(_)) => &mut failures.traps,
            Some(GuestFailure::Cpu(_) | GuestFailure::CutOff(_)) => &mut failures.cpu,
            Some(GuestFailure::Memory { .. }) => &mut failures.memory,
            Some(GuestFailure::Answer(_)) => &mut failures.answers,
            Some(GuestFailure::NotGranted(_)) | None => &mut failures.others,
        } += 1;
        let since = failures.failed_last(what);
        let until = aside.map(|aside| milliseconds(since + aside));
        failures.set_aside_until_ms = failures.set_aside_until_ms.max(until);
    }

    /// What was used and done until now.
    pub(crate) fn read(&self) -> PluginUse {
        let (state_bytes, state_entries) = self.state.used();
        let (metrics, metrics_ignored) = self.metrics.read();
        let (held, held_bytes) = self.held.taken();
        let (instances, memory_bytes) = self.instances.now();
        PluginUse {
            calls: self.tallies.lock().read(),
            failures: self.failures.lock().clone(),
            slow: self.pace.is_slow(),
            cpu_per_message: self.pace.cost(),
            emitted: self.emitted.load(Ordering::Relaxed),
            state_bytes,
            state_entries,
            state_kept_bytes: self.state_kept.used().0,
            state_refused: self.state.refused(),
            held,
            held_bytes,
            held_refused: self.held.refused(),
            no_room: self.no_room.load(Ordering::Relaxed),
            instances,
            memory_bytes,
            remembered_bytes: self.remembered.taken() as u64,
            log_lines_left_out: self.log_lines_left_out.load(Ordering::Relaxed),
            metrics,
            metrics_ignored,
            intercepted_drops: self.drops.lock().read(),
            intercepted_rejections: self.rejections.lock().read(),
        }
    }

    /// An interceptor of it dropped a message for that reason.
    pub(crate) fn count_drop(&self, reason: Option<&Arc<str>>) {
        self.drops.lock().count(reason.cloned().unwrap_or_else(|| Arc::from("")));
    }

    /// An interceptor of it did not accept a message for that reason.
    pub(crate) fn count_rejection(&self, reason: &Arc<str>) {
        self.rejections.lock().count(reason.clone());
    }

    /// It said that it does not accept a message, at that exchange or attachment: a line in the log, if there
    /// was none within a second.
    pub(crate) fn log_rejection(&self, at: fmt::Arguments<'_>, reason: &str) {
        let Some(left_out) = self.rejections_logged.lock().pass(Instant::now()) else { return };
        let vhost = self.policy.vhost.as_ref().map(tracing::field::display);
        tracing::info!(
            target: "leveret::plugin", plugin = self.policy.plugin, vhost, left_out,
            "{at} does not accept a message: {reason}"
        );
    }
}

impl Tallies {
    /// All that was counted. Tallies that nobody writes any more are taken over.
    fn read(&mut self) -> Calls {
        let before = &mut self.before;
        self.live.retain_mut(|tally| match Arc::get_mut(tally) {
            Some(tally) => {
                before.add(tally);
                false
            }
            None => true,
        });
        let mut calls = self.before.clone();
        self.live.iter().for_each(|tally| calls.add(tally));
        calls
    }
}

impl Accounts {
    /// Accounts with the limits of these policies, of plugins that may take so long on workers.
    pub(crate) fn new(policies: Arc<Policies>, inline_times: InlineTimes) -> Self {
        let together = Arc::new(AllTogether::new(policies.clone()));
        Self { policies, inline_times, by_place: RwLock::default(), together }
    }

    /// Accounts of the same kind with nothing in them; in the totals of virtual hosts both have a part.
    pub(crate) fn beside(&self) -> Self {
        let (policies, together) = (self.policies.clone(), self.together.clone());
        Self { policies, inline_times: self.inline_times, by_place: RwLock::default(), together }
    }

    /// What plugins may take on a worker.
    pub(crate) fn inline_times(&self) -> &InlineTimes {
        &self.inline_times
    }

    /// What plugins have together.
    pub(crate) fn together(&self) -> &Arc<AllTogether> {
        &self.together
    }

    /// The account for an instance that serves a virtual host.
    pub(crate) fn of_instance(&self, version: &Version, vhost: &Name) -> Arc<Account> {
        self.of(&version.scope, vhost, &version.code.plugin)
    }

    /// The account of a plugin in a virtual host; with an empty name, in none of them.
    pub(crate) fn of(&self, scope: &Scope, vhost: &Name, plugin: &str) -> Arc<Account> {
        let key = (scope.clone(), vhost.clone(), String::from(plugin));
        if let Some(account) = self.by_place.read().get(&key) {
            return account.clone();
        }
        let make = || {
            let policy = self.policies.of(scope, Some(vhost).filter(|vhost| !vhost.is_empty()), plugin);
            let limits = &policy.limits;
            let together = self.together.of(vhost);
            Arc::new(Account {
                vhost: vhost.clone(),
                full_logged_ms: AtomicU64::new(0),
                state: Arc::new(Usage::new(limits.state_bytes_max, limits.state_entries_max)),
                state_kept: Arc::new(Usage::unlimited()),
                held: Arc::new(HoldQuota::new(HoldLimits {
                    messages_max: limits.held_messages_max,
                    bytes_max: limits.held_bytes_max,
                })),
                // A virtual host cannot do without the core types, and their memory follows its bindings.
                instances: match *scope == Scope::Shipped && CORE_TYPES.contains(&plugin) {
                    true => Arc::default(),
                    false => Arc::new(InstanceUse::of(together.memory.clone())),
                },
                remembered: Arc::new(PluginRoom::new(&together.remembered)),
                metrics: Metrics::new(limits.metrics_max),
                name: Arc::from(plugin),
                policy,
                no_room: AtomicU64::new(0),
                emitted: AtomicU64::new(0),
                log_lines_left_out: AtomicU64::new(0),
                drops: Mutex::default(),
                rejections: Mutex::default(),
                rejections_logged: Mutex::new(LogLimit::new(REJECTIONS_LOGGED_PER_SECOND)),
                bad_answers_logged: Mutex::new(LogLimit::new(REJECTIONS_LOGGED_PER_SECOND)),
                tallies: Mutex::default(),
                failures: Mutex::default(),
                pace: Arc::new(Pace::new(self.inline_times)),
            })
        };
        self.by_place.write().entry(key).or_insert_with(make).clone()
    }

    /// Whether the calls of any plugin took long: [`Pace::took_long`].
    #[cfg(test)]
    pub(crate) fn any_took_long(&self) -> bool {
        self.by_place.read().values().any(|account| account.pace.took_long())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_plugins_may_take_on_a_worker_is_that_of_all_accounts() {
        let times = InlineTimes { turn: Duration::from_secs(7), ..InlineTimes::default() };
        let accounts = Accounts::new(Arc::default(), times);
        for accounts in [accounts.beside(), accounts] {
            let account = accounts.of(&Scope::Global, &Name::from_static("/"), "p");
            assert_eq!((account.pace().times(), accounts.inline_times()), (&times, &times));
        }
    }

    #[test]
    fn what_a_worker_counted_stays_when_it_is_gone() {
        let account = Accounts::default().of(&Scope::Global, &Name::from_static("/"), "p");
        let (first, second) = (account.tally(), account.tally());
        first.asked(3, 1, 0, 0);
        second.remembered(5);
        let counted = account.read().calls;
        assert_eq!((counted.asked, counted.calls, counted.remembered), (3, 1, 5));
        drop(first);
        second.remembered(1);
        for _ in 0..2 {
            let counted = account.read().calls;
            assert_eq!((counted.asked, counted.remembered), (3, 6));
        }
        assert_eq!(account.tallies.lock().live.len(), 1);
    }
}
