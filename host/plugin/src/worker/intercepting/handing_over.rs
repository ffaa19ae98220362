//! Questions to interceptors that a worker hands over to the slow lane, as those to exchange types are
//! (`worker/handing_over.rs`).

use super::{
    super::{
        asking::{Until, key_of},
        handing_over::{Asking as About, HandedOver, Whom},
    },
    Asking, Later, failed,
    seats::Seat,
    unavailable,
};
use crate::{
    attachment::Attachment,
    lane::{self, Answered, End, Part, Question, Said, Subject, Unanswered},
    version::Version,
    worker::NotServed,
};
use leveret_broker::{
    exchange::Generation,
    port::{Ruling, Wake},
};
use std::sync::Arc;

/// Whether a question is to that version.
fn is_to(question: &Question, version: &Version) -> bool {
    question.version.id == version.id
}

fn whom(attachment: &Attachment) -> Whom {
    Whom::Attachment(attachment.id)
}

/// Whether an attachment is asked elsewhere: its plugin is slow, or this asker has an answer coming. `None` if
/// this worker hands nothing over.
pub(super) fn is_handed_over(
    handed_over: Option<&HandedOver>,
    seat: &Seat,
    attachment: &Attachment,
    version: &Version,
    waker: &Arc<dyn Wake>,
) -> bool {
    let Some(handed_over) = handed_over else { return false };
    seat.is_slow()
        || handed_over.any(waker)
            && handed_over.find(waker, whom(attachment), |question| is_to(question, version)).is_some()
}

impl Seat {
    /// How many questions to put in one turn of the asker.
    pub(super) fn questions_max(&self, handed_over: bool) -> usize {
        match self.pace() {
            None => usize::MAX,
            Some(_) if handed_over => lane::MESSAGES_MAX,
            Some(pace) => pace.messages_in_turn(),
        }
    }
}

