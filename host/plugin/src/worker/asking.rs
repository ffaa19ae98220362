//! The path of a batch of messages: remembered answers, and one question to the guest for many
//! that are not.

use super::{
    Counters, Entry, REFUSED_FOR,
    homes::{Homes, NotServed},
    refusal, version_of,
};
use crate::{
    guest::{Decision, Decisions},
    registry::Registry,
    version::Version,
};
use leveret_broker::{
    exchange::Exchange,
    port::{Answer, Wake},
};
use leveret_model::{MessageView, Refusal};
use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

/// The most bytes of projections in one call, unless a single message has more.
const CALL_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the length before each projection.
const LENGTH_BYTES: usize = 4;

/// Buffers that are used again for each batch.
#[derive(Default)]
pub(super) struct Scratch {
    /// Projections back to back, each after its length.
    projections: Vec<u8>,
    /// Where each projection that the guest is asked about lies, its length included.
    questions: Vec<Range<usize>>,
    /// Which answers are waiting for which question, in the order of both.
    waiting: Vec<Waiting>,
}

/// An answer that waits.
struct Waiting {
    answer: usize,
    question: usize,
}

/// The batch cannot go on; all of it is asked again later.
pub(super) struct Again;

/// Whether the guest can be asked, once that was needed.
enum Guest {
    NotNeededYet,
    Ready(Arc<Version>),
    Failed(Box<Refusal>),
}

/// One batch of messages of one exchange.
pub(super) struct Batch<'a> {
    pub(super) registry: &'a Registry,
    pub(super) homes: &'a mut Homes,
    pub(super) entry: &'a mut Entry,
    pub(super) scratch: &'a mut Scratch,
    pub(super) counters: &'a mut Counters,
    pub(super) exchange: &'a Arc<Exchange>,
    pub(super) waker: &'a Arc<dyn Wake>,
}

