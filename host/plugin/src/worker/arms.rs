//! A version that is tried beside the one that serves: a shadow is asked too, a canary instead.
//!
//! *In and out:* an exchange's entry says that there is such a version (`Entry::beside`); batches of other
//! exchanges never come here.
//!
//! *Invariants:* what a shadow answers is used nowhere. What a canary answers is kept in an entry of its
//! own, with its own memo, so no answer of one version is ever the other's. A message that a canary fails
//! on is asked of the serving version. Messages are asked about in their order, whichever version answers,
//! for types may leave something behind that decides over later ones.

use super::{
    Entry, Worker,
    asking::{Again, Asked, Batch},
    standing_in::Unsure,
};
use crate::{
    candidate::{Answered, Arm, Candidate, Given, Glance, PER_BATCH_MAX, Share},
    policy::Capability,
    version::Version,
};
use leveret_broker::{
    exchange::Exchange,
    port::{Answer, Layer, Wake},
};
use leveret_model::{MessageView, OwnedMessage, Refusal};
use std::sync::Arc;

/// A version that is tried beside the one that serves a type of an exchange.
pub(super) struct Beside {
    pub(super) candidate: Arc<Candidate>,
    /// What is kept of its answers, once it gave some.
    pub(super) canary: Option<Box<Entry>>,
}

impl Beside {
    fn is_of(&self, candidate: &Arc<Candidate>) -> bool {
        Arc::ptr_eq(&self.candidate, candidate)
    }
}

impl Entry {
    /// What is kept of a canary's answers.
    fn of_canary(
        candidate: &Arc<Candidate>,
        exchange: &Arc<Exchange>,
        layer: Layer,
        memo_bytes_max: usize,
    ) -> Self {
        let mut entry = Self::new(exchange, layer, memo_bytes_max);
        entry.on_trial = Some(candidate.clone());
        entry
    }
}

impl Batch<'_> {
    /// Finds out which version is to be tried beside the one that serves.
    pub(super) fn look_beside(&mut self, serving: &Version) {
        if self.beside_is_current(serving) {
            return;
        }
        if let Some(before) = self.entry.beside.take() {
            let id = before.candidate.version.id;
            if !self.registry.serves(id) {
                self.homes.discard(id);
            }
        }
        let found = self.registry.candidate_for(self.exchange, &self.entry.type_name, serving);
        self.entry.beside = found.map(|candidate| Box::new(Beside { candidate, canary: None }));
    }

    /// Whether what is known of that is so still.
    pub(super) fn beside_is_current(&self, serving: &Version) -> bool {
        if self.entry.on_trial.is_some() {
            return true;
        }
        let found = self.registry.candidate_for(self.exchange, &self.entry.type_name, serving);
        match (&self.entry.beside, &found) {
            (None, None) => true,
            (Some(known), Some(found)) => known.is_of(found),
            _ => false,
        }
    }
}

impl Worker {
    /// Counts so many messages that were answered while it was found out that there is a shadow.
    #[cold]
    pub(super) fn found_beside(&self, exchange: &Exchange, layer: Layer, messages: usize) {
        let beside = self.entries.get(exchange, layer).and_then(|entry| entry.beside.as_ref());
        if let Some(Beside { candidate, .. }) = beside.map(|beside| &**beside)
            && matches!(candidate.arm(&exchange.vhost), Arm::Shadow)
        {
            candidate.count_not_asked(messages as u64);
        }
    }

