//! Checks that types which claim to be pure are.
//!
//! A guest has memory, so its decisions can differ without any import. Workers hand in some of the
//! answers that they remember: the first, and then one in thousands. A thread beside them asks
//! another instance, which was told of the exchange anew and has heard other messages before, the
//! same question twice. Where an answer differs from what is remembered, or from its twin, the
//! claim is withdrawn: every worker forgets what it remembers of the type, and it goes on as
//! impure. What is remembered across changes of bindings is checked by this too, for the claim that
//! bindings are independent says that it stays what a fresh instance answers.
//!
//! *Not here:* which answers are checked (`memo.rs`).
//!
//! *Invariants:* workers never wait for the audit; what it has no time for is not checked. A
//! question is compared only where the bindings are those that its answer followed from, or differ
//! in a way that does not matter to it. An instance that fails here has no consequence.

use crate::{
    builder::Place,
    engine::{CallSlot, Engines},
    guest::Decision,
    memo::Kept,
    registry::Registry,
    replica::{About, Replica},
    services::Services,
    standby::spec_at,
    version::Version,
};
use hashbrown::HashMap;
use leveret_broker::{
    exchange::{BindingId, Exchange, Generation},
    port::Layer,
};
use leveret_model::Reads;
use std::{
    fmt, io,
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

/// So many questions wait for the audit; more are left out.
const WAITING_MAX: usize = 64;
/// An instance that has answered so many questions makes room for a fresh one, once it is
/// [`INSTANCE_AGE_MIN`] old.
const QUESTIONS_PER_INSTANCE: u32 = 64;
const INSTANCE_AGE_MIN: Duration = Duration::from_secs(1);
/// Instances are let go when nothing was asked for so long.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How often an exchange that changes all the time is caught up with, for one question.
const CATCH_UPS_MAX: u32 = 3;
/// How many ids and how many bytes of a key the log shows.
const SHOWN_MAX: usize = 64;

/// A remembered answer, to be checked.
pub(crate) struct Question {
    pub(crate) version: Arc<Version>,
    pub(crate) exchange: Arc<Exchange>,
    /// Which of its types answered.
    pub(crate) layer: Layer,
    /// The generation that the answer belongs to.
    pub(crate) generation: Generation,
    /// What the exchange read then.
    pub(crate) reads: Arc<Reads>,
    /// The projection, after its length (4 bytes).
    pub(crate) question: Vec<u8>,
    pub(crate) remembered: Verdict,
}

/// An answer as the audit compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To these bindings, in the order of their ids.
    Deliver(Vec<BindingId>),
    /// Nowhere, on purpose.
    Drop(Option<Arc<str>>),
    /// Not accepted.
    Reject(Arc<str>),
    /// To the inner type, in so many milliseconds.
    Hold(u64),
}

impl Verdict {
    fn deliver(ids: &[BindingId]) -> Self {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        Self::Deliver(ids)
    }

    /// The answer without these bindings.
    fn without(mut self, left_out: &[BindingId]) -> Self {
        if let Self::Deliver(ids) = &mut self {
            ids.retain(|id| !left_out.contains(id));
        }
        self
    }
}

impl From<&Kept> for Verdict {
    fn from(kept: &Kept) -> Self {
        match kept {
            Kept::Drop(reason, _) => Self::Drop(reason.as_deref().cloned()),
            Kept::Hold(delay_ms, _) => Self::Hold(*delay_ms),
            Kept::Reject(reason, _) => Self::Reject(Arc::clone(reason)),
            Kept::Nowhere | Kept::One(..) | Kept::Two(..) | Kept::Many(_) => {
                Self::deliver(&kept.ids().unwrap_or_default())
            }
        }
    }
}

impl From<Decision<'_>> for Verdict {
    fn from(decision: Decision<'_>) -> Self {
        match decision {
            Decision::Deliver(ids) => Self::deliver(ids),
            Decision::Drop(reason) => Self::Drop(reason),
            Decision::Delegate => Self::Hold(0),
            Decision::Hold(delay_ms) => Self::Hold(delay_ms),
            Decision::Reject(reason) => Self::Reject(reason),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver(ids) => {
                f.write_str("deliver to bindings [")?;
                for id in ids.iter().take(SHOWN_MAX) {
                    write!(f, " {}", id.0)?;
                }
                f.write_str(if ids.len() > SHOWN_MAX { " and more ]" } else { " ]" })
            }
            Self::Drop(None) => f.write_str("drop"),
            Self::Drop(Some(reason)) => write!(f, "drop: {}", reason.escape_debug()),
            Self::Hold(0) => f.write_str("delegate"),
            Self::Hold(delay_ms) => write!(f, "hold for {delay_ms} ms"),
            Self::Reject(reason) => write!(f, "reject: {}", reason.escape_debug()),
        }
    }
}

/// The way to the thread that audits. It ends when this is dropped.
pub(crate) struct Auditor {
    questions: mpsc::SyncSender<Job>,
}

enum Job {
    Check(Box<Question>),
    /// Says when it comes to this: all before is checked then.
    #[cfg(test)]
    Reach(mpsc::Sender<()>),
}

impl Auditor {
    /// Starts the thread.
    pub(crate) fn start(
        engines: &Engines,
        registry: &Arc<Registry>,
        services: &Arc<Services>,
    ) -> io::Result<Self> {
        let (questions, jobs) = mpsc::sync_channel(WAITING_MAX);
        let (slot, registry) = (engines.ticker().slot(), Arc::downgrade(registry));
        let bench = Bench { slot, registry, services: services.clone(), instances: HashMap::new() };
        thread::Builder::new().name("leveret-audit".into()).spawn(move || bench.run(&jobs))?;
        Ok(Self { questions })
    }

