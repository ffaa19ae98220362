//! The types of an exchange asked about one message, to be told: which plugin, what it said.
//!
//! What is remembered is read and not written, nothing is counted, no failure either, and what the guest did
//! is undone.

use super::{
    Worker,
    asking::{behind, too_long},
    homes::NotServed,
    questions::LENGTH_BYTES,
    refusal, version_of,
};
use crate::{
    candidate::{Arm, Candidate},
    capability::Outcome,
    guest::Decision,
    memo::Kept,
    policy::FailurePolicy,
    replica::About,
    standby,
    version::Version,
};
use leveret_broker::{
    exchange::{Binding, BindingId, Exchange, RouteSet},
    explain::{Asked, AskedPlugin, Said, Standing, Wanted},
    port::{Answer, Explained, Hold, Layer},
};
use leveret_model::{MessageView, Name, OwnedMessage, Refusal};
use std::sync::Arc;

/// What one type said, and what the exchange answers by it.
struct Told {
    remembered: bool,
    said: Said,
    effects: Vec<Wanted>,
    /// `None` if the answer comes later.
    answer: Option<Answer>,
}

impl Worker {
    /// Asks the types from that layer on, as far as each leaves the decision to the next.
    pub(super) fn explain_chain(
        &mut self,
        exchange: &Arc<Exchange>,
        first: Layer,
        message: &MessageView<'_>,
    ) -> Explained {
        let mut asked = Vec::new();
        for layer in (first.0..=u8::MAX).map(Layer) {
            let spec = exchange.types().get(usize::from(layer.0));
            let type_name = spec.map_or_else(|| exchange.spec.type_name.clone(), |s| s.type_name.clone());
            let answer = self.explain_at(exchange, (layer, layer), &type_name, message, &mut asked);
            match asked.last() {
                Some(Asked { said: Said::Delegate, .. }) => {}
                Some(Asked { said: Said::Failed(_), .. }) => {
                    let FailurePolicy::Fallback(instead) =
                        self.registry.on_failure(&exchange.vhost, &type_name)
                    else {
                        return Explained { asked, answer };
                    };
                    let Some(standby) = standby::beside(layer, &instead) else {
                        return Explained { asked, answer };
                    };
                    let place = (layer, standby);
                    let answer = match self.explain_at(exchange, place, &instead, message, &mut asked) {
                        // The first refusal is what a publisher is told.
                        Some(Answer::Failed(_)) => answer,
                        other => other,
                    };
                    return Explained { asked, answer };
                }
                _ => return Explained { asked, answer },
            }
        }
        Explained { asked, answer: None }
    }

    /// Asks the type at a layer, or at a place beside it.
    fn explain_at(
        &mut self,
        exchange: &Arc<Exchange>,
        (layer, place): (Layer, Layer),
        type_name: &Name,
        message: &MessageView<'_>,
        asked: &mut Vec<Asked>,
    ) -> Option<Answer> {
        let mut answer = None;
        let on_failure = self.registry.on_failure(&exchange.vhost, type_name).to_string();
        for (by, told) in self.explain_type(exchange, place, type_name, message) {
            let Told { remembered, said, effects, answer: this } = told;
            asked.push(Asked {
                layer,
                type_name: type_name.clone(),
                stands_in: place != layer,
                plugin: by,
                remembered,
                said,
                effects,
                on_failure: on_failure.clone(),
            });
            answer = this;
        }
        answer
    }