    /// Asks one type beside whose serving version another one is tried.
    #[cold]
    pub(super) fn ask_beside<'m, 'b: 'm>(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        messages: &mut dyn Iterator<Item = &'m MessageView<'b>>,
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Result<Asked, Again> {
        let beside = self.entries.get(exchange, layer).and_then(|entry| entry.beside.as_ref());
        let candidate = beside.map(|beside| beside.candidate.clone());
        let arm = candidate.as_ref().map_or(Arm::Nothing, |candidate| candidate.arm(&exchange.vhost));
        match (candidate, arm) {
            (Some(candidate), Arm::Shadow) => {
                self.let_go(&candidate, exchange, layer);
                let messages: Vec<&'m MessageView<'b>> = messages.collect();
                let before = answers.len();
                let some = &mut messages.iter().copied();
                let asked = self.ask_serving((exchange, layer), some, answers, waker)?;
                let used = answers.get(before..).unwrap_or_default();
                self.show_shadow(&candidate, exchange, layer, &messages, used);
                Ok(asked)
            }
            (Some(candidate), Arm::Canary(share)) => {
                let messages: Vec<&'m MessageView<'b>> = messages.collect();
                self.ask_split((&candidate, share), (exchange, layer), &messages, answers, waker)
            }
            (candidate, Arm::Nothing | Arm::Gone) | (candidate @ None, _) => {
                if let Some(candidate) = candidate {
                    self.let_go(&candidate, exchange, layer);
                }
                self.ask_serving((exchange, layer), messages, answers, waker)
            }
        }
    }

    /// Asks the version that serves, or what stands in for it.
    pub(super) fn ask_serving<'m, 'b: 'm>(
        &mut self,
        (exchange, layer): (&Arc<Exchange>, Layer),
        messages: &mut dyn Iterator<Item = &'m MessageView<'b>>,
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Result<Asked, Again> {
        self.ready_standby(exchange, layer, waker)?;
        let (entries, asking) = self.asking();
        let (first_answer, mut unsure) = (answers.len(), Unsure::default());
        let (entry, whose) = (entries.of(exchange, layer), (exchange, layer));
        let asked = asking.ask(entry, whose, messages, answers, (waker, &mut unsure))?;
        match unsure.is_empty() {
            true => Ok(asked),
            false => self.stand_in(whose, (asked, first_answer), unsure, answers, waker),
        }
    }

    /// The canary is asked no more: what was kept of it goes.
    fn let_go(&mut self, candidate: &Candidate, exchange: &Exchange, layer: Layer) {
        let Some(entry) = self.entries.get_mut(exchange, layer) else {
            return;
        };
        let canary = entry.beside.as_mut().and_then(|beside| beside.canary.take());
        let is_gone = candidate.is_gone();
        if is_gone {
            entry.beside = None;
        }
        match is_gone {
            true => self.homes.discard(candidate.version.id),
            // In another virtual host it may be asked on.
            false if canary.is_some() => self.homes.discard_in(candidate.version.id, &exchange.vhost),
            false => {}
        }
    }

