//! A candidate: a version of a plugin that passed all stages beside the one that serves, and what is
//! known of it so far.
//!
//! *In shadow* it is asked about messages that the serving version was asked about (`shadow.rs`); nothing
//! of its answers is used. *As a canary* it answers for a share of routing keys (`share.rs`, and
//! `worker/arms.rs`, where the ways part); a message it fails on goes to the serving version.
//!
//! *Not here:* how it comes and goes (`registry/candidates.rs`).
//!
//! *Invariants:* a canary is withdrawn in a virtual host after [`CANARY_FAILURES_MAX`] failures there within
//! [`CANARY_FAILURES_WITHIN`], or at once when it refuses an exchange or binding that is there; in the others
//! it goes on, for what a tenant sends or binds decides over nobody else's versions. What a
//! shadow keeps lies in [`Services`] of its own: nobody else sees its state, metrics or failures.

mod compare;
mod report;
mod shadow;
mod share;

pub(crate) use compare::Given;
pub use report::{CandidateInfo, CandidateState, DIFFERENCES_SHOWN_MAX, Difference};
pub(crate) use shadow::{Glance, PER_BATCH_MAX, Shadow};
pub use share::Share;

use crate::{engine::CodeStrategy, services::Services, version::Version};
use hashbrown::HashMap;
use leveret_model::Name;
use parking_lot::{Mutex, RwLock};
use report::Told;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use wasmtime::component::Component;

/// After so many failed messages of a virtual host within [`CANARY_FAILURES_WITHIN`] a canary is withdrawn there.
pub const CANARY_FAILURES_MAX: usize = 5;
/// The span of time for [`CANARY_FAILURES_MAX`].
pub const CANARY_FAILURES_WITHIN: Duration = Duration::from_secs(60);

/// A version beside the one that serves.
pub(crate) struct Candidate {
    pub(crate) version: Arc<Version>,
    /// The exchange types that it provides.
    pub(crate) names: Vec<Name>,
    /// What it is made of, to be put into service.
    pub(crate) component: Component,
    pub(crate) strategy: CodeStrategy,
    /// What its shadow finds in the host: its own.
    pub(crate) services: Arc<Services>,
    since: SystemTime,
    /// Virtual hosts that did not take it, and why: it is not asked there.
    left_out: RwLock<Vec<(Name, String)>>,
    standing: RwLock<Standing>,
    counts: Counts,
    told: Mutex<Told>,
    /// When a canary's last failures were, by virtual host.
    failures: Mutex<HashMap<Name, VecDeque<Instant>>>,
}

/// How it stands.
#[derive(Clone, Debug)]
enum Standing {
    Shadow,
    /// For all virtual hosts or one, but for those where it was withdrawn, and why.
    Canary {
        share: Share,
        vhost: Option<Name>,
        withdrawn: Vec<(Name, String)>,
    },
    Gone,
}

/// What a candidate is asked for exchanges of a virtual host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    /// What the serving version was asked, and its answers are not used.
    Shadow,
    /// About these keys, and its answers are used.
    Canary(Share),
    /// Nothing for now.
    Nothing,
    /// It is no candidate any more.
    Gone,
}

#[derive(Debug, Default)]
struct Counts {
    equal: AtomicU64,
    different: AtomicU64,
    shadow_failed: AtomicU64,
    not_asked: AtomicU64,
    remembered: AtomicU64,
    asked: AtomicU64,
    failed: AtomicU64,
}

/// What a canary answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) remembered: u64,
    pub(crate) asked: u64,
}

