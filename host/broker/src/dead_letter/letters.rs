//! Copies of dead letters, outside their queue's lock: as they lay there, and as they go on.

use super::{
    DeathReason,
    history::{self, DEATHS_MAX, Death, Recorded, Told},
};
use crate::{
    intercept::{Interception, Standing},
    memory::LargeBody,
    port::{Router, Site, Wake},
    publish::Publish,
    queue::{DeadLettering, Queue, Stored},
};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::ops::Range;
use leveret_model::{Form, MessageView, MoreKeys, PatchError, Value};

/// What is known of a dead letter before its exchange is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prepared {
    /// It is to be asked.
    ToRoute,
    /// The letter was deleted with its queue.
    Gone,
    /// An interceptor dropped it.
    Dropped,
    /// An interceptor did not accept it.
    Refused,
    /// Its history cannot be written, and it must not go on without.
    Unwritable,
    /// An interceptor cannot be asked now.
    Unavailable,
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
    /// How often it failed before it died.
    failures: u32,
    /// In the patched bytes: the properties it goes on with.
    patched: Range<usize>,
    /// Its place among the letters that were shown to interceptors.
    shown: usize,
    /// The queues where it died since it was last rejected.
    since_rejected: Vec<Value>,
    /// Its further keys are not dead headers.
    goes_by_more_keys: bool,
    /// Some of its history did not fit.
    is_shortened: bool,
    prepared: Prepared,
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

    /// Copies a message that failed so often; under its queue's lock. `None` for one that is there no more.
    pub(crate) fn push(&mut self, stored: Option<Stored<'_>>, failures: u32) {
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
            failures,
            patched: 0..0,
            shown: usize::MAX,
            since_rejected: Vec::new(),
            goes_by_more_keys: true,
            is_shortened: false,
            prepared: Prepared::ToRoute,
        }));
    }

    pub(super) fn prepared(&self, index: usize) -> Prepared {
        self.letters.get(index).and_then(Option::as_ref).map_or(Prepared::Gone, |letter| letter.prepared)
    }

    /// Whether some of its history was left out for want of room.
    pub(super) fn is_shortened(&self, index: usize) -> bool {
        self.letters.get(index).and_then(Option::as_ref).is_some_and(|letter| letter.is_shortened)
    }

    /// How often it failed before it died, as far as that was counted. If it did, it comes as redelivered.
    pub(super) fn failures(&self, index: usize) -> u32 {
        self.letters.get(index).and_then(Option::as_ref).map_or(0, |letter| letter.failures)
    }

    /// That it died was a failure too.
    pub(super) fn count_failure(&mut self, index: usize) {
        if let Some(Some(letter)) = self.letters.get_mut(index) {
            letter.failures = letter.failures.saturating_add(1);
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

    /// Writes the history of a dead letter.
    pub(super) fn write_history(
        &mut self,
        index: usize,
        (queue, to): (&Queue, &DeadLettering),
        reason: DeathReason,
        now_ms: u64,
    ) {
        let Self { letters, source, patched } = self;
        let Some(Some(letter)) = letters.get_mut(index) else {
            return;
        };
        let original = original(source, letter);
        let death = Death {
            queue: queue.name(),
            own_key: to.routing_key.as_ref(),
            reason,
            now_ms,
            has_history: letter.has_history,
            failures: letter.failures,
        };
        let recorded = history::record(&original, &death, Told::Deaths(DEATHS_MAX));
        let start = patched.len();
        let written = original.form.patch(original.properties, &recorded.patch, patched);
        if let Err(error) = written {
            patched.truncate(start);
            // Who knows too little of where it was cannot tell whether it goes in a circle.
            let may_go = reason == DeathReason::Rejected || recorded.is_known;
            letter.is_shortened = may_go
                && matches!(error, PatchError::TooLarge { .. })
                && shorten(&original, &death, &recorded, patched);
            if !letter.is_shortened {
                letter.prepared = Prepared::Unwritable;
                return;
            }
        }
        letter.patched = start..patched.len();
        letter.since_rejected = recorded.since_rejected;
        letter.goes_by_more_keys = recorded.goes_by_more_keys;
    }

    /// Shows the letters to what is attached to their queue. Those behind the first that has to wait
    /// are forgotten.
    pub(super) fn intercept(
        &mut self,
        interception: &mut Interception,
        (site, to): (Site<'_>, &DeadLettering),
        router: &mut dyn Router,
        waker: &Arc<dyn Wake>,
    ) {
        let shown: Vec<usize> = self.to_route().map(|(index, _)| index).collect();
        let views: Vec<MessageView<'_>> =
            self.to_route().map(|(_, letter)| outgoing(&self.source, &self.patched, letter, to)).collect();
        let ruled = interception.ask(router, site, &views, waker);
        if let Some(waits) = shown.get(ruled) {
            self.letters.truncate(*waits);
        }
        for (place, index) in shown.into_iter().enumerate().take(ruled) {
            let Some(Some(letter)) = self.letters.get_mut(index) else { continue };
            letter.shown = place;
            letter.prepared = match interception.standing(place) {
                // "Unroutable" makes no sense for a letter, and is refused by the configuration.
                Standing::Passes | Standing::Unroutable => Prepared::ToRoute,
                Standing::Dropped => Prepared::Dropped,
                Standing::Rejected(_) => Prepared::Refused,
                Standing::Unavailable(_) => Prepared::Unavailable,
            };
        }
    }

    fn to_route(&self) -> impl Iterator<Item = (usize, &Letter)> {
        let letters = self.letters.iter().enumerate();
        letters
            .filter_map(|(index, letter)| Some((index, letter.as_ref()?)))
            .filter(|(_, letter)| letter.prepared == Prepared::ToRoute)
    }

    /// The further routing keys of the dead letters whose exchange is to be asked. Where letters go by a key of
    /// their queue's they go by that alone, and from then on: their headers stay and mean nothing.
    pub(super) fn more_keys(
        &self,
        interception: &Interception,
        to: &DeadLettering,
    ) -> Vec<Option<Box<MoreKeys>>> {
        let of_letter = |letter: &Letter| {
            let message = interception.view(letter.shown, &outgoing(&self.source, &self.patched, letter, to));
            let counts = to.routing_key.is_none() && letter.goes_by_more_keys;
            message.more_keys().unwrap_or_default().filter(|_| counts)
        };
        self.to_route().map(|(_, letter)| of_letter(letter)).collect()
    }

    /// The dead letters whose exchange is to be asked: their places, and what they are to it.
    pub(super) fn batch<'a>(
        &'a self,
        interception: &'a Interception,
        to: &'a DeadLettering,
        keys: &'a [Option<Box<MoreKeys>>],
    ) -> (Vec<usize>, Vec<Publish<'a>>) {
        let publish = |((index, letter), more): ((usize, &'a Letter), &'a Option<Box<MoreKeys>>)| {
            let message = interception.view(letter.shown, &outgoing(&self.source, &self.patched, letter, to));
            (index, Publish { channel: 0, message, mandatory: false, more_keys: more.as_deref() })
        };
        self.to_route().zip(keys).map(publish).unzip()
    }

    /// A letter as it goes on, and its place among those that were shown to interceptors.
    pub(super) fn as_shown<'a>(
        &'a self,
        index: usize,
        to: &'a DeadLettering,
    ) -> Option<(usize, MessageView<'a>)> {
        let letter = self.letters.get(index)?.as_ref()?;
        Some((letter.shown, outgoing(&self.source, &self.patched, letter, to)))
    }

    /// The body that a dead letter goes on with, if that is the one it had and lies apart.
    pub(super) fn apart(&self, index: usize, interception: &Interception) -> Option<Arc<LargeBody>> {
        let letter = self.letters.get(index)?.as_ref()?;
        if interception.keeps_body(letter.shown) { letter.apart.clone() } else { None }
    }
}

/// Appends the properties of a letter with as many of the last deaths as fit, all of which do not; false if it does not
/// fit without any.
fn shorten(original: &MessageView<'_>, death: &Death<'_>, all: &Recorded, patched: &mut Vec<u8>) -> bool {
    let start = patched.len();
    let mut fits = |told| {
        patched.truncate(start);
        let recorded = history::record(original, death, told);
        original.form.patch(original.properties, &recorded.patch, patched).is_ok()
    };
    // So many deaths and more do not fit, and fewer than `fewest` do.
    let (mut fewest, mut too_many) = (0, all.deaths);
    while fewest < too_many {
        let middle = fewest.midpoint(too_many);
        if fits(Told::Deaths(middle)) { fewest = middle + 1 } else { too_many = middle }
    }
    let told = fewest.checked_sub(1).map_or(Told::Nothing, Told::Deaths);
    let is_written = fits(told);
    if !is_written {
        patched.truncate(start);
    }
    is_written
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
        publisher: None,
    }
}

/// The message as it would go on without interceptors.
fn outgoing<'a>(
    source: &'a [u8],
    patched: &'a [u8],
    letter: &'a Letter,
    to: &'a DeadLettering,
) -> MessageView<'a> {
    let mut message = original(source, letter);
    message.exchange = &to.exchange;
    message.properties = patched.get(letter.patched.clone()).unwrap_or_default();
    if let Some(key) = &to.routing_key {
        message.routing_key = key;
    }
    message
}