    /// Hands the shadow what it has time for.
    fn show_shadow(
        &self,
        candidate: &Arc<Candidate>,
        exchange: &Arc<Exchange>,
        layer: Layer,
        messages: &[&MessageView<'_>],
        used: &[Answer],
    ) {
        let Some(entry) = self.entries.get(exchange, layer) else {
            return;
        };
        let count = messages.len().min(used.len());
        let wanted = self.shadow.room().min(PER_BATCH_MAX).min(count);
        let sees_publisher = candidate.version.policy(&exchange.vhost).grants.contains(Capability::Publisher);
        let mut shown = 0;
        for at in (0..wanted).map(|nth| nth * count / wanted) {
            let (Some(message), Some(answer)) = (messages.get(at), used.get(at)) else {
                continue;
            };
            if self.shadow.room() == 0 {
                break;
            }
            shown += u64::from(self.shadow.look(Glance {
                candidate: candidate.clone(),
                exchange: exchange.clone(),
                layer,
                generation: entry.generation,
                message: OwnedMessage::from_view(message),
                publisher: message.publisher.filter(|_| sees_publisher).cloned(),
                used: Given::from(answer),
            }));
        }
        candidate.count_not_asked(count as u64 - shown);
    }

    /// Asks both versions, run by run of messages that go to the same.
    fn ask_split(
        &mut self,
        (candidate, share): (&Arc<Candidate>, Share),
        (exchange, layer): (&Arc<Exchange>, Layer),
        messages: &[&MessageView<'_>],
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Result<Asked, Again> {
        let before = answers.len();
        // After what fails the serving version is asked, before anything later has effects.
        let run_max = if candidate.version.code.has_capabilities() { 1 } else { usize::MAX };
        let mut left = messages;
        while let Some(first) = left.first() {
            let is_canarys = share.has(first.routing_key);
            let alike = left.iter().take_while(|message| share.has(message.routing_key) == is_canarys);
            let length = if is_canarys { alike.take(run_max).count() } else { alike.count() };
            let (run, rest) = left.split_at(length);
            let given = answers.len();
            let asked = if is_canarys && candidate.arm(&exchange.vhost) == Arm::Canary(share) {
                self.ask_canary(candidate, (exchange, layer), run, answers, waker)
            } else {
                self.ask_serving((exchange, layer), &mut run.iter().copied(), answers, waker)
            };
            match asked {
                Ok(Asked::All) => left = rest,
                Ok(Asked::Some) => return Ok(Asked::Some),
                Err(Again) => {
                    answers.truncate(given);
                    // What was answered is dealt with first.
                    return if given > before { Ok(Asked::Some) } else { Err(Again) };
                }
            }
        }
        Ok(Asked::All)
    }

    /// Asks the canary; about what it fails on, the serving version.
    fn ask_canary(
        &mut self,
        candidate: &Arc<Candidate>,
        (exchange, layer): (&Arc<Exchange>, Layer),
        messages: &[&MessageView<'_>],
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Result<Asked, Again> {
        let given = answers.len();
        let mut entry = self.take_canary(candidate, exchange, layer);
        let before = self.counters;
        let some = &mut messages.iter().copied();
        let asked = self.asking().1.ask(
            &mut entry,
            (exchange, layer),
            some,
            answers,
            (waker, &mut Unsure::default()),
        );
        candidate.count_canary(Answered {
            remembered: self.counters.remembered - before.remembered,
            asked: self.counters.asked - before.asked,
        });
        // The serving version is asked, and may answer.
        self.counters.failed = before.failed;
        self.put_canary(candidate, (exchange, layer), entry);
        let asked = asked?;
        for at in given..answers.len() {
            let (Some(Answer::Failed(refusal)), Some(message)) = (answers.get(at), messages.get(at - given))
            else {
                continue;
            };
            match &**refusal {
                Refusal::PluginRefused { .. } => {
                    candidate.canary_refused(&exchange.vhost, &refusal.to_string())
                }
                Refusal::PluginFailed { what, .. } | Refusal::PluginUnavailable { why: what, .. } => {
                    candidate.canary_failed(&exchange.vhost, what);
                }
                // Nor would the serving version answer.
                _ => continue,
            }
            let mut instead = Vec::with_capacity(1);
            let one = &mut std::iter::once(*message);
            if self.ask_serving((exchange, layer), one, &mut instead, waker).is_err() {
                answers.truncate(at);
                return if at > given { Ok(Asked::Some) } else { Err(Again) };
            }
            if let (Some(place), Some(answer)) = (answers.get_mut(at), instead.pop()) {
                *place = answer;
            }
        }
        Ok(asked)
    }

    fn take_canary(
        &mut self,
        candidate: &Arc<Candidate>,
        exchange: &Arc<Exchange>,
        layer: Layer,
    ) -> Box<Entry> {
        let entry = self.entries.get_mut(exchange, layer);
        let beside = entry.and_then(|entry| entry.beside.as_mut()).filter(|beside| beside.is_of(candidate));
        let kept = beside.and_then(|beside| beside.canary.take());
        kept.unwrap_or_else(|| {
            Box::new(Entry::of_canary(candidate, exchange, layer, self.entries.memo_bytes_max))
        })
    }

    fn put_canary(
        &mut self,
        candidate: &Arc<Candidate>,
        (exchange, layer): (&Arc<Exchange>, Layer),
        canary: Box<Entry>,
    ) {
        let entry = self.entries.get_mut(exchange, layer);
        let beside = entry.and_then(|entry| entry.beside.as_mut()).filter(|beside| beside.is_of(candidate));
        if let Some(beside) = beside {
            beside.canary = Some(canary);
        }
    }
}