    /// Checks an answer some time, unless too many wait already.
    pub(crate) fn check(&self, question: Question) {
        // Full, or the thread is gone: then it is not checked.
        let _left_out = self.questions.try_send(Job::Check(Box::new(question)));
    }

    /// Waits until all that was handed in is checked.
    #[cfg(test)]
    pub(crate) fn wait(&self) {
        let (sender, reached) = mpsc::channel();
        self.questions.send(Job::Reach(sender)).unwrap();
        reached.recv().unwrap();
    }
}

/// The thread's side.
struct Bench {
    slot: CallSlot,
    registry: Weak<Registry>,
    services: Arc<Services>,
    instances: HashMap<Place, Audited>,
}

struct Audited {
    replica: Replica,
    questions: u32,
    since: Instant,
}

impl Bench {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            match jobs.recv_timeout(IDLE_MAX) {
                Ok(Job::Check(question)) => self.check(*question),
                #[cfg(test)]
                Ok(Job::Reach(sender)) => sender.send(()).unwrap(),
                Err(mpsc::RecvTimeoutError::Timeout) => self.instances.clear(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn check(&mut self, question: Question) {
        let Some(spec) = spec_at(&question.exchange, question.layer) else {
            return;
        };
        let type_name = &spec.type_name;
        let claims = question.version.claims(type_name);
        let Some(registry) = self.registry.upgrade().filter(|_| claims.pure) else {
            return;
        };
        if question.exchange.is_deleted() || !registry.serves(question.version.id) {
            self.instances.retain(|place, _| registry.serves(place.version));
            return;
        }
        let place = Place::of(&question.version, &question.exchange.vhost);
        let Some((remembered, answers)) = self.ask(&place, &question, claims.independent) else {
            return;
        };
        let Some(other) = answers.into_iter().find(|answer| *answer != remembered) else {
            return;
        };
        self.instances.remove(&place);
        if registry.withdraw_purity(&question.version, type_name) {
            let projection = question.question.get(4..).unwrap_or_default();
            tracing::warn!(
                target: "leveret::plugin",
                plugin = question.version.code.plugin, digest = %question.version.code.digest,
                exchange_type = %type_name, vhost = %question.exchange.vhost, exchange = %question.exchange.spec.name,
                projection = %projection.get(..SHOWN_MAX).unwrap_or(projection).escape_ascii(),
                "the type claims to be pure and is not: remembered was '{remembered}', another instance answers \
                 '{other}'; from now on nothing of it is remembered"
            );
        }
    }

    /// What is remembered and what another instance answers, as far as they can be compared. `None`
    /// where they cannot.
    fn ask(
        &mut self,
        place: &Place,
        question: &Question,
        independent: bool,
    ) -> Option<(Verdict, Vec<Verdict>)> {
        let audited = self.instance(place, question)?;
        match audited.answers(question, independent) {
            Ok(answers) => answers,
            Err(Unusable) => {
                self.instances.remove(place);
                None
            }
        }
    }

    fn instance(&mut self, place: &Place, question: &Question) -> Option<&mut Audited> {
        if self.instances.get(place).is_some_and(Audited::is_spent) {
            self.instances.remove(place);
        }
        if !self.instances.contains_key(place) {
            let replica = Replica::start(
                &question.version,
                &question.exchange.vhost,
                &self.services,
                self.slot.clone(),
            )
            .ok()?;
            let audited = Audited { replica, questions: 0, since: Instant::now() };
            self.instances.insert(place.clone(), audited);
        }
        self.instances.get_mut(place)
    }
}

/// The instance failed.
struct Unusable;

impl Audited {
    fn is_spent(&self) -> bool {
        self.questions >= QUESTIONS_PER_INSTANCE && self.since.elapsed() >= INSTANCE_AGE_MIN
    }

    fn answers(
        &mut self,
        question: &Question,
        independent: bool,
    ) -> Result<Option<(Verdict, Vec<Verdict>)>, Unusable> {
        let Some(changed) = self.catch_up(question, independent)? else {
            return Ok(None);
        };
        self.questions += 1;
        let mut answers = Vec::with_capacity(2);
        for _ in 0..2 {
            let about = About { exchange: &question.exchange, layer: question.layer, on_hand: None };
            // What effects it has are dropped.
            let (decisions, _) =
                self.replica.route(about, &question.question, 1, None).map_err(|_| Unusable)?;
            answers.extend(decisions.iter().map(|decision| Verdict::from(decision).without(&changed)));
        }
        Ok(Some((question.remembered.clone().without(&changed), answers)))
    }

    /// Brings the instance to the exchange's generation. Gives the bindings that came or went since
    /// the answer; `None` where the answer cannot be compared then.
    fn catch_up(
        &mut self,
        question: &Question,
        independent: bool,
    ) -> Result<Option<Vec<BindingId>>, Unusable> {
        let exchange = &question.exchange;
        for _ in 0..CATCH_UPS_MAX {
            self.replica.serve(exchange, question.layer).map_err(|_| Unusable)?;
            let Some((generation, reads)) = self.replica.knows(exchange.id, question.layer) else {
                return Ok(None);
            };
            if *reads != question.reads {
                return Ok(None);
            }
            if generation == question.generation {
                return Ok(Some(Vec::new()));
            }
            if !independent {
                return Ok(None);
            }
            match exchange.changes_since(question.generation) {
                Ok(changes) if changes.reconfigured => return Ok(None),
                Ok(changes) if changes.generation == generation => {
                    let bound = changes.bound.iter().map(|binding| binding.id);
                    return Ok(Some(bound.chain(changes.unbound.iter().copied()).collect()));
                }
                // It changed once more.
                Ok(_) => {}
                Err(_lagging) => return Ok(None),
            }
        }
        Ok(None)
    }
}
