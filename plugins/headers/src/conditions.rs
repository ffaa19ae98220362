//! Bindings by their conditions, found from the headers of a message rather than one by one.
//!
//! A condition is a header with its value, or only a header's name where the binding gives no
//! value. Each different condition is kept once, under the very bytes it has in a message's
//! projection, so that a header is looked up without being decoded.
//!
//! A binding that wants any of its conditions is listed at each of them. One that wants all is
//! listed at a single one, its anchor: the one that the fewest bindings are listed at when it comes
//! in. Routing looks up each header, marks the conditions met, and then tries only the bindings
//! listed at those. So the work follows the bindings that have a condition in common with the message,
//! not all there are. One that wants nothing but a single condition is met with that: it is not tried.

use crate::{numbers::Numbers, x_match::Quantifier};
use leveret_sdk::{BindingId, ExtendibleMap, Few, Mark, SegmentedVec, Targets, Value, message::Field};
use std::{collections::BTreeMap, rc::Rc};

/// The tags of strings in flat values (`wit/CONTRACT.md`, "Flat values").
const TEXT: u8 = 0x04;
const BINARY: u8 = 0x05;

/// Not listed there.
const UNLISTED: u32 = u32::MAX;

/// Bindings by their conditions.
#[derive(Debug, Default)]
pub struct Conditions {
    /// By length and name, and the flat value too unless only presence is asked for.
    numbers: Numbers,
    conditions: SegmentedVec<Condition>,
    conditions_free: SegmentedVec<u32>,
    /// How many conditions ask only for presence.
    presence: usize,
    slots: ExtendibleMap<BindingId, u32>,
    bindings: SegmentedVec<Bound>,
    bindings_free: SegmentedVec<u32>,
    /// Bindings that are met by every message.
    unconditional: Vec<u32>,
    /// The headers named by bindings, and how often.
    names: BTreeMap<Box<[u8]>, usize>,
    /// Numbers the messages, to mark what one of them meets.
    message: u64,
    met: Vec<u32>,
}

#[derive(Debug)]
struct Condition {
    key: Rc<[u8]>,
    holders: usize,
    /// The last message that met it.
    met_by: u64,
    /// The bindings that want this one and no other.
    alone: Vec<BindingId>,
    /// The slots of the others that are listed here.
    listed: Vec<u32>,
}

impl Condition {
    fn binding_count(&self) -> usize {
        self.alone.len() + self.listed.len()
    }
}

#[derive(Debug)]
struct Bound {
    id: BindingId,
    quantifier: Quantifier,
    /// The last message it was named for.
    named_for: u64,
    /// Its place in `unconditional`, if it is there.
    unconditional_at: u32,
    needs: Vec<Need>,
}

impl Bound {
    /// Whether it wants a single condition.
    fn wants_one(&self) -> bool {
        self.needs.len() == 1
    }
}

/// A condition of a binding, and the binding's place in that condition's list.
#[derive(Clone, Copy, Debug)]
struct Need {
    condition: u32,
    listed_at: u32,
}

