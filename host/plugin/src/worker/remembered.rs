//! The first messages of a batch, as long as their answers are remembered: most batches have no others.

use super::{asking::Batch, questions::Scratch};
use crate::memo::{Kept, Known};
use leveret_broker::port::Answer;
use leveret_model::{MessageView, Reads};

impl Batch<'_> {
    /// Appends the remembered answers of the first messages. Gives the first one about which more is to be done: its answer
    /// is not known, or is to be audited.
    pub(super) fn answer_known<'m, 'b: 'm>(
        &mut self,
        messages: &mut dyn Iterator<Item = &'m MessageView<'b>>,
        answers: &mut Vec<Answer>,
    ) -> Option<&'m MessageView<'b>> {
        let entry = &mut *self.entry;
        let looks_at_all = !entry.pure || entry.rejects_bodies || entry.reads_nothing;
        let known = if looks_at_all { None } else { entry.memo.known() };
        let Some(known) = known else { return messages.next() };
        let before = answers.len();
        let next = match entry.key_only {
            true => by_key(known, messages, answers),
            false => by_projection(known, (&entry.reads, &mut *self.scratch), messages, answers),
        };
        self.counters.remembered += (answers.len() - before) as u64;
        next
    }
}

/// Where the routing key is all that counts.
fn by_key<'m, 'b: 'm>(
    mut known: Known<'_, Kept>,
    messages: &mut dyn Iterator<Item = &'m MessageView<'b>>,
    answers: &mut Vec<Answer>,
) -> Option<&'m MessageView<'b>> {
    let mut before: Option<&[u8]> = None;
    for message in messages {
        if before == Some(message.routing_key)
            && let Some(answer) = answers.last().map(Answer::without_effects)
            && known.hit_again()
        {
            answers.push(answer);
            continue;
        }
        let Some(kept) = known.find(message.routing_key) else { return Some(message) };
        answers.push(kept.answer());
        before = Some(message.routing_key);
    }
    None
}

/// Where more counts.
fn by_projection<'m, 'b: 'm>(
    mut known: Known<'_, Kept>,
    (reads, scratch): (&Reads, &mut Scratch),
    messages: &mut dyn Iterator<Item = &'m MessageView<'b>>,
    answers: &mut Vec<Answer>,
) -> Option<&'m MessageView<'b>> {
    let projection = &mut scratch.projections;
    let mut next = None;
    for message in messages {
        projection.clear();
        message.project(reads, projection);
        let Some(kept) = known.find(projection) else {
            next = Some(message);
            break;
        };
        answers.push(kept.answer());
    }
    projection.clear();
    next
}
