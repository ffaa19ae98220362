//! Consumers that want some messages and not others.
//!
//! Each has places of its own in the lanes, up to which it has judged everything: what it did not want stays where it is,
//! for others. It goes on from there when its turn comes, and takes the first message that it wants (`ahead.rs`). What
//! comes back behind its place is judged again. So each message is judged once by each such consumer, and the order in
//! which it is given messages is the queue's.
//!
//! *Whose turn it is* is decided as among all consumers (`consumers.rs`): one that wants nothing of what is there loses its
//! turn until there is something that it has not judged. Also the only consumer of a queue has its messages assigned if it
//! is selective.
//!
//! *Bound:* in one go no more than [`JUDGED_MAX`] messages are judged, and one piece read from the store, under the queue's
//! lock. Then the consumer is to pull again, when others had their turn.

use super::{
    ahead::{Seen, Walk},
    consumers::{Consumer, ConsumerKey},
    lanes::{Lane, Lanes},
    slab::MessageRef,
    state::State,
};
use crate::selector::Selector;
use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    vec::Vec,
};
use leveret_model::MessageView;

/// How many messages are judged in one go.
const JUDGED_MAX: u32 = 256;
/// So many numbers of messages that came back a consumer may have noted though they are gone again.
const STALE_MAX: usize = 64;

/// What may be done in one go.
pub(super) struct Budget {
    pub(super) messages: u32,
    pieces: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { messages: JUDGED_MAX, pieces: 1 }
    }
}

/// Takes one off what is left.
pub(super) fn spend(left: &mut u32) -> bool {
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

/// Why a consumer was given nothing, though it may want something of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// It has not looked at all.
    Unfinished,
    /// What it is to look at next cannot be read now.
    Later,
}

/// What a consumer wants, and up to where it has looked.
pub(super) struct Selective {
    /// `None` wants everything.
    selector: Option<Arc<dyn Selector>>,
    /// What it is given stays where it is (`browsing.rs`).
    pub(super) copies: bool,
    /// By the places of the lanes.
    places: BTreeMap<u16, Place>,
    /// The key from which on it has not judged what came back and comes first.
    returned: i64,
    /// It is to pull again.
    pub(super) pause: Option<Pause>,
}

/// Up to where a consumer has looked in a lane.
#[derive(Default)]
struct Place {
    /// All messages below this number it has judged, but for those of [`Self::again`] and what was not ready.
    judged: u64,
    /// Where it stands in what nobody has taken.
    walk: Walk,
    /// Came back below that number.
    again: BTreeSet<u64>,
}

/// What a consumer is to judge next.
pub(super) enum Candidate {
    Message(MessageRef, Spot),
    /// The hole in a lane that begins with that number is to be read first.
    Load(u16, u64),
    Nothing,
}

/// Where a message is that is ready.
#[derive(Clone, Copy)]
pub(super) enum Spot {
    /// Came back and comes first: under that key.
    First(i64),
    /// Came back behind the place of the consumer.
    Again,
    /// Came back before it.
    Returned,
    /// Nobody has taken it.
    Untaken,
}

/// What came of looking for a consumer.
pub(super) enum Found {
    Message(MessageRef),
    Nothing,
    Paused(Pause),
}

impl Selective {
    fn new(selector: Option<Arc<dyn Selector>>, copies: bool) -> Self {
        Self { selector, copies, places: BTreeMap::new(), returned: i64::MIN, pause: None }
    }

    /// Whether it wants a message.
    pub(super) fn wants(&self, view: &MessageView<'_>, is_redelivered: bool) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.wants(view, is_redelivered))
    }

    /// Whether there may be messages that it has not judged.
    pub(super) fn has_news(&self, lanes: &Lanes) -> bool {
        lanes.returned.as_ref().is_some_and(|returned| self.returned < returned.next())
            || lanes.places().any(|at| match self.places.get(&at) {
                Some(place) => !place.again.is_empty() || place.judged < lanes.lane(at).store.next_sequence(),
                None => true,
            })
    }

    fn place(&mut self, at: u16) -> &mut Place {
        self.places.entry(at).or_default()
    }

    /// A message came back; its key, where it comes first.
    fn note_back(&mut self, message: MessageRef, key: Option<i64>, lane: &Lane) {
        if let Some(key) = key {
            self.returned = self.returned.min(key);
            return;
        }
        let place = self.place(message.lane);
        if message.sequence < place.judged {
            place.again.insert(message.sequence);
            if place.again.len() > STALE_MAX + 2 * lane.returned.len() {
                place.again.retain(|sequence| lane.returned.contains_key(sequence));
            }
        }
    }

    /// What it is to judge next.
    pub(super) fn candidate(&mut self, lanes: &Lanes) -> Candidate {
        if let Some(returned) = &lanes.returned {
            if let Some((key, message)) = returned.from(self.returned) {
                return Candidate::Message(message, Spot::First(key));
            }
            self.returned = returned.next();
        }
        for at in lanes.served() {
            match lanes.lane(at).candidate(at, self.place(at)) {
                Candidate::Nothing => {}
                candidate => return candidate,
            }
        }
        Candidate::Nothing
    }

    /// It has judged a message.
    pub(super) fn pass(&mut self, message: MessageRef, spot: Spot, lanes: &Lanes) {
        if let Spot::First(key) = spot {
            self.returned = key + 1;
            return;
        }
        let place = self.place(message.lane);
        match spot {
            Spot::First(_) => {}
            Spot::Again => _ = place.again.remove(&message.sequence),
            Spot::Returned => place.judged = message.sequence + 1,
            Spot::Untaken => {
                place.judged = message.sequence + 1;
                lanes.lane(message.lane).store.pass(&mut place.walk);
            }
        }
    }
}