    /// Asks the version that a message would be asked of, and the serving one where a canary fails.
    fn explain_type(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        type_name: &Name,
        message: &MessageView<'_>,
    ) -> Vec<(Option<AskedPlugin>, Told)> {
        let version = match version_of(&self.registry, exchange, type_name) {
            Ok(version) => version,
            Err(refusal) => return vec![(None, Told::failed(refusal, Answer::Failed))],
        };
        let mut told = Vec::new();
        let candidate = self.registry.candidate_for(exchange, type_name, &version);
        let is_canarys = |candidate: &Arc<Candidate>| match candidate.arm(&exchange.vhost) {
            Arm::Canary(share) => share.has(message.routing_key),
            Arm::Shadow | Arm::Nothing | Arm::Gone => false,
        };
        if let Some(candidate) = candidate.filter(is_canarys) {
            let canary = &candidate.version;
            let said = self.explain_layer(canary, type_name, exchange, layer, message);
            let failed = matches!(said.said, Said::Failed(_));
            told.push((Some(asked_plugin(canary, canary.claims(type_name).pure, Standing::Canary)), said));
            if !failed {
                return told;
            }
        }
        let said = self.explain_layer(&version, type_name, exchange, layer, message);
        let pinned = self.registry.is_pinned(exchange, type_name);
        let standing = if pinned { Standing::Pinned } else { Standing::Serving };
        told.push((Some(asked_plugin(&version, version.claims(type_name).pure, standing)), said));
        told
    }

    fn explain_layer(
        &mut self,
        version: &Arc<Version>,
        type_name: &Name,
        exchange: &Arc<Exchange>,
        layer: Layer,
        message: &MessageView<'_>,
    ) -> Told {
        if let Some(kept) = self.remembered(version, exchange, layer, message) {
            return Told::kept(exchange, layer, kept);
        }
        self.ask_to_tell(version, type_name, exchange, layer, message).unwrap_or_else(|not_served| {
            let policy = version.policy(&exchange.vhost);
            Told::failed(refusal(exchange, not_served), |refusal| match policy.on_failure {
                FailurePolicy::Unroutable => Answer::Deliver(RouteSet::default()),
                _ => Answer::Failed(refusal),
            })
        })
    }

    /// Whether this worker would answer such a message from memory where it was asked as that says.
    #[must_use]
    pub fn remembers(&self, exchange: &Arc<Exchange>, asked: &Asked, message: &MessageView<'_>) -> bool {
        let place = match asked.stands_in {
            true => standby::beside(asked.layer, &asked.type_name),
            false => Some(asked.layer),
        };
        if asked.plugin.as_ref().is_none_or(|plugin| plugin.standing == Standing::Canary) {
            // What is kept of a canary is not looked at.
            return false;
        }
        let Ok(version) = version_of(&self.registry, exchange, &asked.type_name) else { return false };
        place.is_some_and(|place| self.remembered(&version, exchange, place, message).is_some())
    }

    /// What this worker remembers of such messages.
    fn remembered(
        &self,
        version: &Version,
        exchange: &Exchange,
        layer: Layer,
        message: &MessageView<'_>,
    ) -> Option<&Kept> {
        let entry = self.entries.get(exchange, layer)?;
        let entry = match &entry.beside {
            Some(beside) if version.on_trial => beside.canary.as_deref()?,
            _ => entry,
        };
        let current = entry.version.as_ref().is_some_and(|known| known.id == version.id)
            && entry.generation == exchange.generation();
        if !current || !entry.pure {
            return None;
        }
        if entry.key_only {
            return entry.memo.peek(message.routing_key);
        }
        let mut projection = Vec::new();
        message.project(&entry.reads, &mut projection);
        entry.memo.peek(&projection)
    }

