//! Another type in the place of one whose plugin cannot answer (`standby.rs`): it is asked about the
//! messages that would meet a refusal.

use super::{
    Worker,
    asking::{Again, Asked},
    keeping::Entry,
};
use crate::{policy::FailurePolicy, standby};
use leveret_broker::{
    exchange::Exchange,
    port::{Answer, Layer, Wake},
};
use leveret_model::MessageView;
use std::sync::Arc;

/// The messages of a batch that may get no answer, by the place of their answers. Empty, and without
/// memory of its own, where no type stands in.
#[derive(Default)]
pub(super) struct Unsure<'m, 'b>(Vec<(usize, &'m MessageView<'b>)>);

impl<'m, 'b> Unsure<'m, 'b> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn note(&mut self, entry: &Entry, answer: usize, message: &'m MessageView<'b>) {
        if entry.standby.is_some() {
            self.0.push((answer, message));
        }
    }
}

impl Entry {
    /// Notes which type stands in, by the policy of the plugin.
    pub(super) fn falls_back(&mut self, layer: Layer) {
        let policy = self.policy.clone();
        self.falls_back_to(
            policy.as_ref().map_or(&FailurePolicy::Reject, |policy| &policy.on_failure),
            layer,
        );
    }

    /// Notes which type stands in, as the operator wants it.
    pub(super) fn falls_back_to(&mut self, policy: &FailurePolicy, layer: Layer) {
        self.standby = match policy {
            FailurePolicy::Fallback(type_name) => standby::beside(layer, type_name),
            _ => None,
        };
    }
}

impl Worker {
    /// Makes ready what stands in, if it was wanted before and was not. Else the plugin would be asked
    /// once more for each time that it is waited for.
    pub(super) fn ready_standby(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        waker: &Arc<dyn Wake>,
    ) -> Result<(), Again> {
        let Some(entry) = self.entries.get(exchange, layer).filter(|entry| entry.awaits_standby) else {
            return Ok(());
        };
        if let Some(standby) = entry.standby {
            self.ask_layer(exchange, standby, &mut std::iter::empty(), &mut Vec::new(), waker)?;
        }
        if let Some(entry) = self.entries.get_mut(exchange, layer) {
            entry.awaits_standby = false;
        }
        Ok(())
    }

    /// Has the type that stands in answer for those messages that are refused so far. Where it fails too,
    /// they meet the first refusal.
    pub(super) fn stand_in<'m, 'b: 'm>(
        &mut self,
        (exchange, layer): (&Arc<Exchange>, Layer),
        (asked, first_answer): (Asked, usize),
        unsure: Unsure<'m, 'b>,
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Result<Asked, Again> {
        let mut refused = unsure.0;
        refused.retain(|(at, _)| matches!(answers.get(*at), Some(Answer::Failed(_))));
        let standby = self.entries.get(exchange, layer).and_then(|entry| entry.standby);
        let Some(standby) = standby.filter(|_| !refused.is_empty()) else {
            return Ok(asked);
        };
        let mut inner = Vec::with_capacity(refused.len());
        let mut messages = refused.iter().map(|(_, message)| *message);
        let answered = match self.ask_layer(exchange, standby, &mut messages, &mut inner, waker) {
            Ok(Asked::All) => refused.len(),
            Ok(Asked::Some) => inner.len(),
            Err(Again) => 0,
        };
        let mut stood_in = 0;
        for ((at, _), answer) in refused.iter().zip(inner) {
            if let (Some(place), false) = (answers.get_mut(*at), matches!(answer, Answer::Failed(_))) {
                *place = answer;
                stood_in += 1;
            }
        }
        let entry = self.entries.get_mut(exchange, layer);
        if let Some(tally) = entry.as_ref().and_then(|entry| entry.tally.as_ref()) {
            tally.stood_in(stood_in);
        }
        let Some((open, _)) = refused.get(answered) else {
            return Ok(asked);
        };
        if let Some(entry) = entry {
            entry.awaits_standby = true;
        }
        answers.truncate(*open);
        if *open == first_answer { Err(Again) } else { Ok(Asked::Some) }
    }
}
