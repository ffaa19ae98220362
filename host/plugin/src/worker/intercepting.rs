//! The path of a batch of messages past one attachment: remembered verdicts, and one question to the
//! guest for many that are not.
//!
//! It is the path of `asking.rs` without bindings: what an attachment is does not change, so verdicts
//! are those of a version of the plugin, and are forgotten when another one provides the
//! interceptor. A message about which the interceptor cannot be asked meets the failure policy of the
//! attachment. On deliver it waits instead while no plugin provides the interceptor, unless the
//! operator chose otherwise: nothing is lost then for want of a plugin.

mod explain;
mod handing_over;
mod objecting;
mod seats;

pub(super) use seats::Interceptors;
use seats::{Fault, NotReady};

use super::{
    Worker,
    asking::{Until, key_of, together},
    handing_over::Listed,
    homes::NotServed,
};
use crate::{
    attachment::{Attachment, AttachmentRule, AttachmentUse},
    capability::{Draft, Outcome},
    guest::{AttachmentPoint, GuestFailure, Verdict},
    policy::FailurePolicy,
    version::Version,
};
use leveret_broker::port::{Effects, Intercepted, Routed, Ruling, Site, Wake};
use leveret_model::{MessageView, OwnedMessage, Patch, Place, Reads, Value};
use std::{ops::Range, sync::Arc};

/// The most bytes of projections in one call, unless a single message has more.
const CALL_BYTES_MAX: usize = 256 * 1024;
/// The most bytes of a patch without the body.
const PATCH_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the length before each projection.
const LENGTH_BYTES: usize = 4;

/// Buffers that are used again for each batch.
#[derive(Default)]
struct Scratch {
    /// Projections back to back, each after its length.
    projections: Vec<u8>,
    /// Where each projection that the guest is asked about lies, its length included.
    questions: Vec<Range<usize>>,
    /// Which ruling waits for which question, in the order of both.
    waiting: Vec<(usize, usize)>,
    /// The message of each question, where the plugin may take it.
    on_hand: Vec<Arc<OwnedMessage>>,
}

/// The rest of a batch is to be asked again later.
struct Later;