impl Conditions {
    /// Adds a binding. An id that is there already is replaced.
    pub fn insert<'a>(
        &mut self,
        id: BindingId,
        quantifier: Quantifier,
        arguments: impl Iterator<Item = Field<'a>>,
    ) {
        self.remove(id);
        let needs =
            arguments.map(|argument| Need { condition: self.hold(&argument), listed_at: UNLISTED }).collect();
        let bound = Bound { id, quantifier, named_for: 0, unconditional_at: UNLISTED, needs };
        let slot = put(&mut self.bindings, &mut self.bindings_free, bound);
        self.slots.insert(id, slot);
        self.list(slot);
    }

    /// Removes a binding, and the conditions that no other has.
    pub fn remove(&mut self, id: BindingId) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        let Some(bound) = self.bindings.get_mut(slot as usize) else {
            return;
        };
        let wants_one = bound.wants_one();
        let needs = std::mem::take(&mut bound.needs);
        let unconditional_at = bound.unconditional_at as usize;
        if unconditional_at < self.unconditional.len() {
            self.unconditional.swap_remove(unconditional_at);
            let moved = self.unconditional.get(unconditional_at);
            if let Some(moved) = moved.and_then(|slot| self.bindings.get_mut(*slot as usize)) {
                moved.unconditional_at = unconditional_at as u32;
            }
        }
        for need in needs {
            if wants_one {
                self.unlist_alone(need)
            } else {
                self.unlist(need)
            }
            self.release(need.condition);
        }
        self.bindings_free.push(slot);
    }

    /// How many headers bindings name.
    pub fn name_count(&self) -> usize {
        self.names.len()
    }

    /// The headers that bindings name, in order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.names.keys().map(|name| &**name)
    }

    /// Adds the bindings that these headers meet, each once.
    #[inline(always)]
    pub fn find<'a>(&mut self, headers: impl Iterator<Item = Field<'a>>, to: &mut Targets<'_>) {
        self.message += 1;
        self.met.clear();
        to.extend(self.unconditional.iter().filter_map(|slot| Some(self.bindings.get(*slot as usize)?.id)));
        for header in headers {
            let text = as_text(&header);
            self.meet(text.as_deref().unwrap_or(header.flat()), to);
            if self.presence > 0 {
                self.meet_presence(&header, to);
            }
        }
        if !self.met.is_empty() {
            self.try_listed(to);
        }
    }

    /// The same, if no condition met is one of several that a binding wants, and all headers are short; without a call of
    /// a function. False if that is not so.
    #[inline(always)]
    pub fn find_at_once<'a>(&mut self, headers: impl Iterator<Item = Field<'a>>, to: &mut Few<'_>) -> bool {
        if !self.unconditional.is_empty() || self.presence > 0 {
            return false;
        }
        self.message += 1;
        for header in headers {
            if header.flat_value().first() == Some(&BINARY) {
                return false;
            }
            let Some(number) = self.numbers.get_at_once(header.flat()) else {
                return false;
            };
            let Some(condition) = number.and_then(|number| self.conditions.get_mut(number as usize)) else {
                continue;
            };
            // A header that comes twice counts once.
            if condition.met_by != self.message {
                condition.met_by = self.message;
                if !condition.listed.is_empty() || !to.push_one_of(&condition.alone) {
                    return false;
                }
            }
        }
        true
    }

    /// Adds the bindings listed at the conditions met that are met themselves.
    #[inline(never)]
    fn try_listed(&mut self, to: &mut Targets<'_>) {
        let Self { conditions, bindings, met, message, .. } = self;
        for number in met.iter() {
            let Some(condition) = conditions.get(*number as usize) else {
                continue;
            };
            for slot in &condition.listed {
                let Some(bound) = bindings.get_mut(*slot as usize) else {
                    continue;
                };
                let is_met = match bound.quantifier {
                    Quantifier::Any => bound.named_for != *message,
                    Quantifier::All => bound.needs.iter().all(|need| {
                        conditions
                            .get(need.condition as usize)
                            .is_some_and(|condition| condition.met_by == *message)
                    }),
                };
                if is_met {
                    bound.named_for = *message;
                    to.push(bound.id);
                }
            }
        }
    }

    /// Kept apart: few bindings ask for presence.
    #[inline(never)]
    fn meet_presence(&mut self, header: &Field<'_>, to: &mut Targets<'_>) {
        self.meet(presence_key(header), to);
    }

    #[inline(always)]
    fn meet(&mut self, key: &[u8], to: &mut Targets<'_>) {
        let Some(number) = self.numbers.get(key) else {
            return;
        };
        let Some(condition) = self.conditions.get_mut(number as usize) else {
            return;
        };
        // A header that comes twice counts once.
        if condition.met_by != self.message {
            condition.met_by = self.message;
            to.extend_from_slice(&condition.alone);
            if !condition.listed.is_empty() {
                self.met.push(number);
            }
        }
    }

    /// Lists a binding where a message that meets it is sure to come by.
    fn list(&mut self, slot: u32) {
        let Some(bound) = self.bindings.get_mut(slot as usize) else {
            return;
        };
        let conditions = &mut self.conditions;
        let listed = |need: &Need| {
            conditions.get(need.condition as usize).map_or(usize::MAX, Condition::binding_count)
        };
        let anchor = match bound.quantifier {
            Quantifier::All => (0..bound.needs.len()).min_by_key(|at| bound.needs.get(*at).map(&listed)),
            Quantifier::Any => None,
        };
        if bound.quantifier == Quantifier::All && anchor.is_none() {
            bound.unconditional_at = self.unconditional.len() as u32;
            self.unconditional.push(slot);
            return;
        }
        let (wants_one, id) = (bound.wants_one(), bound.id);
        for (at, need) in bound.needs.iter_mut().enumerate() {
            if anchor.is_some_and(|anchor| anchor != at) {
                continue;
            }
            if let Some(condition) = conditions.get_mut(need.condition as usize) {
                if wants_one {
                    need.listed_at = condition.alone.len() as u32;
                    condition.alone.push(id);
                } else {
                    need.listed_at = condition.listed.len() as u32;
                    condition.listed.push(slot);
                }
            }
        }
    }

    fn unlist_alone(&mut self, need: Need) {
        let at = need.listed_at as usize;
        let Some(condition) = self.conditions.get_mut(need.condition as usize) else {
            return;
        };
        if at >= condition.alone.len() {
            return;
        }
        condition.alone.swap_remove(at);
        let moved = condition.alone.get(at).and_then(|id| self.slots.get(id));
        let moved = moved.and_then(|slot| self.bindings.get_mut(*slot as usize));
        if let Some(moved) = moved.and_then(|bound| bound.needs.first_mut()) {
            moved.listed_at = need.listed_at;
        }
    }

    fn unlist(&mut self, need: Need) {
        let at = need.listed_at as usize;
        let Some(condition) = self.conditions.get_mut(need.condition as usize) else {
            return;
        };
        if at >= condition.listed.len() {
            return;
        }
        condition.listed.swap_remove(at);
        let moved = condition.listed.get(at).and_then(|slot| self.bindings.get_mut(*slot as usize));
        if let Some(moved) =
            moved.and_then(|bound| bound.needs.iter_mut().find(|n| n.condition == need.condition))
        {
            moved.listed_at = need.listed_at;
        }
    }

    /// The number of a condition, for one more holder.
    fn hold(&mut self, argument: &Field<'_>) -> u32 {
        let only_presence = argument.value() == Some(Value::Void);
        let text = as_text(argument);
        let valued = text.as_deref().unwrap_or_else(|| argument.flat());
        let key = if only_presence { presence_key(argument) } else { valued };
        *self.names.entry(argument.name().into()).or_default() += 1;
        if let Some(number) = self.numbers.get(key) {
            if let Some(condition) = self.conditions.get_mut(number as usize) {
                condition.holders += 1;
            }
            return number;
        }
        self.presence += usize::from(only_presence);
        let key: Rc<[u8]> = key.into();
        let condition =
            Condition { key: key.clone(), holders: 1, met_by: 0, alone: Vec::new(), listed: Vec::new() };
        let number = put(&mut self.conditions, &mut self.conditions_free, condition);
        self.numbers.insert(&key, number);
        number
    }

    fn release(&mut self, number: u32) {
        let Some(condition) = self.conditions.get_mut(number as usize) else {
            return;
        };
        let name_end = condition.key.first().map_or(0, |length| 1 + usize::from(*length));
        if let Some(name) = condition.key.get(1..name_end)
            && let Some(count) = self.names.get_mut(name)
        {
            *count -= 1;
            if *count == 0 {
                self.names.remove(name);
            }
        }
        condition.holders -= 1;
        if condition.holders == 0 {
            self.presence -= usize::from(condition.key.len() == name_end);
            self.numbers.remove(&condition.key);
            self.conditions_free.push(number);
        }
    }

    /// How much is kept, for a test that nothing is left.
    #[cfg(test)]
    pub(crate) fn size(&self) -> [usize; 5] {
        [self.numbers.len(), self.slots.len(), self.unconditional.len(), self.names.len(), self.presence]
    }
}