impl Candidate {
    /// A candidate that is in shadow.
    pub(crate) fn new(
        version: Arc<Version>,
        names: Vec<Name>,
        (component, strategy): (Component, CodeStrategy),
        services: Arc<Services>,
    ) -> Self {
        Self {
            version,
            names,
            component,
            strategy,
            services,
            since: SystemTime::now(),
            left_out: RwLock::default(),
            standing: RwLock::new(Standing::Shadow),
            counts: Counts::default(),
            told: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// What it is asked in a virtual host.
    pub(crate) fn arm(&self, vhost: &Name) -> Arm {
        match &*self.standing.read() {
            Standing::Shadow => Arm::Shadow,
            Standing::Canary { vhost: Some(only), .. } if only != vhost => Arm::Shadow,
            Standing::Canary { withdrawn, .. } if withdrawn.iter().any(|(there, _)| there == vhost) => {
                Arm::Nothing
            }
            Standing::Canary { share, .. } => Arm::Canary(*share),
            Standing::Gone => Arm::Gone,
        }
    }

    /// Whether a virtual host did not take it.
    pub(crate) fn leaves_out(&self, vhost: &Name) -> bool {
        self.left_out.read().iter().any(|(there, _)| there == vhost)
    }

    /// From now on it is asked everywhere but in these virtual hosts.
    pub(crate) fn leave_out(&self, left_out: Vec<(Name, String)>) {
        *self.left_out.write() = left_out;
    }

    /// Whether it is no candidate any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(&*self.standing.read(), Standing::Gone)
    }

    /// From now on it is in shadow.
    pub(crate) fn to_shadow(&self) {
        self.stand(Standing::Shadow);
    }

    /// From now on it is a canary, for all virtual hosts or one, also where it was withdrawn.
    pub(crate) fn to_canary(&self, share: Share, vhost: Option<Name>) {
        self.failures.lock().clear();
        self.stand(Standing::Canary { share, vhost, withdrawn: Vec::new() });
    }

    /// It is no candidate any more.
    pub(crate) fn to_gone(&self) {
        self.stand(Standing::Gone);
    }

    /// A virtual host is gone, with what became of it there.
    pub(crate) fn forget_vhost(&self, gone: &Name) {
        self.left_out.write().retain(|(vhost, _)| vhost != gone);
        self.failures.lock().remove(gone);
        let mut standing = self.standing.write();
        match &mut *standing {
            Standing::Canary { vhost: Some(only), .. } if only == gone => *standing = Standing::Shadow,
            Standing::Canary { withdrawn, .. } => withdrawn.retain(|(vhost, _)| vhost != gone),
            Standing::Shadow | Standing::Gone => {}
        }
    }

    fn stand(&self, standing: Standing) {
        let mut now = self.standing.write();
        if !matches!(*now, Standing::Gone) {
            *now = standing;
        }
    }

    /// Another version serves now: what was compared was compared with the one before.
    pub(crate) fn start_anew(&self) {
        let Counts { equal, different, shadow_failed, not_asked, .. } = &self.counts;
        for count in [equal, different, shadow_failed, not_asked] {
            count.store(0, Ordering::Relaxed);
        }
        self.told.lock().examples.clear();
    }

    /// A canary failed on a message of a virtual host, which may be once too often.
    pub(crate) fn canary_failed(&self, vhost: &Name, what: &str) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        self.told.lock().failed(what);
        let count = note(self.failures.lock().entry(vhost.clone()).or_default(), Instant::now());
        if count >= CANARY_FAILURES_MAX {
            let within = CANARY_FAILURES_WITHIN.as_secs();
            let why = format!("it failed on {count} messages within {within} s, the last time: {what}");
            self.withdraw(vhost, why);
        }
    }

    /// A canary refused an exchange or a binding that is there, so it cannot serve that virtual host.
    pub(crate) fn canary_refused(&self, vhost: &Name, what: &str) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        self.told.lock().failed(what);
        self.withdraw(vhost, format!("it does not take what is there: {what}"));
    }

    fn withdraw(&self, vhost: &Name, why: String) {
        let mut standing = self.standing.write();
        let Standing::Canary { withdrawn, .. } = &mut *standing else { return };
        if withdrawn.iter().any(|(there, _)| there == vhost) {
            return;
        }
        withdrawn.push((vhost.clone(), why.clone()));
        drop(standing);
        tracing::warn!(
            target: "leveret::plugin",
            plugin = self.version.code.plugin, scope = %self.version.scope, %vhost,
            version = self.version.description.version, digest = %self.version.code.digest,
            "the canary is withdrawn in the virtual host: {why}"
        );
    }

    /// A canary answered for messages.
    pub(crate) fn count_canary(&self, answered: Answered) {
        self.counts.remembered.fetch_add(answered.remembered, Ordering::Relaxed);
        self.counts.asked.fetch_add(answered.asked, Ordering::Relaxed);
    }

    /// A shadow was not asked about so many messages.
    pub(crate) fn count_not_asked(&self, messages: u64) {
        if messages > 0 {
            self.counts.not_asked.fetch_add(messages, Ordering::Relaxed);
        }
    }
}

/// Notes a failure. Gives how many there were within [`CANARY_FAILURES_WITHIN`].
fn note(failures: &mut VecDeque<Instant>, now: Instant) -> usize {
    while failures.front().is_some_and(|at| now.duration_since(*at) > CANARY_FAILURES_WITHIN) {
        failures.pop_front();
    }
    failures.push_back(now);
    failures.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_far_apart_are_forgiven() {
        let failures = |every: Duration| {
            let (mut times, mut now) = (VecDeque::new(), Instant::now());
            (0..50).any(|_| {
                now += every;
                note(&mut times, now) >= CANARY_FAILURES_MAX
            })
        };
        assert!(failures(CANARY_FAILURES_WITHIN / CANARY_FAILURES_MAX as u32));
        assert!(!failures(CANARY_FAILURES_WITHIN / (CANARY_FAILURES_MAX as u32 - 2)));
    }
}