/// The message's place, and what it is called at that point.
fn place_of(site: Site<'_>) -> Place<'_> {
    match site {
        Site::Publish { .. } => Place::default(),
        Site::Deliver { queue, .. } => Place { queue, reason: "" },
        Site::DeadLetter { queue, reason, .. } => Place { queue, reason: reason.as_str() },
    }
}

impl Worker {
    /// Asks the attachment of that number at a place; see
    /// [`Router::intercept`](leveret_broker::port::Router::intercept).
    pub(super) fn intercept_at(
        &mut self,
        site: Site<'_>,
        number: usize,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        rulings: &mut Vec<Ruling>,
        waker: &Arc<dyn Wake>,
    ) -> Routed {
        self.sweep_if_worth_it();
        let Some(at) = self.interceptors.chain(site).get(number).copied() else {
            rulings.extend(messages.map(|_| Ruling::Said(Intercepted::Continue, None)));
            return Routed::Ready;
        };
        let first = rulings.len();
        match self.judge(at, place_of(site), messages, rulings, waker) {
            Ok(()) => Routed::Ready,
            Err(Later) if rulings.len() > first => Routed::Cut,
            Err(Later) => Routed::Pending,
        }
    }

    /// Appends a ruling for each message, and counts them.
    fn judge(
        &mut self,
        at: usize,
        place: Place<'_>,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        rulings: &mut Vec<Ruling>,
        waker: &Arc<dyn Wake>,
    ) -> Result<(), Later> {
        let (first, before) = (rulings.len(), self.counters);
        let judged = self.judge_uncounted(at, place, messages, rulings, waker);
        if let Some((attachment, _)) = self.interceptors.seat(at) {
            let now = self.counters;
            let more = AttachmentUse {
                remembered: now.remembered - before.remembered,
                asked: now.asked - before.asked,
                calls: now.calls - before.calls,
                failed: now.failed - before.failed,
                ..AttachmentUse::default()
            };
            attachment.counts.add(more, rulings.get(first..).unwrap_or_default());
        }
        judged
    }

    fn judge_uncounted(
        &mut self,
        at: usize,
        place: Place<'_>,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        rulings: &mut Vec<Ruling>,
        waker: &Arc<dyn Wake>,
    ) -> Result<(), Later> {
        let first = rulings.len();
        let Some((attachment, seat)) = self.interceptors.seat(at) else {
            rulings.extend(messages.map(|_| Ruling::Said(Intercepted::Continue, None)));
            return Ok(());
        };
        let beside = self.lane.is_some().then_some(waker);
        let version = match seat.stand_ready(&attachment, &self.registry, &mut self.homes, beside) {
            Ok(version) => version,
            Err(NotReady::NotYet) => return Err(Later),
            Err(NotReady::Cannot(why)) => {
                if seat.is_vacant() && waits(&attachment) {
                    self.registry.wake_when_interceptors_change(seat.generation(), waker);
                    return Err(Later);
                }
                self.counters.failed +=
                    messages.map(|_| rulings.push(unavailable(&attachment, &why))).count() as u64;
                return Ok(());
            }
        };
        seat.scratch.clear();
        let (mut remembered, mut questions_max, mut left_out) = (0, None, false);
        for message in messages {
            if seat.reads.rejects_body(message.readable_bytes()) {
                rulings.push(too_long(&attachment, seat.reads.body.map_or(0, |b| b.bytes_max), message));
                continue;
            }
            let projection = seat.scratch.project(&seat.reads, place, message);
            let remember = seat.pure && !seat.memo.is_away();
            if remember && let Some(ruling) = seat.remembered(&projection) {
                rulings.push(ruling);
                remembered += 1;
                continue;
            }
            let max = *questions_max.get_or_insert_with(|| {
                seat.questions_max(handing_over::is_handed_over(
                    self.lane.is_some().then_some(&self.handed_over),
                    seat,
                    &attachment,
                    &version,
                    waker,
                ))
            });
            if seat.scratch.questions.len() >= max {
                // Asked about next time: others have their turn before.
                left_out = true;
                break;
            }
            let is_new = seat.scratch.wait(projection, rulings.len(), remember);
            // Replaced when the guest has answered.
            rulings.push(Ruling::Said(Intercepted::Continue, None));
            if is_new && version.code.takes_messages() {
                seat.scratch.on_hand.push(Arc::new(OwnedMessage::from_view(message)));
            }
        }
        self.counters.remembered += remembered;
        let mut asking =
            Asking { worker: self, at, attachment: &attachment, version: &version, first, waker };
        asking.begin(rulings)?;
        if left_out {
            self.had_its_turn = Some(key_of(waker));
            return Err(Later);
        }
        Ok(())
    }
}

/// A batch whose questions are put to the guest.
struct Asking<'a> {
    worker: &'a mut Worker,
    at: usize,
    attachment: &'a Arc<Attachment>,
    version: &'a Arc<Version>,
    /// Where the rulings of this batch begin.
    first: usize,
    waker: &'a Arc<dyn Wake>,
}