    fn ask_to_tell(
        &mut self,
        version: &Arc<Version>,
        type_name: &Name,
        exchange: &Arc<Exchange>,
        layer: Layer,
        message: &MessageView<'_>,
    ) -> Result<Told, NotServed> {
        let replica = self.homes.served(version, exchange, layer, None)?;
        let Some((generation, reads)) = replica.knows(exchange.id, layer) else {
            return Err(NotServed::Pending);
        };
        let (reads, may_hold) = (reads.clone(), replica.may_hold(exchange.id, layer));
        if reads.rejects_body(message.readable_bytes()) {
            return Ok(Told::said(too_long((type_name, layer), &reads, message)));
        }
        let mut question = vec![0; LENGTH_BYTES];
        message.project(&reads, &mut question);
        let length = u32::try_from(question.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
        if let Some(place) = question.get_mut(..LENGTH_BYTES) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        let on_hand = version.code.takes_messages().then(|| Arc::new(OwnedMessage::from_view(message)));
        let about = About { exchange, layer, on_hand: on_hand.as_ref() };
        let home = self.homes.at(version, exchange, layer, generation)?;
        let routed = home.route(version, about, &question, 1, None);
        let (decisions, outcome) = routed.map_err(|failure| NotServed::Failed(failure.to_string()))?;
        // Dropped with the outcome, the draft of effects is undone.
        if let Outcome { in_doubt: Some(_), .. } = outcome {
            return Ok(Told { remembered: false, said: Said::Later, effects: Vec::new(), answer: None });
        }
        let effects = outcome.draft.as_ref().map(|draft| draft.wanted()).unwrap_or_default();
        let failed = |what: &str| NotServed::Failed(String::from(what));
        let hold = |delay_ms| {
            let resume = behind(exchange, layer).map_err(failed)?;
            Ok(Told::said(Answer::Hold(Hold { delay_ms, resume })))
        };
        let told = match decisions.iter().next() {
            None => Err(failed("it gave no decision")),
            Some(Decision::Deliver(ids)) => Ok(Told::deliver(exchange, ids)),
            Some(Decision::Drop(reason)) => Ok(Told::said(Answer::Drop(reason, layer))),
            Some(Decision::Reject(reason)) => Ok(Told::said(Answer::Reject(reason, layer))),
            Some(Decision::Delegate) => hold(0),
            Some(Decision::Hold(_)) if !may_hold => Err(failed("it needs the grant 'hold'")),
            Some(Decision::Hold(delay_ms)) => hold(delay_ms),
        };
        Ok(Told { effects, ..told? })
    }
}

impl Told {
    fn failed(refusal: Refusal, answer: impl FnOnce(Box<Refusal>) -> Answer) -> Self {
        let refusal = Box::new(refusal);
        let said = Said::Failed(refusal.clone());
        Self { remembered: false, said, effects: Vec::new(), answer: Some(answer(refusal)) }
    }

    fn kept(exchange: &Exchange, layer: Layer, kept: &Kept) -> Self {
        let told = match kept.ids() {
            Some(ids) => Self::deliver(exchange, &ids),
            None => Self::said(kept.answer()),
        };
        debug_assert!(!matches!(kept, Kept::Hold(_, resume) if *resume <= layer), "types decide forwards");
        Self { remembered: true, ..told }
    }

    fn deliver(exchange: &Exchange, ids: &[BindingId]) -> Self {
        let (routes, dead_ids) = exchange.resolve(&mut ids.iter().copied());
        let mut once = ids.to_vec();
        once.sort_unstable();
        once.dedup();
        let bindings: Vec<Arc<Binding>> = once.into_iter().filter_map(|id| exchange.binding(id)).collect();
        let said = Said::Deliver { bindings, dead_ids };
        Self { remembered: false, said, effects: Vec::new(), answer: Some(Answer::Deliver(routes)) }
    }

    /// Any answer that names no bindings.
    fn said(answer: Answer) -> Self {
        let said = match &answer {
            Answer::Drop(reason, _) => Said::Drop(reason.clone()),
            Answer::Reject(reason, _) => Said::Reject(reason.clone()),
            Answer::Hold(Hold { delay_ms: 0, .. }) => Said::Delegate,
            Answer::Hold(hold) => Said::Hold(hold.delay_ms),
            Answer::Failed(refusal) => Said::Failed(refusal.clone()),
            Answer::Deliver(_) | Answer::Effective(_) => Said::Deliver { bindings: Vec::new(), dead_ids: 0 },
        };
        Self { remembered: false, said, effects: Vec::new(), answer: Some(answer) }
    }
}

/// A version that was asked, for a type that is pure or not.
pub(super) fn asked_plugin(version: &Version, pure: bool, standing: Standing) -> AskedPlugin {
    AskedPlugin {
        name: version.code.plugin.clone(),
        version: version.description.version.clone(),
        digest: version.code.digest.to_string(),
        pure,
        standing,
    }
}
