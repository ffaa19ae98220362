//! Copies of dead letters, outside their queue's lock: as they lay there, and as they go on.

use super::{
    DeathReason,
    history::{self, Death},
};
use crate::{
    memory::LargeBody,
    port::{Intercepted, Router},
    queue::{Arriving, DeadLettering, LARGE_BODY_BYTES, Queue, Stored},
};
use alloc::{sync::Arc, vec::Vec};
use core::ops::Range;
use leveret_model::{Form, MessageView, Patch, Value};

/// What becomes of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not known yet: its exchange is to be asked.
    ToRoute,
    /// It was deleted with its queue.
    Gone,
    /// There are queues for it.
    Routed,
    /// There are none.
    Unroutable,
    /// All there are would close a cycle.
    Cycle,
    /// Dropped on purpose.
    Dropped,
    /// Not accepted, or nobody could be asked.
    Refused,
}

/// A copy of a dead letter. Ranges are of the source's bytes but where said otherwise.
pub(super) struct Letter {
    exchange: Range<usize>,
    routing_key: Range<usize>,
    properties: Range<usize>,
    body: Range<usize>,
    apart: Option<Arc<LargeBody>>,
    form: &'static dyn Form,
    has_history: bool,
    /// In the patched bytes: the properties it goes on with.
    patched: Range<usize>,
    /// What an interceptor changes.
    overlay: Patch,
    /// The queues where it died since it was last rejected.
    since_rejected: Vec<Value>,
    pub(super) fate: Fate,
}

/// Dead letters of one queue. Kept for their space.
#[derive(Default)]
pub(crate) struct Letters {
    letters: Vec<Option<Letter>>,
    source: Vec<u8>,
    patched: Vec<u8>,
}

impl Letters {
    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        self.letters.clear();
        self.source.clear();
        self.patched.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.letters.len()
    }

    /// How many bytes were copied.
    pub(crate) fn len_bytes(&self) -> usize {
        self.source.len()
    }

    /// Copies a message; under its queue's lock. `None` for one that is there no more.
    pub(crate) fn push(&mut self, stored: Option<Stored<'_>>) {
        let source = &mut self.source;
        let mut copy = |bytes: &[u8]| {
            let start = source.len();
            source.extend_from_slice(bytes);
            start..source.len()
        };
        self.letters.push(stored.map(|stored| Letter {
            exchange: copy(stored.message.exchange),
            routing_key: copy(stored.message.routing_key),
            properties: copy(stored.message.properties),
            body: if stored.apart.is_some() { 0..0 } else { copy(stored.message.body) },
            apart: stored.apart.cloned(),
            form: stored.message.form,
            has_history: stored.dead_lettered,
            patched: 0..0,
            overlay: Patch::EMPTY,
            since_rejected: Vec::new(),
            fate: Fate::ToRoute,
        }));
    }

    pub(super) fn fate(&self, index: usize) -> Fate {
        self.letters.get(index).and_then(Option::as_ref).map_or(Fate::Gone, |letter| letter.fate)
    }

    pub(super) fn set_fate(&mut self, index: usize, fate: Fate) {
        if let Some(Some(letter)) = self.letters.get_mut(index) {
            letter.fate = fate;
        }
    }

    /// Whether a dead letter must not go to a queue: it would go round for ever, with no client
    /// that has a part in it.
    pub(super) fn closes_cycle(&self, index: usize, queue: &Queue) -> bool {
        let letter = self.letters.get(index).and_then(Option::as_ref);
        letter.is_some_and(|letter| {
            !letter.since_rejected.is_empty() && letter.since_rejected.contains(&Value::string(queue.name()))
        })
    }

    /// Writes the history of a dead letter and has it intercepted.
    pub(super) fn prepare(
        &mut self,
        index: usize,
        (queue, to): (&Queue, &DeadLettering),
        reason: DeathReason,
        now_ms: u64,
        router: &mut dyn Router,
    ) {
        let Self { letters, source, patched } = self;
        let Some(Some(letter)) = letters.get_mut(index) else {
            return;
        };
        let original = original(source, letter);
        let death = Death { queue: queue.name(), reason, now_ms, has_history: letter.has_history };
        let recorded = history::record(&original, &death);
        let start = patched.len();
        if original.form.patch(original.properties, &recorded.patch, patched).is_err() {
            letter.fate = Fate::Refused;
            return;
        }
        letter.patched = start..patched.len();
        letter.since_rejected = recorded.since_rejected;
        let outgoing = outgoing(source, patched, letter, to);
        match router.intercept_dead_letter(queue, reason, &outgoing) {
            Intercepted::Continue => {}
            Intercepted::Patch(patch) => {
                let mut properties = Vec::new();
                if outgoing.form.patch(outgoing.properties, &patch, &mut properties).is_err() {
                    letter.fate = Fate::Refused;
                    return;
                }
                patched.truncate(start);
                patched.extend_from_slice(&properties);
                letter.patched = start..patched.len();
                letter.overlay = patch;
            }
            Intercepted::Drop => letter.fate = Fate::Dropped,
            Intercepted::Reject(_) => letter.fate = Fate::Refused,
        }
    }

    /// The dead letters whose exchange is to be asked: their places, and what they are to it.
    pub(super) fn to_route<'a>(&'a self, to: &'a DeadLettering) -> (Vec<usize>, Vec<MessageView<'a>>) {
        let letters = self.letters.iter().enumerate();
        letters
            .filter_map(|(index, letter)| Some((index, letter.as_ref()?)))
            .filter(|(_, letter)| letter.fate == Fate::ToRoute)
            .map(|(index, letter)| (index, outgoing(&self.source, &self.patched, letter, to)))
            .unzip()
    }

    /// All of them as queues take them.
    pub(super) fn arriving<'a>(&'a self, from: &Queue, to: &'a DeadLettering) -> Vec<Arriving<'a>> {
        let one = |letter: &'a Option<Letter>| {
            let Some(letter) = letter else {
                return Arriving::NOTHING;
            };
            let message = outgoing(&self.source, &self.patched, letter, to);
            let apart = match &letter.apart {
                Some(body) if letter.overlay.body().is_none() => Some(body.clone()),
                _ if message.body.len() >= LARGE_BODY_BYTES && letter.fate == Fate::Routed => {
                    Some(LargeBody::new(message.body, from.account()))
                }
                _ => None,
            };
            Arriving { message: Some(message), apart }
        };
        self.letters.iter().map(one).collect()
    }
}

/// The message as it lay in its queue.
fn original<'a>(source: &'a [u8], letter: &'a Letter) -> MessageView<'a> {
    let part = |range: &Range<usize>| source.get(range.clone()).unwrap_or_default();
    MessageView {
        exchange: part(&letter.exchange),
        routing_key: part(&letter.routing_key),
        form: letter.form,
        properties: part(&letter.properties),
        body: letter.apart.as_ref().map_or_else(|| part(&letter.body), |body| body.as_bytes()),
    }
}

/// The message as it goes on.
fn outgoing<'a>(
    source: &'a [u8],
    patched: &'a [u8],
    letter: &'a Letter,
    to: &'a DeadLettering,
) -> MessageView<'a> {
    let mut message = original(source, letter);
    message.exchange = &to.exchange;
    message.properties = patched.get(letter.patched.clone()).unwrap_or_default();
    if let Some(key) = letter.overlay.routing_key().or(to.routing_key.as_ref()) {
        message.routing_key = key;
    }
    if let Some(body) = letter.overlay.body() {
        message.body = body;
    }
    message
}