impl Asking<'_> {
    /// Asks all questions, many in a call; those of a call that failed one by one, on fresh instances.
    fn ask(&mut self, rulings: &mut Vec<Ruling>) -> Result<(), Later> {
        let (mut asked, mut answered) = (0, 0);
        let mut singly_before = self.worker.handed_over.take_singly(self.waker);
        loop {
            let Worker { interceptors, homes, counters, lane, handed_over, .. } = &mut *self.worker;
            let Some(seat) = interceptors.seat_there(self.at) else { return Ok(()) };
            if asked >= seat.scratch.questions.len() {
                handed_over.leave_singly(self.waker, singly_before.saturating_sub(asked));
                return Ok(());
            }
            let beside = lane.is_some().then_some(self.waker);
            let home = match homes.attached(self.version, self.attachment, beside) {
                Ok(home) => home,
                // It has no instance here any more: what is left is asked in the lane.
                Err(NotServed::Pending) => {
                    return self.hand_over(asked, answered, singly_before.saturating_sub(asked), rulings);
                }
                Err(not_served) => {
                    let why = seat.not_served(not_served);
                    let ruling = |attachment: &Attachment| unavailable(attachment, &why);
                    self.fail(usize::MAX, ruling, &mut answered, rulings);
                    return Ok(());
                }
            };
            let replica = home.replica_there();
            if replica.and_then(|replica| replica.attached_reads(self.attachment.id)) != Some(&seat.reads) {
                // A fresh instance reads something else: the questions are not what it wants to know.
                seat.forget();
                return self.cut(answered, Until::Now, rulings);
            }
            let count_max =
                if asked < singly_before { 1 } else { replica.map_or(1, |r| r.verdicts_per_call_max()) };
            let count = seat.scratch.fitting(asked, count_max);
            let on_hand = seat.scratch.on_hand.get(asked);
            let bytes = seat.scratch.bytes(asked, count);
            let (version, hurried) = (self.version, lane.is_some());
            let judged = home.intercept_inline(version, self.attachment, on_hand, bytes, count, hurried);
            counters.calls += 1;
            match judged {
                Ok((_, Outcome { in_doubt: Some(cell), .. })) => {
                    return self.cut(answered, Until::Settled(&cell), rulings);
                }
                Ok((verdicts, outcome)) => {
                    self.take_over(asked, &verdicts, outcome.draft, &mut answered, rulings);
                    asked += count;
                }
                Err(GuestFailure::CutOff(_)) => {
                    return self.hand_over(asked, answered, together(count), rulings);
                }
                Err(_) if count > 1 => singly_before = asked + count,
                Err(failure) => {
                    asked += 1;
                    let why = failure.to_string();
                    self.fail(asked, |attachment| failed(attachment, &why), &mut answered, rulings);
                }
            }
        }
    }

    /// Turns verdicts into rulings, from that question and that waiting ruling on.
    fn take_over(
        &mut self,
        first_question: usize,
        verdicts: &[Verdict],
        draft: Option<Box<Draft>>,
        answered: &mut usize,
        rulings: &mut [Ruling],
    ) {
        let mut effects = draft.map(|draft| draft as Box<dyn Effects>);
        for (question, verdict) in (first_question..).zip(verdicts) {
            let Some(seat) = self.worker.interceptors.seat_there(self.at) else { return };
            if let Some(fault) = seat.fault_of(verdict, self.worker.services.form.map(|form| form as _)) {
                seat.count_fault(self.attachment, &fault);
                let ruling = |attachment: &Attachment| fault_ruling(attachment, &fault);
                self.fail(question + 1, ruling, answered, rulings);
                continue;
            }
            seat.log_rejection(self.attachment, verdict);
            if seat.pure
                && let Some(place) = seat.scratch.questions.get(question)
            {
                seat.memo.put(seat.scratch.projection(place), verdict, bytes_of(verdict));
            }
            while let Some((ruling, _)) = seat.scratch.waiting_for(*answered, question) {
                seat.count(verdict);
                if let Some(place) = rulings.get_mut(ruling) {
                    *place = Ruling::Said(said(verdict), effects.take());
                }
                *answered += 1;
                self.worker.counters.asked += 1;
            }
        }
    }

    /// Has what waits for questions before `question_end` meet the failure policy.
    fn fail(
        &mut self,
        question_end: usize,
        ruling: impl Fn(&Attachment) -> Ruling,
        answered: &mut usize,
        rulings: &mut [Ruling],
    ) {
        let Worker { interceptors, counters, .. } = &mut *self.worker;
        let Some(seat) = interceptors.seat_there(self.at) else { return };
        while let Some((at, question)) = seat.scratch.waiting.get(*answered).copied() {
            if question >= question_end {
                return;
            }
            if let Some(place) = rulings.get_mut(at) {
                *place = ruling(self.attachment);
            }
            *answered += 1;
            counters.failed += 1;
        }
    }

    /// Gives up at a waiting ruling: what comes before it stands, the rest is to be asked again.
    fn cut(&mut self, answered: usize, until: Until<'_>, rulings: &mut Vec<Ruling>) -> Result<(), Later> {
        let Some(seat) = self.worker.interceptors.seat_there(self.at) else { return Err(Later) };
        let Some((ruling, _)) = seat.scratch.waiting.get(answered) else { return Ok(()) };
        rulings.truncate(*ruling);
        if *ruling == self.first {
            match until {
                Until::Settled(cell) => cell.wake_when_settled(self.waker),
                Until::Now => self.waker.wake(),
                Until::Woken => {}
            }
        }
        Err(Later)
    }
}

impl Scratch {
    fn clear(&mut self) {
        self.projections.clear();
        self.questions.clear();
        self.waiting.clear();
        self.on_hand.clear();
    }

    /// Appends the projection of a message.
    fn project(&mut self, reads: &Reads, place: Place<'_>, message: &MessageView<'_>) -> Range<usize> {
        let start = self.projections.len();
        self.projections.extend_from_slice(&[0; LENGTH_BYTES]);
        message.project_at(reads, place, &mut self.projections);
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

    /// Lets a ruling wait for this projection's verdict; where it is to be remembered and like the one
    /// before, for that one's. Gives whether it is a new question.
    fn wait(&mut self, place: Range<usize>, ruling: usize, remember: bool) -> bool {
        let same =
            |last: &Range<usize>| self.projections.get(last.clone()) == self.projections.get(place.clone());
        let repeated = remember && self.questions.last().is_some_and(same);
        if repeated {
            self.projections.truncate(place.start);
        } else {
            self.questions.push(place);
        }
        self.waiting.push((ruling, self.questions.len() - 1));
        !repeated
    }

    /// The questions, for whoever compares and copies them.
    fn listed(&self) -> Listed<'_> {
        Listed { projections: &self.projections, questions: &self.questions, on_hand: &self.on_hand }
    }

