//! The messages of a batch that the guest is asked about, as it sees them, and the answers that wait for it.

use super::{handing_over::Listed, keeping::Entry};
use leveret_broker::port::Answer;
use leveret_model::{MessageView, OwnedMessage};
use std::{ops::Range, sync::Arc};

/// The most bytes of projections in one call, unless a single message has more.
const CALL_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the length before each projection.
pub(super) const LENGTH_BYTES: usize = 4;

/// Buffers that are used again for each batch.
#[derive(Default)]
pub(super) struct Scratch {
    /// Projections back to back, each after its length.
    pub(super) projections: Vec<u8>,
    /// Where each projection that the guest is asked about lies, its length included.
    pub(super) questions: Vec<Range<usize>>,
    /// Which answers are waiting for which question, in the order of both.
    waiting: Vec<Waiting>,
    /// Where each question has one answer waiting for it, in the same order: the first of those. They are not in `waiting`.
    in_order: Option<usize>,
    /// The message of each question, where the plugin may take it.
    pub(super) on_hand: Vec<Arc<OwnedMessage>>,
}

/// An answer that waits.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) answer: usize,
    pub(super) question: usize,
}

impl Scratch {
    pub(super) fn clear(&mut self) {
        self.projections.clear();
        self.questions.clear();
        self.waiting.clear();
        self.in_order = None;
        self.on_hand.clear();
    }

    /// Lets an answer wait for each of these messages, all of which are asked about, but for those beyond `max`: whether
    /// there are such. Nothing else was asked before.
    pub(super) fn ask_in_order<'m, 'b: 'm>(
        &mut self,
        entry: &Entry,
        messages: &mut dyn Iterator<Item = &'m MessageView<'b>>,
        max: usize,
        answers: &mut Vec<Answer>,
    ) -> bool {
        self.in_order = Some(answers.len());
        let mut left_out = false;
        for message in messages {
            left_out = self.questions.len() >= max;
            if left_out {
                break;
            }
            let place = self.project(entry, message);
            self.questions.push(place);
        }
        answers.resize_with(answers.len() + self.questions.len(), || Answer::OPEN);
        left_out
    }

    /// The waiting answer of that number.
    #[inline]
    pub(super) fn waiting(&self, number: usize) -> Option<Waiting> {
        match self.in_order {
            Some(first) if number < self.questions.len() => {
                Some(Waiting { answer: first + number, question: number })
            }
            Some(_) => None,
            None => self.waiting.get(number).copied(),
        }
    }

    /// The answers that wait for these questions, where each has one, in the same order.
    #[inline]
    pub(super) fn in_order<'a>(
        &self,
        questions: &Range<usize>,
        answers: &'a mut [Answer],
    ) -> Option<&'a mut [Answer]> {
        let first = self.in_order?;
        answers.get_mut(first + questions.start..first + questions.end)
    }

    /// Appends the projection of a message.
    #[inline]
    pub(super) fn project(&mut self, entry: &Entry, message: &MessageView<'_>) -> Range<usize> {
        let start = self.projections.len();
        if entry.key_only
            && let Ok(length) = u16::try_from(message.routing_key.len())
        {
            // What most are, without looking at what else there may be.
            let [all, key] = [u32::from(length) + 2, u32::from(length)].map(u32::to_le_bytes);
            self.projections.extend_from_slice(&[all[0], all[1], all[2], all[3], key[0], key[1]]);
            self.projections.extend_from_slice(message.routing_key);
            return start..self.projections.len();
        }
        self.projections.extend_from_slice(&[0; LENGTH_BYTES]);
        message.project(&entry.reads, &mut self.projections);
        let length = self.projections.len() - start - LENGTH_BYTES;
        if let Some(place) = self.projections.get_mut(start..start + LENGTH_BYTES) {
            place.copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
        start..self.projections.len()
    }

    /// A projection, without its length.
    pub(super) fn projection(&self, place: &Range<usize>) -> &[u8] {
        self.projections.get(place.start + LENGTH_BYTES..place.end).unwrap_or_default()
    }

    /// Lets the next answer wait for this projection's; where it is to be remembered and like the
    /// one before, for that one's. Gives whether it is a new question.
    pub(super) fn wait(&mut self, place: Range<usize>, answers: &mut Vec<Answer>, remember: bool) -> bool {
        let repeated = remember
            && self.questions.last().is_some_and(|last| {
                self.projections.get(last.clone()) == self.projections.get(place.clone())
            });
        if repeated {
            self.projections.truncate(place.start);
        } else {
            self.questions.push(place);
        }
        self.waiting.push(Waiting { answer: answers.len(), question: self.questions.len() - 1 });
        answers.push(Answer::OPEN);
        !repeated
    }

    /// The questions, for whoever compares and copies them.
    pub(super) fn listed(&self) -> Listed<'_> {
        Listed { projections: &self.projections, questions: &self.questions, on_hand: &self.on_hand }
    }

    /// How many questions from that one on fit in a call.
    pub(super) fn fitting(&self, first: usize, count_max: usize) -> usize {
        let questions = self.questions.get(first..).unwrap_or_default();
        let Some(start) = questions.first().map(|place| place.start) else {
            return 0;
        };
        // They lie one behind the other.
        let fit = questions.partition_point(|place| place.end - start <= CALL_BYTES_MAX);
        fit.min(count_max).max(1)
    }

    /// The projections of so many questions from that one on.
    pub(super) fn bytes(&self, first: usize, count: usize) -> &[u8] {
        let places = self.questions.get(first..first + count).unwrap_or_default();
        match (places.first(), places.last()) {
            (Some(first), Some(last)) => self.projections.get(first.start..last.end).unwrap_or_default(),
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_so_many_bytes_or_one_message() {
        let mut scratch = Scratch::default();
        for bytes in [CALL_BYTES_MAX * 2, CALL_BYTES_MAX / 2, CALL_BYTES_MAX / 2, 1] {
            let start = scratch.projections.len();
            scratch.projections.resize(start + bytes, 0);
            scratch.questions.push(start..start + bytes);
        }
        assert_eq!([0, 1, 2, 3].map(|first| scratch.fitting(first, 256)), [1, 2, 2, 1]);
        assert_eq!(scratch.fitting(1, 1), 1);
        assert_eq!(scratch.bytes(1, 2).len(), CALL_BYTES_MAX);
    }
}
