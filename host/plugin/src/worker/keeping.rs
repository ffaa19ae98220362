//! What a worker keeps of a type of an exchange, and how it follows the exchange's changes.
//!
//! Answers and sets belong to one generation. At another they are forgotten, unless the type says
//! that each binding decides for itself and what it reads is the same: then bindings that went are
//! taken out, and new ones are asked about alone, for those messages that have their marks (see
//! [`crate::memo`], "Churn").

use super::{arms::Beside, sets::RouteSets};
use crate::{
    account::Account,
    audit::{Auditor, Question, Verdict},
    candidate::Candidate,
    guest::{GuestFailure, Refused},
    memo::{KeyForm, MARKS_MAX, Marks, Memo, NotAUnion},
    pace::Pace,
    policy::{Capability, PluginPolicy},
    replica::Replica,
    standby::spec_at,
    tally::Tally,
    version::{Version, VersionId},
};
use leveret_broker::{
    exchange::{Changes, Exchange, Generation},
    port::Layer,
};
use leveret_model::{Name, Reads};
use std::{
    rc::Rc,
    sync::{Arc, Weak},
    time::Instant,
};

/// More new bindings at a time are not asked about alone.
const BINDINGS_ASKED_MAX: usize = 256;

/// How often the replica of an exchange that changes all the time is caught up with it at once.
const CATCH_UPS_MAX: u32 = 3;

/// What a worker keeps of a type of an exchange.
pub(super) struct Entry {
    pub(super) exchange: Weak<Exchange>,
    layer: Layer,
    pub(super) type_name: Name,
    /// The version that serves it, once one did.
    #[expect(
        clippy::redundant_allocation,
        reason = "each batch that asks counts it once more, without atomics"
    )]
    pub(super) version: Option<Rc<Arc<Version>>>,
    /// What holds for that plugin here; `None` where none is to serve.
    pub(super) policy: Option<Arc<PluginPolicy>>,
    /// The place of the core type that stands in for it, where the operator chose one.
    pub(super) standby: Option<Layer>,
    /// That one was needed, and was not ready: it is made ready before anything is asked again.
    pub(super) awaits_standby: bool,
    /// Its decisions are remembered.
    pub(super) pure: bool,
    /// Each of its bindings decides for itself.
    independent: bool,
    /// `reads`, the memo and the sets are those of this generation.
    pub(super) generation: Generation,
    pub(super) reads: Arc<Reads>,
    /// `reads` is the routing key and nothing else.
    pub(super) key_only: bool,
    /// `reads` is nothing at all.
    pub(super) reads_nothing: bool,
    /// Its decisions may hold messages.
    pub(super) may_hold: bool,
    /// A message may be rejected for the length of its body.
    pub(super) rejects_bodies: bool,
    pub(super) memo: Memo,
    pub(super) sets: RouteSets,
    /// Where this worker counts for that plugin here.
    pub(super) tally: Option<Arc<Tally>>,
    /// That plugin's account here.
    pub(super) account: Option<Arc<Account>>,
    /// How fast that plugin is here.
    pub(super) pace: Option<Arc<Pace>>,
    /// The plugin refused it on a replay: why, and until when that holds.
    pub(super) refused: Option<(String, Instant)>,
    /// The log says that this version refused it.
    refused_by: Option<VersionId>,
    /// A version that is tried beside the one that serves.
    pub(super) beside: Option<Box<Beside>>,
    /// It is that version's.
    pub(super) on_trial: Option<Arc<Candidate>>,
}

/// Why new bindings could not be asked about alone.
enum NotAdded {
    /// The plugin does not take them, or does not answer as it says it does.
    Unfit,
    /// It failed: the instance is lost.
    Failed(GuestFailure),
}

impl From<NotAUnion> for NotAdded {
    fn from(_: NotAUnion) -> Self {
        Self::Unfit
    }
}

impl From<Refused> for NotAdded {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::ByPlugin(_) => Self::Unfit,
            Refused::Failed(failure) => Self::Failed(failure),
        }
    }
}

impl From<GuestFailure> for NotAdded {
    fn from(failure: GuestFailure) -> Self {
        Self::Failed(failure)
    }
}