    /// The waiting ruling of that number, if it waits for that question.
    fn waiting_for(&self, number: usize, question: usize) -> Option<(usize, usize)> {
        self.waiting.get(number).copied().filter(|(_, waits_for)| *waits_for == question)
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

/// Whether messages wait while no plugin provides the interceptor: they are safe in their queue.
fn waits(attachment: &Attachment) -> bool {
    attachment.rule.point == AttachmentPoint::Deliver && attachment.rule.on_failure == FailurePolicy::Reject
}

/// The ruling on a message that the interceptor failed on.
fn failed(attachment: &Attachment, why: &str) -> Ruling {
    match attachment.rule.on_failure {
        FailurePolicy::Bypass => Ruling::Said(Intercepted::Continue, None),
        FailurePolicy::Unroutable => Ruling::Unroutable,
        FailurePolicy::Reject | FailurePolicy::DeadLetter | FailurePolicy::Fallback(_) => {
            let name = &attachment.rule.interceptor;
            Ruling::Said(Intercepted::Reject(format!("the interceptor '{name}': {why}").into()), None)
        }
    }
}

/// The ruling on a message for which the interceptor's verdict cannot be taken.
fn fault_ruling(attachment: &Attachment, fault: &Fault) -> Ruling {
    match fault {
        Fault::NotGranted(why) => unavailable(attachment, why),
        Fault::Wrong(why) => failed(attachment, why),
    }
}

/// The ruling on messages while the interceptor cannot be asked.
fn unavailable(attachment: &Attachment, why: &str) -> Ruling {
    let AttachmentRule { point, on_failure, .. } = &*attachment.rule;
    // Else what was never looked at would be gone from a queue without dead-letter exchange.
    let rejects = (*point, on_failure) == (AttachmentPoint::Deliver, &FailurePolicy::DeadLetter);
    match failed(attachment, why) {
        Ruling::Said(Intercepted::Reject(reason), _) if !rejects => Ruling::Unavailable(reason),
        ruling => ruling,
    }
}

fn too_long(attachment: &Attachment, bytes_max: u32, message: &MessageView<'_>) -> Ruling {
    let (name, bytes) = (&attachment.rule.interceptor, message.body_bytes());
    let why = format!("a body of {bytes} bytes; the interceptor '{name}' takes {bytes_max}");
    Ruling::Said(Intercepted::Reject(why.into()), None)
}

fn said(verdict: &Verdict) -> Intercepted {
    match verdict {
        Verdict::Pass => Intercepted::Continue,
        Verdict::Patch(patch) => Intercepted::Patch(patch.clone()),
        Verdict::Drop(_) => Intercepted::Drop,
        Verdict::Reject(reason) => Intercepted::Reject(reason.clone()),
    }
}

/// What a verdict takes where it is remembered, about, in bytes.
fn bytes_of(verdict: &Verdict) -> usize {
    const CHANGE_BYTES: usize = 96;
    match verdict {
        Verdict::Pass | Verdict::Drop(None) => 0,
        Verdict::Drop(Some(reason)) | Verdict::Reject(reason) => reason.len() + 32,
        Verdict::Patch(patch) => {
            let changes = patch.headers().len() + patch.properties().len() + 2;
            CHANGE_BYTES * changes + bytes_without_body(patch) + patch.body().map_or(0, |body| body.len())
        }
    }
}

/// The bytes of names and values in a patch.
fn bytes_without_body(patch: &Patch) -> usize {
    let headers = patch.headers().iter();
    let headers = headers.map(|change| change.name.len() + change.value.as_ref().map_or(0, value_bytes));
    let properties = patch.properties().iter().map(|(_, value)| value.as_ref().map_or(0, value_bytes));
    headers.chain(properties).sum()
}

/// The bytes of a value, about: what is no text counts eight.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Binary(bytes) => bytes.len(),
        Value::List(values) => values.iter().map(value_bytes).sum(),
        Value::Map(fields) => fields.iter().map(|(key, value)| value_bytes(key) + value_bytes(value)).sum(),
        _ => 8,
    }
}