impl Batch<'_> {
    /// Appends an answer for each message.
    pub(super) fn answer(
        &mut self,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Again> {
        self.scratch.clear();
        let current = self.entry.version.is_some() && self.entry.generation == self.exchange.generation();
        let mut guest = if current { Guest::NotNeededYet } else { self.stand_ready()? };
        let mut remembered = 0;
        for message in messages {
            if let Guest::Failed(refusal) = &guest {
                self.counters.failed += 1;
                answers.push(self.entry.failed(refusal));
                continue;
            }
            let mut remember = self.entry.pure && !self.entry.memo.is_away();
            let mut place = match self.look_up(message, remember) {
                Ok(answer) => {
                    remembered += 1;
                    answers.push(answer);
                    continue;
                }
                Err(place) => place,
            };
            if matches!(guest, Guest::NotNeededYet) {
                let generation = self.entry.generation;
                guest = self.stand_ready()?;
                if self.entry.generation != generation {
                    // What the exchange reads may be another thing now.
                    self.scratch.projections.truncate(place.start);
                    place = self.scratch.project(self.entry, message);
                    remember = false;
                }
                if let Guest::Failed(refusal) = &guest {
                    self.counters.failed += 1;
                    answers.push(self.entry.failed(refusal));
                    continue;
                }
            }
            self.scratch.wait(place, answers, remember);
        }
        self.counters.remembered += remembered;
        match guest {
            Guest::Ready(version) => self.ask_guest(&version, answers),
            Guest::NotNeededYet | Guest::Failed(_) => Ok(()),
        }
    }

    /// The remembered answer, or where the projection of the message lies.
    fn look_up(&mut self, message: &MessageView<'_>, remember: bool) -> Result<Answer, Range<usize>> {
        if remember && self.entry.key_only {
            if let Some(answer) = self.entry.memo.get(message.routing_key) {
                return Ok(answer);
            }
            return Err(self.scratch.project(self.entry, message));
        }
        let place = self.scratch.project(self.entry, message);
        if remember && let Some(answer) = self.entry.memo.get(self.scratch.projection(&place)) {
            self.scratch.projections.truncate(place.start);
            return Ok(answer);
        }
        Err(place)
    }

    /// Brings this worker's instance, and what is kept of the exchange, to its current generation.
    fn stand_ready(&mut self) -> Result<Guest, Again> {
        // The generation is read before the version: a swap publishes in the other order.
        let version = match version_of(self.registry, self.exchange) {
            Ok(version) => version,
            Err(refusal) => {
                // What does not serve keeps no memory, and nothing stands in for it.
                self.entry.policy = None;
                if let Some(old) = self.entry.version.take() {
                    self.homes.leave(&old, self.exchange);
                }
                return Ok(Guest::Failed(Box::new(refusal)));
            }
        };
        let entry = &mut *self.entry;
        entry.policy = Some(version.policy(&self.exchange.vhost));
        if let Some(old) = entry.version.take_if(|old| old.id != version.id) {
            // Another virtual host's may still be that version's.
            match self.registry.serves(old.id) {
                true => self.homes.leave(&old, self.exchange),
                false => self.homes.discard(old.id),
            }
            entry.refused = None;
        }
        if let Some((text, until)) = &entry.refused {
            if Instant::now() < *until {
                let refused = NotServed::Refused(text.clone());
                return Ok(Guest::Failed(Box::new(refusal(self.exchange, refused))));
            }
            entry.refused = None;
        }
        match self.homes.served(&version, self.exchange, Some(self.waker)) {
            Ok(replica) => {
                if let Some((generation, reads)) = replica.knows(self.exchange.id) {
                    entry.follow(generation, reads);
                }
                entry.pure = version.describes(&self.exchange.spec.type_name).is_some_and(|t| t.pure);
                entry.version = Some(version.clone());
                Ok(Guest::Ready(version))
            }
            Err(NotServed::Pending) => Err(Again),
            Err(not_served) => {
                if let NotServed::Refused(text) = &not_served {
                    entry.refused = Some((text.clone(), Instant::now() + REFUSED_FOR));
                }
                Ok(Guest::Failed(Box::new(refusal(self.exchange, not_served))))
            }
        }
    }

    /// Asks the guest all questions, many in a call; those of a call that failed one by one, on
    /// fresh instances, so that only the message which caused it meets the refusal.
    fn ask_guest(&mut self, version: &Arc<Version>, answers: &mut [Answer]) -> Result<(), Again> {
        let (mut asked, mut answered, mut singly_before) = (0, 0, 0);
        while asked < self.scratch.questions.len() {
            let replica = match self.homes.at(version, self.exchange, self.entry.generation) {
                Ok(replica) => replica,
                Err(not_served) => {
                    let refusal = refusal(self.exchange, not_served);
                    self.fail(answered, usize::MAX, &refusal, answers);
                    return Ok(());
                }
            };
            if replica.knows(self.exchange.id).map(|(generation, _)| generation)
                != Some(self.entry.generation)
            {
                // Made anew, at a later generation: the questions are not of what it reads.
                self.waker.wake();
                return Err(Again);
            }
            let count_max = if asked < singly_before { 1 } else { replica.messages_per_call_max() };
            let count = self.scratch.fitting(asked, count_max);
            let began = Instant::now();
            let decisions = replica.route(self.exchange.id, self.scratch.bytes(asked, count), count);
            self.counters.calls += 1;
            match decisions {
                Ok(decisions) => {
                    self.homes.succeeded(version, self.exchange);
                    answered = self.take_over(version, asked, answered, &decisions, answers);
                    asked += count;
                }
                Err(failure) => {
                    self.homes.failed(version, self.exchange, &failure, began.elapsed());
                    if count > 1 {
                        singly_before = asked + count;
                    } else {
                        asked += 1;
                        let failed = NotServed::Failed(failure.to_string());
                        answered = self.fail(answered, asked, &refusal(self.exchange, failed), answers);
                    }
                }
            }
        }
        Ok(())
    }

    /// Turns decisions into answers, from that question and that waiting answer on. Gives the next
    /// waiting answer.
    fn take_over(
        &mut self,
        version: &Version,
        first_question: usize,
        mut answered: usize,
        decisions: &Decisions,
        answers: &mut [Answer],
    ) -> usize {
        for (question, decision) in (first_question..).zip(decisions.iter()) {
            let (answer, answer_bytes) = self.resolve(version, decisions, decision);
            if self.entry.pure
                && let Some(place) = self.scratch.questions.get(question)
            {
                let projection = self.scratch.projection(place);
                // Alone, the routing key needs no length before it.
                let key = if self.entry.key_only { projection.get(2..) } else { Some(projection) };
                self.entry.memo.insert(key.unwrap_or_default(), &answer, answer_bytes);
            }
            while let Some(waiting) = self.scratch.waiting.get(answered).filter(|w| w.question == question) {
                if let Some(place) = answers.get_mut(waiting.answer) {
                    *place = answer.clone();
                }
                answered += 1;
                self.counters.asked += 1;
            }
        }
        answered
    }

    fn resolve(&mut self, version: &Version, decisions: &Decisions, decision: &Decision) -> (Answer, usize) {
        match decision {
            Decision::Deliver(range) => {
                let resolved = self.entry.sets.resolve(self.exchange, decisions.ids(range));
                if resolved.dead > 0 {
                    self.counters.dead_ids += resolved.dead as u64;
                    version.dead_ids.fetch_add(resolved.dead as u64, Ordering::Relaxed);
                }
                (Answer::Deliver(resolved.routes), resolved.new_bytes)
            }
            Decision::Drop => (Answer::Drop, 0),
            Decision::Reject(reason) => (Answer::Reject(reason.clone()), reason.len() + 64),
        }
    }

    /// Answers what waits for questions before `question_end` with a refusal. Gives the next
    /// waiting answer.
    fn fail(
        &mut self,
        mut answered: usize,
        question_end: usize,
        refusal: &Refusal,
        answers: &mut [Answer],
    ) -> usize {
        while let Some(waiting) = self.scratch.waiting.get(answered).filter(|w| w.question < question_end) {
            if let Some(place) = answers.get_mut(waiting.answer) {
                *place = self.entry.failed(refusal);
            }
            answered += 1;
            self.counters.failed += 1;
        }
        answered
    }
}

