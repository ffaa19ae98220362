//! The path of a batch of messages: remembered answers, and one question to the guest for many
//! that are not.

use super::{
    Counters, Entry, Tallies,
    alike::Before,
    handing_over::HandedOver,
    homes::{Homes, NotServed},
    questions::Scratch,
    refusal,
    standing_in::Unsure,
    unavailable,
};
use crate::{
    account::Accounts,
    audit::Auditor,
    capability::{Draft, Outcome},
    guest::{Decision, Decisions, DecisionsLeft, GuestFailure},
    lane::{self, Lane},
    memo::Kept,
    registry::Registry,
    replica::About,
    state::Cell,
    version::Version,
};
use leveret_broker::{
    exchange::Exchange,
    port::{Answer, Effective, Layer, Wake},
};
use leveret_model::{MessageView, Name, OwnedMessage, Reads, Refusal};
use std::{
    ops::Range,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All messages are answered.
    All,
    /// The first ones are: what they left has to be settled before the rest is asked again.
    Some,
}

/// The batch cannot go on; all of it is asked again later.
pub(super) struct Again;

/// Until when the rest of a batch waits.
pub(super) enum Until<'a> {
    /// It is asked at once.
    Now,
    /// Nothing of that cell is in doubt.
    Settled(&'a Arc<Cell>),
    /// Somebody else calls the waker.
    Woken,
}

/// Whether the guest can be asked, once that was needed.
#[expect(clippy::redundant_allocation, reason = "each batch counts it once more, without atomics")]
pub(super) enum Guest {
    NotNeededYet,
    Ready(Rc<Arc<Version>>),
    Failed(Box<Refusal>),
}

/// One batch of messages of one exchange.
pub(super) struct Batch<'a> {
    pub(super) registry: &'a Registry,
    pub(super) homes: &'a mut Homes,
    pub(super) entry: &'a mut Entry,
    pub(super) scratch: &'a mut Scratch,
    pub(super) counters: &'a mut Counters,
    pub(super) tallies: &'a mut Tallies,
    pub(super) accounts: &'a Accounts,
    pub(super) exchange: &'a Arc<Exchange>,
    pub(super) layer: Layer,
    pub(super) waker: &'a Arc<dyn Wake>,
    pub(super) auditor: &'a Auditor,
    /// Where slow plugins are asked; `None` where they may be asked here.
    pub(super) lane: Option<&'a Lane>,
    pub(super) handed_over: &'a mut HandedOver,
    /// The asker whose turn ended with its last batch, by its waker.
    pub(super) had_its_turn: &'a mut Option<usize>,
    /// Where the answers to this batch begin.
    pub(super) first_answer: usize,
    /// The replica was seen to know the exchange as the batch finds it, and was not called since.
    pub(super) seen_ready: bool,
}

/// What tells askers apart.
pub(super) fn key_of(waker: &Arc<dyn Wake>) -> usize {
    Arc::as_ptr(waker).cast::<()>() as usize
}