impl Asking<'_> {
    /// Asks all questions: here, or in the slow lane.
    pub(super) fn begin(&mut self, rulings: &mut Vec<Ruling>) -> Result<(), Later> {
        let worker = &mut *self.worker;
        let Some(seat) = worker.interceptors.seat_there(self.at) else { return Ok(()) };
        if seat.scratch.questions.is_empty() {
            return Ok(());
        }
        let handed_over = worker.lane.is_some().then_some(&worker.handed_over);
        if is_handed_over(handed_over, seat, self.attachment, self.version, self.waker) {
            return self.take_or_hand_over(rulings);
        }
        if worker.had_its_turn == Some(key_of(self.waker)) {
            let pending = seat.scratch.waiting.first().is_some_and(|(ruling, _)| *ruling == self.first);
            if pending {
                worker.had_its_turn = None;
            }
            return self.cut(0, Until::Now, rulings);
        }
        self.ask(rulings)
    }

    /// Takes what the lane answered to the first questions; what it was not asked yet is handed over.
    fn take_or_hand_over(&mut self, rulings: &mut Vec<Ruling>) -> Result<(), Later> {
        let (attachment, version) = (self.attachment, self.version);
        let worker = &mut *self.worker;
        let Some(seat) = worker.interceptors.seat_there(self.at) else { return Ok(()) };
        let listed = seat.scratch.listed();
        let found = worker.handed_over.find(self.waker, whom(attachment), |question| {
            is_to(question, version) && question.reads == seat.reads && listed.is_same(0, question, 0)
        });
        let Some(asked) = found else {
            if seat.is_slow() {
                let singly = worker.handed_over.take_singly(self.waker);
                return self.hand_over(0, 0, singly, rulings);
            }
            // Whatever it waited for, it asks about something else now.
            worker.handed_over.remove(self.waker, whom(attachment), |asked| is_to(&asked.question, version));
            return self.ask(rulings);
        };
        if !asked.is_done() {
            return self.cut(0, Until::Woken, rulings);
        }
        worker.handed_over.remove(self.waker, whom(attachment), |other| Arc::ptr_eq(other, &asked));
        match asked.take() {
            Some(answered) => self.take(&asked.question, answered, rulings),
            None => self.hand_over(0, 0, asked.question.singly, rulings),
        }
    }

    /// Makes rulings of what the lane said.
    fn take(
        &mut self,
        question: &Question,
        answered: Answered,
        rulings: &mut Vec<Ruling>,
    ) -> Result<(), Later> {
        let (mut asked, mut given) = (0, 0);
        for Part { count, said, .. } in answered.parts {
            let worker = &mut *self.worker;
            let Some(seat) = worker.interceptors.seat_there(self.at) else { return Ok(()) };
            let same = seat.scratch.listed().same_as(asked, question, asked, count);
            worker.counters.calls += 1;
            match said {
                Ok((Said::Verdicts(verdicts), draft)) => {
                    let verdicts = verdicts.get(..same).unwrap_or_default();
                    self.take_over(asked, verdicts, draft, &mut given, rulings);
                }
                Ok((Said::Decisions(_), _)) => break,
                Err(Unanswered::Failed(why)) => {
                    self.fail(asked + same, |attachment| failed(attachment, &why), &mut given, rulings);
                }
                Err(Unanswered::NotServed(not_served)) => {
                    let why = seat.not_served(not_served);
                    self.fail(asked + same, |attachment| unavailable(attachment, &why), &mut given, rulings);
                }
            }
            asked += same;
            if same < count {
                break;
            }
        }
        let Some(seat) = self.worker.interceptors.seat_there(self.at) else { return Ok(()) };
        if asked >= seat.scratch.questions.len() {
            self.worker.handed_over.leave_singly(self.waker, answered.singly);
            return Ok(());
        }
        match answered.end {
            // Else the one that a call about many failed at would be among many again.
            End::Turn if asked > 0 && answered.singly > 0 => {
                self.hand_over(asked, given, answered.singly, rulings)
            }
            _ if asked > 0 => self.cut(given, Until::Woken, rulings),
            End::InDoubt(cell) => self.cut(given, Until::Settled(&cell), rulings),
            End::Outdated(reads) => {
                // A fresh instance reads something else.
                match reads {
                    Some(reads) => seat.learn(self.version, self.attachment, reads),
                    None => seat.forget(),
                }
                self.cut(given, Until::Now, rulings)
            }
            End::Turn => self.hand_over(0, 0, answered.singly, rulings),
        }
    }

    /// Hands questions over, from that one and that waiting ruling on.
    pub(super) fn hand_over(
        &mut self,
        first: usize,
        answered: usize,
        singly: usize,
        rulings: &mut Vec<Ruling>,
    ) -> Result<(), Later> {
        let (attachment, version) = (self.attachment, self.version);
        let worker = &mut *self.worker;
        let Some(seat) = worker.interceptors.seat_there(self.at) else { return Ok(()) };
        if let Some(why) = seat.pace().and_then(|pace| pace.aside(version.id)) {
            let why = seat.not_served(NotServed::Failed(why));
            let ruling = |attachment: &Attachment| unavailable(attachment, &why);
            self.fail(usize::MAX, ruling, &mut { answered }, rulings);
            return Ok(());
        }
        let about = About {
            version,
            vhost: &attachment.vhost,
            subject: Subject::Attachment(attachment.clone()),
            generation: Generation::default(),
            reads: &seat.reads,
            singly,
            tries: 0,
        };
        let count = seat.scratch.fitting(first, lane::MESSAGES_MAX);
        let question = seat.scratch.listed().question(first, count, about);
        if let Some(asked) = worker.lane.as_ref().and_then(|lane| lane.ask(question, self.waker)) {
            worker.handed_over.note(self.waker, asked, &worker.registry);
        }
        self.cut(answered, Until::Woken, rulings)
    }
}