impl Scratch {
    fn clear(&mut self) {
        self.projections.clear();
        self.questions.clear();
        self.waiting.clear();
    }

    /// Appends the projection of a message.
    fn project(&mut self, entry: &Entry, message: &MessageView<'_>) -> Range<usize> {
        let start = self.projections.len();
        self.projections.extend_from_slice(&[0; LENGTH_BYTES]);
        message.project(&entry.reads, &mut self.projections);
        let length = self.projections.len() - start - LENGTH_BYTES;
        if let Some(place) = self.projections.get_mut(start..start + LENGTH_BYTES) {
            place.copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
        start..self.projections.len()
    }

    /// A projection, without its length.
    fn projection(&self, place: &Range<usize>) -> &[u8] {
        self.projections.get(place.start + LENGTH_BYTES..place.end).unwrap_or_default()
    }

    /// Lets the next answer wait for this projection's; where it is to be remembered and like the
    /// one before, for that one's.
    fn wait(&mut self, place: Range<usize>, answers: &mut Vec<Answer>, remember: bool) {
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
        answers.push(Answer::Drop);
    }

    /// How many questions from that one on fit in a call.
    fn fitting(&self, first: usize, count_max: usize) -> usize {
        let questions = self.questions.get(first..).unwrap_or_default();
        let Some(start) = questions.first().map(|place| place.start) else {
            return 0;
        };
        let fit = questions.iter().take(count_max).take_while(|place| place.end - start <= CALL_BYTES_MAX);
        fit.count().max(1)
    }

    /// The projections of so many questions from that one on.
    fn bytes(&self, first: usize, count: usize) -> &[u8] {
        let places = self.questions.get(first..first + count).unwrap_or_default();
        match (places.first(), places.last()) {
            (Some(first), Some(last)) => self.projections.get(first.start..last.end).unwrap_or_default(),
            _ => &[],
        }
    }
}