impl Batch<'_> {
    /// Appends an answer for each message. Where another type may have to stand in, the messages of which
    /// it is not sure that there will be one are noted in `unsure`.
    pub(super) fn answer<'m, 'b: 'm>(
        &mut self,
        messages: &mut dyn Iterator<Item = &'m MessageView<'b>>,
        answers: &mut Vec<Answer>,
        unsure: &mut Unsure<'m, 'b>,
    ) -> Result<Asked, Again> {
        self.scratch.clear();
        self.first_answer = answers.len();
        let current = self.entry.version.is_some() && self.entry.generation == self.exchange.generation();
        let mut guest = if current { Guest::NotNeededYet } else { self.stand_ready()? };
        if !self.entry.remembers() {
            if matches!(guest, Guest::NotNeededYet) {
                guest = self.stand_ready()?;
            }
            if let Guest::Ready(version) = &guest
                && self.entry.is_asked_at_once(version)
            {
                let (version, max) = (version.clone(), self.questions_max(version));
                let left_out = self.scratch.ask_in_order(self.entry, messages, max, answers);
                self.entry.memo.left_out(self.scratch.questions.len());
                return self.ask_in_turn(&version, left_out, answers);
            }
        }
        let mut next = match guest {
            Guest::Failed(_) => messages.next(),
            _ => self.answer_known(messages, answers),
        };
        let mut remembered = 0;
        let mut before = Before::Other;
        let (mut questions_max, mut left_out) = (None, false);
        while let Some(message) = next.take().or_else(|| messages.next()) {
            if let Guest::Failed(refusal) = &guest {
                self.refuse(refusal, message, answers, unsure);
                continue;
            }
            if before.is_like(message)
                && let Some(answer) = answers.last().map(Answer::without_effects)
            {
                self.entry.memo.hit_again();
                remembered += 1;
                answers.push(answer);
                continue;
            }
            if self.entry.rejects_bodies && self.entry.reads.rejects_body(message.readable_bytes()) {
                answers.push(too_long((&self.entry.type_name, self.layer), &self.entry.reads, message));
                before = Before::Other;
                continue;
            }
            let mut remember = self.entry.pure && !self.entry.memo.is_away();
            let mut place = match self.look_up(message, remember) {
                Ok(answer) => {
                    remembered += 1;
                    answers.push(answer);
                    before = Before::remembered(self.entry, message);
                    continue;
                }
                Err(place) => place,
            };
            before = Before::Other;
            if matches!(guest, Guest::NotNeededYet) {
                guest = self.stand_ready_for(message, &mut place, &mut remember)?;
            }
            if let Guest::Failed(refusal) = &guest {
                self.refuse(refusal, message, answers, unsure);
                continue;
            }
            // One is always put.
            if !self.scratch.questions.is_empty()
                && let Guest::Ready(version) = &guest
                && self.scratch.questions.len()
                    >= *questions_max.get_or_insert_with(|| self.questions_max(version))
            {
                // Asked about next time: others have their turn before.
                left_out = true;
                break;
            }
            unsure.note(self.entry, answers.len(), message);
            let is_new = self.scratch.wait(place, answers, remember);
            if is_new && matches!(&guest, Guest::Ready(version) if version.code.takes_messages()) {
                self.scratch.on_hand.push(Arc::new(OwnedMessage::from_view(message)));
            }
        }
        self.counters.remembered += remembered;
        let Guest::Ready(version) = guest else { return Ok(Asked::All) };
        self.ask_in_turn(&version, left_out, answers)
    }

    /// Asks all questions; `left_out` says that there are more messages than could be asked about in one turn.
    fn ask_in_turn(
        &mut self,
        version: &Arc<Version>,
        left_out: bool,
        answers: &mut Vec<Answer>,
    ) -> Result<Asked, Again> {
        let asked = self.ask(version, answers)?;
        if left_out && asked == Asked::All {
            *self.had_its_turn = Some(key_of(self.waker));
            return Ok(Asked::Some);
        }
        Ok(asked)
    }

    /// The guest, for a message that was laid out at a place.
    fn stand_ready_for(
        &mut self,
        message: &MessageView<'_>,
        place: &mut Range<usize>,
        remember: &mut bool,
    ) -> Result<Guest, Again> {
        let generation = self.entry.generation;
        let guest = self.stand_ready()?;
        if self.entry.generation != generation {
            // What the exchange reads may be another thing now.
            self.scratch.projections.truncate(place.start);
            *place = self.scratch.project(self.entry, message);
            *remember = false;
        }
        Ok(guest)
    }

    /// Appends the answer to a message about which the plugin cannot be asked.
    fn refuse<'m, 'b>(
        &mut self,
        refusal: &Refusal,
        message: &'m MessageView<'b>,
        answers: &mut Vec<Answer>,
        unsure: &mut Unsure<'m, 'b>,
    ) {
        self.counters.failed += 1;
        unsure.note(self.entry, answers.len(), message);
        answers.push(self.entry.failed(refusal));
    }

    /// How many questions to put in one turn of the asker: at least one.
    fn questions_max(&self, version: &Version) -> usize {
        match &self.entry.pace {
            None => usize::MAX,
            Some(_) if self.is_handed_over(version) => lane::MESSAGES_MAX,
            Some(pace) => pace.messages_in_turn(),
        }
    }

    /// Asks all questions: here, or in the slow lane.
    fn ask(&mut self, version: &Arc<Version>, answers: &mut Vec<Answer>) -> Result<Asked, Again> {
        if self.scratch.questions.is_empty() {
            return Ok(Asked::All);
        }
        if self.is_handed_over(version) {
            return self.take_or_hand_over(version, answers);
        }
        if *self.had_its_turn == Some(key_of(self.waker)) {
            let cut = self.cut(0, answers, Until::Now);
            if cut.is_err() {
                *self.had_its_turn = None;
            }
            return cut;
        }
        self.ask_guest(version, answers)
    }

    /// The remembered answer, or where the projection of the message lies.
    #[inline]
    fn look_up(&mut self, message: &MessageView<'_>, remember: bool) -> Result<Answer, Range<usize>> {
        let remembers = remember && !self.entry.memo.is_empty();
        if remember && !remembers {
            self.entry.memo.looked_up();
        }
        if remembers && self.entry.key_only {
            if let Some(answer) = self.entry.memo.get(message.routing_key) {
                if self.entry.memo.is_audit_due() {
                    self.entry.audit(self.auditor, self.exchange, message.routing_key);
                }
                return Ok(answer);
            }
            return Err(self.scratch.project(self.entry, message));
        }
        let place = self.scratch.project(self.entry, message);
        if remembers && let Some(answer) = self.entry.memo.get(self.scratch.projection(&place)) {
            if self.entry.memo.is_audit_due() {
                self.entry.audit(self.auditor, self.exchange, self.scratch.projection(&place));
            }
            self.scratch.projections.truncate(place.start);
            return Ok(answer);
        }
        Err(place)
    }

    /// Asks the guest all questions, many in a call; those of a call that failed one by one, on
    /// fresh instances, so that only the message which caused it meets the refusal.
    pub(super) fn ask_guest(
        &mut self,
        version: &Arc<Version>,
        answers: &mut Vec<Answer>,
    ) -> Result<Asked, Again> {
        let (mut asked, mut answered) = (0, 0);
        let mut singly_before = self.handed_over.take_singly(self.waker);
        while asked < self.scratch.questions.len() {
            let generation = self.entry.generation;
            let seen_ready = std::mem::take(&mut self.seen_ready);
            if !seen_ready && self.is_made_beside(version) {
                let singly = singly_before.saturating_sub(asked);
                return self.hand_over(version, asked, answered, singly, 0, answers);
            }
            let home = match seen_ready {
                true => self.homes.there(version, &self.exchange.vhost),
                false => self.homes.at(version, self.exchange, self.layer, generation),
            };
            let home = match home {
                Ok(home) => home,
                Err(not_served) => {
                    let refusal = unavailable(self.exchange, not_served);
                    self.fail(answered, usize::MAX, &refusal, answers);
                    return Ok(Asked::All);
                }
            };
            if !seen_ready && !home.knows(self.exchange.id, self.layer, generation) {
                // Made anew, at a later generation: the questions are not of what it reads.
                return self.cut(answered, answers, Until::Now);
            }
            let count_max = if asked < singly_before { 1 } else { home.messages_per_call_max() };
            let count = self.scratch.fitting(asked, count_max);
            let on_hand = self.scratch.on_hand.get(asked);
            let about = About { exchange: self.exchange, layer: self.layer, on_hand };
            let tally = self.entry.tally.as_ref().filter(|tally| tally.is_timed(count, self.counters.calls));
            let timed = tally.map(|tally| (tally, Instant::now()));
            let hurried = self.lane.is_some();
            let decided = home.route_inline(version, about, self.scratch.bytes(asked, count), count, hurried);
            self.counters.calls += 1;
            if let Some((tally, began)) = timed {
                tally.took(began.elapsed());
            }
            match decided {
                Ok((_, Outcome { in_doubt: Some(cell), .. })) => {
                    return self.cut(answered, answers, Until::Settled(&cell));
                }
                Ok((_, outcome)) if outcome.keeps_message() && self.is_outdated() => {
                    // A binding came meanwhile, and was given what was kept before.
                    return self.cut(answered, answers, Until::Now);
                }
                Ok((decisions, outcome)) => {
                    answered = self.take_over(version, (asked, count), answered, &decisions, true, answers);
                    if let Some(draft) = outcome.draft {
                        self.attach(draft, answered, answers);
                    }
                    asked += count;
                }
                Err(GuestFailure::CutOff(_)) => {
                    return self.hand_over(version, asked, answered, together(count), 0, answers);
                }
                Err(_) if count > 1 => singly_before = asked + count,
                Err(failure) => {
                    asked += 1;
                    let failed = NotServed::Failed(failure.to_string());
                    answered = self.fail(answered, asked, &refusal(self.exchange, failed), answers);
                }
            }
        }
        self.handed_over.leave_singly(self.waker, singly_before.saturating_sub(asked));
        Ok(Asked::All)
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.entry.generation != self.exchange.generation()
    }

    /// Gives up at a waiting answer: what comes before it is answered, the rest is to be asked again;
    /// where nothing comes before, when the waker is called.
    pub(super) fn cut(
        &mut self,
        answered: usize,
        answers: &mut Vec<Answer>,
        until: Until<'_>,
    ) -> Result<Asked, Again> {
        let Some(waiting) = self.scratch.waiting(answered) else {
            return Ok(Asked::All);
        };
        if waiting.answer > self.first_answer {
            answers.truncate(waiting.answer);
            return Ok(Asked::Some);
        }
        match until {
            Until::Settled(cell) => cell.wake_when_settled(self.waker),
            Until::Now => self.waker.wake(),
            Until::Woken => {}
        }
        Err(Again)
    }

    /// Attaches the effects of a call about one message to its answer, the last that was given.
    pub(super) fn attach(&mut self, draft: Box<Draft>, answered: usize, answers: &mut [Answer]) {
        let waiting = answered.checked_sub(1).and_then(|last| self.scratch.waiting(last));
        if let Some(place) = waiting.and_then(|waiting| answers.get_mut(waiting.answer)) {
            let answer = std::mem::replace(place, Answer::OPEN);
            *place = Answer::Effective(Box::new(Effective { answer, effects: draft }));
        }
    }

    /// Turns decisions into answers: those for so many questions from one on, the first of which is for
    /// that waiting answer. Gives the next waiting answer.
    pub(super) fn take_over(
        &mut self,
        version: &Version,
        (first_question, count): (usize, usize),
        mut answered: usize,
        decisions: &Decisions,
        remember: bool,
        answers: &mut [Answer],
    ) -> usize {
        let remember = remember && self.entry.pure && self.entry.memo.takes_any();
        let (mut left, end) = (decisions.iter(), first_question + count);
        let mut next = first_question;
        loop {
            if !remember {
                (next, answered) = self.take_over_known(&mut left, next..end, answered, answers);
            }
            let Some(decision) = left.next().filter(|_| next < end) else { break };
            let question = next;
            next += 1;
            let (kept, answer_bytes) = match self.resolve(version, decision) {
                Ok(resolved) => resolved,
                Err(what) => {
                    let account = self.homes.account_of(version, &self.exchange.vhost);
                    account.bad_answer(format_args!("exchange '{}'", self.exchange.spec.name), what);
                    let refusal = refusal(self.exchange, NotServed::Failed(String::from(what)));
                    answered = self.fail(answered, question + 1, &refusal, answers);
                    continue;
                }
            };
            if remember && let Some(place) = self.scratch.questions.get(question) {
                let projection = self.scratch.projection(place);
                // Alone, the routing key needs no length before it.
                let key = if self.entry.key_only { projection.get(2..) } else { Some(projection) };
                self.entry.memo.insert(key.unwrap_or_default(), &kept, answer_bytes);
            }
            while let Some(waiting) = self.scratch.waiting(answered).filter(|w| w.question == question) {
                if let Some(place) = answers.get_mut(waiting.answer) {
                    *place = kept.answer();
                }
                answered += 1;
                self.counters.asked += 1;
            }
        }
        if !self.entry.memo.charge_beside(self.entry.sets.bytes()) {
            self.entry.sets.forget();
        }
        answered
    }

    /// The same for the decisions in front that are for bindings of which it is known where they lead, where nothing is
    /// remembered. Gives the next question and the next waiting answer.
    fn take_over_known(
        &mut self,
        left: &mut DecisionsLeft<'_>,
        questions: Range<usize>,
        first_answered: usize,
        answers: &mut [Answer],
    ) -> (usize, usize) {
        if let Some(places) = self.scratch.in_order(&questions, answers) {
            let mut count = 0;
            for place in places {
                let Some((ids, rest)) = left.split_few() else { break };
                let Some(routes) = self.entry.sets.known(ids) else { break };
                *place = Answer::Deliver(routes.clone());
                (*left, count) = (rest, count + 1);
            }
            self.counters.asked += count as u64;
            return (questions.start + count, first_answered + count);
        }
        let (mut question, mut answered) = (questions.start, first_answered);
        while question < questions.end
            && let Some((ids, rest)) = left.split_few()
            && let Some(routes) = self.entry.sets.known(ids)
        {
            while let Some(waiting) = self.scratch.waiting(answered).filter(|w| w.question == question) {
                if let Some(place) = answers.get_mut(waiting.answer) {
                    *place = Answer::Deliver(routes.clone());
                }
                answered += 1;
            }
            (*left, question) = (rest, question + 1);
        }
        self.counters.asked += (answered - first_answered) as u64;
        (question, answered)
    }

    /// What is kept for a decision, and what that takes, in bytes.
    ///
    /// # Errors
    /// Why it is none, for people to read.
    fn resolve(&mut self, version: &Version, decision: Decision<'_>) -> Result<(Kept, usize), &'static str> {
        Ok(match decision {
            Decision::Deliver(ids) => {
                let resolved = self.entry.sets.resolve(self.exchange, ids);
                if resolved.dead > 0 {
                    self.counters.dead_ids += resolved.dead as u64;
                    version.dead_ids.fetch_add(resolved.dead as u64, Ordering::Relaxed);
                }
                (resolved.kept, resolved.new_bytes)
            }
            Decision::Drop(None) => (Kept::Drop(None, self.layer), 0),
            Decision::Drop(Some(reason)) => {
                let bytes = reason.len() + 64;
                (Kept::Drop(Some(Rc::new(reason)), self.layer), bytes)
            }
            Decision::Reject(reason) => {
                let account = self.homes.account_of(version, &self.exchange.vhost);
                account.log_rejection(format_args!("exchange '{}'", self.exchange.spec.name), &reason);
                let bytes = reason.len() + 64;
                (Kept::Reject(Rc::new(reason), self.layer), bytes)
            }
            Decision::Delegate => (Kept::Hold(0, behind(self.exchange, self.layer)?), 0),
            Decision::Hold(_) if !self.entry.may_hold => return Err("it needs the grant 'hold'"),
            Decision::Hold(delay_ms) => (Kept::Hold(delay_ms, behind(self.exchange, self.layer)?), 0),
        })
    }

    /// Answers what waits for questions before `question_end` with a refusal. Gives the next
    /// waiting answer.
    pub(super) fn fail(
        &mut self,
        mut answered: usize,
        question_end: usize,
        refusal: &Refusal,
        answers: &mut [Answer],
    ) -> usize {
        while let Some(waiting) = self.scratch.waiting(answered).filter(|w| w.question < question_end) {
            if let Some(place) = answers.get_mut(waiting.answer) {
                *place = self.entry.failed(refusal);
            }
            answered += 1;
            self.counters.failed += 1;
        }
        answered
    }
}

/// How many are to be asked about one by one where a call about so many was cut off.
pub(super) fn together(count: usize) -> usize {
    if count > 1 { count } else { 0 }
}

/// The type behind the one at that layer.
pub(crate) fn behind(exchange: &Exchange, layer: Layer) -> Result<Layer, &'static str> {
    let next = layer.0.saturating_add(1);
    let there = exchange.types().get(usize::from(next));
    there.map(|_| Layer(next)).ok_or("it leaves the decision to a type behind it, and there is none")
}

/// The answer to a message whose body is longer than the type takes.
pub(crate) fn too_long(
    (type_name, layer): (&Name, Layer),
    reads: &Reads,
    message: &MessageView<'_>,
) -> Answer {
    let (bytes, bytes_max) = (message.body_bytes(), reads.body.map_or(0, |body| body.bytes_max));
    let reason = format!("a body of {bytes} bytes; the type '{type_name}' takes {bytes_max}");
    Answer::Reject(reason.into(), layer)
}