/// What a message has in which a condition is met: the bytes that it is kept under, of a string its value.
pub(crate) fn mark(argument: &Field<'_>) -> Mark {
    match argument.value() {
        Some(Value::Void) => Mark::header_name(argument.name()),
        // Which of the two it is, a message says between name and value.
        Some(Value::Text(text)) => Mark::header_string(text.as_bytes()),
        Some(Value::Binary(bytes)) => Mark::header_string(bytes),
        _ => Mark::header(argument),
    }
}

/// A string of bytes as it would be as text; nothing for anything else. The same string is the same condition whichever
/// way it comes, as in RabbitMQ.
#[inline]
fn as_text(field: &Field<'_>) -> Option<Vec<u8>> {
    let (tag, content) = field.flat_value().split_first()?;
    (*tag == BINARY).then(|| text_key(field, content))
}

/// Kept apart: most strings are text.
#[inline(never)]
fn text_key(field: &Field<'_>, content: &[u8]) -> Vec<u8> {
    let mut key = presence_key(field).to_vec();
    key.push(TEXT);
    key.extend_from_slice(content);
    key
}

/// Length and name, without the value: shorter than every field, so no condition on a value has it.
#[inline]
fn presence_key<'a>(field: &Field<'a>) -> &'a [u8] {
    field.flat().get(..1 + field.name().len()).unwrap_or_default()
}

/// Puts something into a free place, or a new one.
fn put<T>(places: &mut SegmentedVec<T>, free: &mut SegmentedVec<u32>, thing: T) -> u32 {
    if let Some(at) = free.pop()
        && let Some(place) = places.get_mut(at as usize)
    {
        *place = thing;
        return at;
    }
    places.push(thing) as u32
}