impl Entry {
    pub(super) fn new(exchange: &Arc<Exchange>, layer: Layer, memo_bytes_max: usize) -> Self {
        let spec = spec_at(exchange, layer);
        Self {
            exchange: Arc::downgrade(exchange),
            layer,
            type_name: spec.map_or_else(Name::default, |spec| spec.type_name.clone()),
            standby: None,
            awaits_standby: false,
            version: None,
            policy: None,
            pure: false,
            independent: false,
            generation: Generation::default(),
            reads: Arc::default(),
            key_only: false,
            reads_nothing: false,
            rejects_bodies: false,
            may_hold: false,
            memo: Memo::new(memo_bytes_max),
            sets: RouteSets::default(),
            tally: None,
            account: None,
            pace: None,
            refused: None,
            refused_by: None,
            beside: None,
            on_trial: None,
        }
    }

    /// Follows the exchange to the generation that the replica knows.
    ///
    /// # Errors
    /// If the plugin failed at it. What is kept is sound then, and the replica is lost.
    pub(super) fn keep_up(
        &mut self,
        version: &Arc<Version>,
        exchange: &Arc<Exchange>,
        replica: &mut Replica,
    ) -> Result<(), GuestFailure> {
        let changes = match self.changes_for(exchange, replica) {
            Ok(changes) => changes,
            Err(Refused::Failed(failure)) => {
                self.memo.forget();
                return Err(failure);
            }
            Err(Refused::ByPlugin(_)) => None,
        };
        let Some((generation, reads)) = replica.knows(exchange.id, self.layer) else {
            self.memo.forget();
            return Ok(());
        };
        let reads = reads.clone();
        let claims = version.claims(&self.type_name);
        let same = self.version.as_ref().is_some_and(|known| known.id == version.id)
            && (self.pure, self.independent) == (claims.pure, claims.independent)
            && *self.reads == *reads;
        if same && self.generation == generation {
            return Ok(());
        }
        let carried = match changes.filter(|changes| same && self.independent && !changes.reconfigured) {
            Some(changes) => self.carry(exchange, replica, &changes),
            None => {
                self.sets.forget();
                Err(NotAdded::Unfit)
            }
        };
        match carried {
            Ok(()) => self.memo.carried_to(generation),
            Err(_) => self.memo.forget(),
        }
        let may_hold = replica.may_hold(exchange.id, self.layer);
        self.is_at(version, generation, reads, may_hold);
        match carried {
            Err(NotAdded::Failed(failure)) => Err(failure),
            _ => Ok(()),
        }
    }

    /// Whether answers are remembered now.
    #[inline]
    pub(super) fn remembers(&self) -> bool {
        self.pure && !self.memo.leaves_out()
    }

    /// Whether messages can be asked about in their order: none of them is refused unasked, and nothing of them is needed
    /// but their projections.
    pub(super) fn is_asked_at_once(&self, version: &Version) -> bool {
        !self.rejects_bodies && self.standby.is_none() && !version.code.takes_messages()
    }

    /// Says in the log that a version does not take the exchange, once: it was taken when it was declared.
    pub(super) fn tell_refused(&mut self, version: &Version, exchange: &Exchange, why: &str) {
        if self.refused_by.replace(version.id) != Some(version.id) && self.on_trial.is_none() {
            tracing::warn!(
                target: "leveret::plugin",
                vhost = %exchange.vhost, exchange = %exchange.spec.name, exchange_type = %self.type_name,
                plugin = version.code.plugin, digest = %version.code.digest,
                "the plugin does not take an exchange that was declared before; its messages are refused: {why}"
            );
        }
    }

    /// What is remembered was brought to a later generation than this one by a version that does not serve then.
    pub(super) fn is_of_no_version(&mut self, generation: Generation) {
        self.memo.forget();
        self.sets.forget();
        self.generation = generation;
    }

    fn is_at(&mut self, version: &Arc<Version>, generation: Generation, reads: Arc<Reads>, may_hold: bool) {
        let claims = version.claims(&self.type_name);
        (self.pure, self.independent) = (claims.pure, claims.independent);
        self.version = Some(Rc::new(version.clone()));
        self.key_only = reads.only_routing_key();
        self.reads_nothing = reads.nothing();
        self.may_hold = may_hold;
        self.rejects_bodies = reads.body.is_some_and(|body| body.rejects_above);
        self.reads = reads;
        self.generation = generation;
        self.memo
            .at_generation(generation, if self.key_only { KeyForm::RoutingKey } else { KeyForm::Projection });
    }