impl Lane {
    /// What a consumer with that place is to judge next.
    fn candidate(&self, at: u16, place: &mut Place) -> Candidate {
        while let Some(sequence) = place.again.first() {
            if let Some(message) = self.returned.get(sequence) {
                return Candidate::Message(*message, Spot::Again);
            }
            place.again.pop_first();
        }
        let back = self.returned.range(place.judged..).next().map(|(_, message)| *message);
        let is_first = |sequence: u64| back.is_none_or(|back| sequence < back.sequence);
        match (self.store.seek(&mut place.walk), back) {
            (Seen::Message(message), _) if is_first(message.sequence) => {
                Candidate::Message(message, Spot::Untaken)
            }
            (Seen::Load(first), _) if is_first(first) => Candidate::Load(at, first),
            (_, Some(back)) => Candidate::Message(back, Spot::Returned),
            (_, None) => {
                place.judged = self.store.next_sequence();
                Candidate::Nothing
            }
        }
    }
}

impl Lanes {
    /// The places of its lanes, in the order in which they are served.
    fn served(&self) -> impl Iterator<Item = u16> {
        let only = self.order.is_empty().then_some(0);
        only.into_iter().chain(self.order.iter().copied())
    }

    /// Takes a message that is somewhere.
    fn take_where(&mut self, message: MessageRef, spot: Spot) {
        match spot {
            Spot::First(key) => {
                self.returned.as_mut().and_then(|returned| returned.remove(key));
            }
            Spot::Again | Spot::Returned => {
                self.lane_mut(message.lane).returned.remove(&message.sequence);
            }
            Spot::Untaken => self.lane_mut(message.lane).store.take_ahead(message),
        }
    }
}

impl Consumer {
    /// One that is given only what it wants; `None` wants everything.
    pub(crate) fn with_selector(mut self, selector: Option<Arc<dyn Selector>>) -> Self {
        self.selective = selector.map(|selector| Box::new(Selective::new(Some(selector), false)));
        self
    }

    /// One that is given copies, of what it wants.
    pub(crate) fn copying(mut self, selector: Option<Arc<dyn Selector>>) -> Self {
        self.selective = Some(Box::new(Selective::new(selector, true)));
        self
    }

    /// Whether it is given copies.
    pub(super) fn copies(&self) -> bool {
        self.selective.as_ref().is_some_and(|selective| selective.copies)
    }
}

impl State {
    /// The next message that a selective consumer wants, taken for it; if there is none it is told why.
    pub(super) fn take_wanted(&mut self, key: ConsumerKey, budget: &mut Budget) -> Option<MessageRef> {
        let found = self.search(key, budget);
        let selective = self.consumers.selective_mut(key)?;
        selective.pause = match found {
            Found::Paused(pause) => Some(pause),
            Found::Message(_) | Found::Nothing => None,
        };
        match found {
            Found::Message(message) => Some(self.taken(message)),
            Found::Nothing | Found::Paused(_) => None,
        }
    }

    fn search(&mut self, key: ConsumerKey, budget: &mut Budget) -> Found {
        loop {
            let Self { lanes, consumers, tries, patched, .. } = self;
            let Some(selective) = consumers.selective_mut(key) else { return Found::Nothing };
            match selective.candidate(lanes) {
                Candidate::Message(message, spot) => {
                    if !spend(&mut budget.messages) {
                        return Found::Paused(Pause::Unfinished);
                    }
                    let wanted = lanes.stored(message).is_some_and(|stored| {
                        let view = tries.told(message, stored.message, patched);
                        selective.wants(&view, stored.redelivered)
                    });
                    selective.pass(message, spot, lanes);
                    if wanted {
                        lanes.take_where(message, spot);
                        return Found::Message(message);
                    }
                }
                Candidate::Load(lane, first) => {
                    if let Some(found) = self.read_ahead((lane, first), budget) {
                        return found;
                    }
                }
                Candidate::Nothing => return Found::Nothing,
            }
        }
    }

    /// Reads what is to be judged next: the front of the hole of a lane that begins with that number. Gives why it was not.
    pub(super) fn read_ahead(&mut self, (lane, first): (u16, u64), budget: &mut Budget) -> Option<Found> {
        if !spend(&mut budget.pieces) {
            return Some(Found::Paused(Pause::Unfinished));
        }
        // Before, so that what is read stays until it is judged.
        self.relieve();
        match self.load_ahead(lane, first) {
            Some(false) => None,
            Some(true) => Some(Found::Paused(Pause::Later)),
            None => Some(Found::Nothing),
        }
    }

    /// A message came back, under that key where it comes first: who went past it is to judge it again.
    pub(super) fn note_returned(&mut self, message: MessageRef, key: Option<i64>) {
        if !self.consumers.has_selective() {
            return;
        }
        let Self { lanes, consumers, .. } = self;
        let lane = lanes.lane(message.lane);
        consumers.each_selective(|selective| selective.note_back(message, key, lane));
    }

    /// Where selective consumers stand, by lanes and numbers.
    pub(super) fn walks(&mut self) -> Vec<(u16, u64)> {
        let mut walks = Vec::new();
        self.consumers.each_selective(|selective| {
            walks.extend(selective.places.iter().map(|(at, place)| (*at, place.walk.sequence())));
        });
        walks
    }
}