    /// Follows the exchange to a generation without an instance here, for a plugin that is asked in the lane:
    /// what it reads is taken to be what it was, until the lane says otherwise ([`Self::learn`]).
    pub(super) fn assume(&mut self, version: &Arc<Version>, exchange: &Exchange, generation: Generation) {
        let is_same = self.version.as_ref().is_some_and(|known| known.id == version.id);
        if is_same && self.generation == generation {
            return;
        }
        // A message may not be rejected for what is only assumed.
        let reads = match is_same && !self.rejects_bodies {
            true => self.reads.clone(),
            false => Arc::default(),
        };
        self.learn(version, exchange, generation, reads);
    }

    /// This is what it reads at a generation.
    pub(super) fn learn(
        &mut self,
        version: &Arc<Version>,
        exchange: &Exchange,
        generation: Generation,
        reads: Arc<Reads>,
    ) {
        self.sets.forget();
        self.memo.forget();
        let may_hold = version.policy(&exchange.vhost).grants.contains(Capability::Hold);
        self.is_at(version, generation, reads, may_hold);
    }

    /// What changed since the generation of what is remembered, up to the very one that the replica
    /// knows, which catches up once more where the exchange went on. (Else a binding that came after
    /// that and goes before the next look would be in no list of changes, and stay.)
    fn changes_for(
        &self,
        exchange: &Arc<Exchange>,
        replica: &mut Replica,
    ) -> Result<Option<Changes>, Refused> {
        if !self.independent {
            return Ok(None);
        }
        for _ in 0..CATCH_UPS_MAX {
            match exchange.changes_since(self.generation) {
                Ok(changes) if replica.is_at(exchange.id, self.layer, changes.generation) => {
                    return Ok(Some(changes));
                }
                Ok(_) => replica.serve(exchange, self.layer)?,
                Err(_lagging) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Brings what is remembered up to date.
    fn carry(
        &mut self,
        exchange: &Arc<Exchange>,
        replica: &mut Replica,
        changes: &Changes,
    ) -> Result<(), NotAdded> {
        let (memo, sets) = (&mut self.memo, &mut self.sets);
        if !changes.unbound.is_empty() {
            sets.forget_bindings(&changes.unbound);
            memo.remove_bindings(&changes.unbound, |ids| {
                let resolved = sets.resolve(exchange, ids);
                (resolved.kept, resolved.new_bytes)
            });
        }
        if changes.bound.is_empty() {
            return Ok(());
        }
        if changes.bound.len() > BINDINGS_ASKED_MAX {
            return Err(NotAdded::Unfit);
        }
        if memo.is_empty() {
            return Ok(());
        }
        if !replica.decides_apart(exchange, self.layer) {
            return Err(NotAdded::Unfit);
        }
        let marks = match changes.bound.len() {
            ..=MARKS_MAX => replica.marks(exchange, self.layer, &changes.bound)?,
            _ => None,
        };
        let marks = marks.as_deref().and_then(Marks::new);
        // Where no remembered message has a mark, the guest is not asked.
        let mut apart = None;
        let added = memo.add_bindings(
            marks.as_ref(),
            |questions, count| {
                let apart = match &mut apart {
                    Some(apart) => apart,
                    None => apart.insert(replica.open_apart(exchange, self.layer, &changes.bound)?),
                };
                Ok::<_, NotAdded>(replica.route_apart(apart, &self.reads, questions, count)?)
            },
            |ids| {
                let resolved = sets.resolve(exchange, ids);
                (resolved.kept, resolved.new_bytes)
            },
        );
        match apart {
            Some(apart) if !matches!(added, Err(NotAdded::Failed(_))) => replica.close_apart(apart)?,
            _ => {}
        }
        added
    }

    /// Has the answer that is remembered for a key checked.
    #[cold]
    pub(super) fn audit(&self, auditor: &Auditor, exchange: &Arc<Exchange>, key: &[u8]) {
        let (Some(version), Some(kept)) = (&self.version, self.memo.peek(key)) else {
            return;
        };
        let mut question = Vec::new();
        let form = if self.key_only { KeyForm::RoutingKey } else { KeyForm::Projection };
        form.put_question(&mut question, key);
        auditor.check(Question {
            version: Arc::clone(version),
            exchange: exchange.clone(),
            layer: self.layer,
            generation: self.generation,
            reads: self.reads.clone(),
            question,
            remembered: Verdict::from(kept),
        });
    }
}
