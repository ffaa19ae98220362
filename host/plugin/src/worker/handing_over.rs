//! Questions that a worker hands over to the slow lane, and the answers that it takes from there.
//!
//! A question is its asker's: the waker says whose. When it was woken it asks about the same messages
//! again, and finds the answer by what the projections and the messages are. An answer of another version
//! is not used; one of an older generation neither, but where bindings change faster than the plugin
//! answers: after [`TRIES_MAX`] tries an answer counts that is of no older generation than the message
//! was first asked about with, and it is not remembered.

use super::{
    asking::{Again, Asked, Batch, Until, key_of},
    homes::NotServed,
    refusal,
    shelf::Shelf,
    unavailable,
};
use crate::{
    lane::{self, Answered, End, Part, Question, Said, Subject, Unanswered},
    registry::Registry,
    version::Version,
};
use hashbrown::HashMap;
use leveret_broker::{
    exchange::{ExchangeId, Generation},
    port::{Answer, Layer, Wake},
};
use leveret_model::{Name, OwnedMessage, Reads};
use std::{ops::Range, sync::Arc};

/// How often bindings may have changed in between before an older answer counts.
const TRIES_MAX: u32 = 3;
/// How many questions of one asker there are on a worker; the oldest is given up then. Whoever publishes what is
/// held or emitted in a virtual host has one for each exchange that waits.
const OF_ASKER_MAX: usize = 1_024;

/// The questions of a worker that are in the lane, by their askers' wakers.
#[derive(Default)]
pub(super) struct HandedOver {
    questions: ByAsker<Shelf<Whom, Arc<lane::Asked>>>,
    /// Of the next messages of an asker so many were among those that a call failed at: each is to be asked
    /// about alone, for the one that it was is among them.
    singly: ByAsker<usize>,
}

type ByAsker<T> = HashMap<usize, T, foldhash::fast::RandomState>;

impl HandedOver {
    /// Whether an asker has any.
    #[inline]
    pub(super) fn any(&self, waker: &Arc<dyn Wake>) -> bool {
        !self.questions.is_empty() && self.questions.contains_key(&key_of(waker))
    }

    /// An asker asks no more.
    pub(super) fn forget(&mut self, waker: &Arc<dyn Wake>) {
        if !self.questions.is_empty() {
            self.questions.remove(&key_of(waker));
        }
        self.take_singly(waker);
    }

    /// How many of an asker's next messages are to be asked about alone.
    #[inline]
    pub(super) fn take_singly(&mut self, waker: &Arc<dyn Wake>) -> usize {
        if self.singly.is_empty() {
            return 0;
        }
        self.singly.remove(&key_of(waker)).unwrap_or(0)
    }

    /// Notes how many of an asker's next messages are to be asked about alone.
    #[inline]
    pub(super) fn leave_singly(&mut self, waker: &Arc<dyn Wake>, count: usize) {
        if count > 0 {
            self.singly.insert(key_of(waker), count);
        }
    }

    /// Notes a question of an asker. Those to versions that serve no more go.
    pub(super) fn note(&mut self, waker: &Arc<dyn Wake>, asked: Arc<lane::Asked>, registry: &Registry) {
        let of_asker = self.questions.entry(key_of(waker)).or_default();
        let serves = |asked: &Arc<lane::Asked>| registry.serves(asked.question.version.id);
        of_asker.note(asked.question.whom(), asked, OF_ASKER_MAX, serves);
    }

    /// The question of an asker to somebody for which that holds.
    pub(super) fn find(
        &self,
        waker: &Arc<dyn Wake>,
        whom: Whom,
        is_it: impl Fn(&Question) -> bool,
    ) -> Option<Arc<lane::Asked>> {
        let mut to_it = self.questions.get(&key_of(waker))?.about(&whom);
        to_it.find(|asked| asked.is_of(waker) && is_it(&asked.question)).cloned()
    }

    /// Lets go of the questions of an asker to somebody for which that holds.
    pub(super) fn remove(
        &mut self,
        waker: &Arc<dyn Wake>,
        whom: Whom,
        is_it: impl Fn(&Arc<lane::Asked>) -> bool,
    ) {
        let key = key_of(waker);
        if let Some(of_asker) = self.questions.get_mut(&key) {
            of_asker.remove(&whom, is_it);
            if of_asker.is_empty() {
                self.questions.remove(&key);
            }
        }
    }
}

/// Whom a question is put to, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whom {
    /// A type of an exchange.
    Exchange(ExchangeId, Layer),
    /// An attachment.
    Attachment(u64),
}

impl Question {
    fn whom(&self) -> Whom {
        match &self.subject {
            Subject::Exchange(exchange, layer) => Whom::Exchange(exchange.id, *layer),
            Subject::Attachment(attachment) => Whom::Attachment(attachment.id),
        }
    }
}

impl Batch<'_> {
    /// Whether questions are put to the guest elsewhere: it is slow, or this asker has an answer coming.
    pub(super) fn is_handed_over(&self, version: &Version) -> bool {
        let is_it = |question: &Question| question.version.id == version.id;
        self.is_slow(version)
            || self.handed_over.any(self.waker)
                && self.handed_over.find(self.waker, self.whom(), is_it).is_some()
    }

    fn whom(&self) -> Whom {
        Whom::Exchange(self.exchange.id, self.layer)
    }

    /// Whether the plugin is asked in the lane. What is in the only instance of one is lost with it, so no
    /// call of that is to be cut off: it is always asked there.
    pub(super) fn is_slow(&self, version: &Version) -> bool {
        self.lane.is_some()
            && self.entry.pace.as_ref().is_some_and(|pace| pace.is_slow() || version.single_writer)
    }

    /// Whether there is no instance here that knows the exchange, and none is to be started while others wait:
    /// what is left of a batch is asked in the lane then. (A version on trial is withdrawn after a few failures.)
    pub(super) fn is_made_beside(&self, version: &Version) -> bool {
        self.lane.is_some()
            && !version.code.builtin
            && !version.on_trial
            && !self.homes.know(version, self.exchange, self.layer, self.entry.generation)
    }

    /// Takes what the lane answered to the first questions; what it was not asked yet is handed over.
    pub(super) fn take_or_hand_over(
        &mut self,
        version: &Arc<Version>,
        answers: &mut Vec<Answer>,
    ) -> Result<Asked, Again> {
        let (whom, listed) = (self.whom(), self.scratch.listed());
        let found = self.handed_over.find(self.waker, whom, |question| {
            question.version.id == version.id && listed.is_same(0, question, 0)
        });
        let Some(asked) = found else {
            let registry = self.registry;
            self.handed_over.remove(self.waker, whom, |asked| !registry.serves(asked.question.version.id));
            if self.is_slow(version) {
                let singly = self.handed_over.take_singly(self.waker);
                return self.hand_over(version, 0, 0, singly, 0, answers);
            }
            // Whatever it waited for, it asks about something else now.
            self.handed_over.remove(self.waker, whom, |_| true);
            return self.ask_guest(version, answers);
        };
        if !asked.is_done() {
            return self.cut(0, answers, Until::Woken);
        }
        self.handed_over.remove(self.waker, whom, |other| Arc::ptr_eq(other, &asked));
        let question = &asked.question;
        let tries = question.tries + 1;
        let answered = asked.take();
        if let Some(Answered { generation, end: End::Outdated(Some(reads)), parts, .. }) = &answered
            && parts.is_empty()
        {
            // Asked again at once, with what it reads.
            self.entry.learn(version, self.exchange, *generation, reads.clone());
            return self.cut(0, answers, Until::Now);
        }
        let answered = answered.filter(|answered| {
            let (of, mine) = (answered.generation, self.entry.generation);
            of == mine || (tries > TRIES_MAX && of >= question.generation)
        });
        match answered {
            Some(answered) => self.take(version, question, answered, tries, answers),
            None => self.hand_over(version, 0, 0, question.singly, tries, answers),
        }
    }

    /// Makes answers of what the lane said.
    fn take(
        &mut self,
        version: &Arc<Version>,
        question: &Question,
        answered: Answered,
        tries: u32,
        answers: &mut Vec<Answer>,
    ) -> Result<Asked, Again> {
        let Answered { generation, parts, end, singly } = answered;
        let (mut asked, mut given) = (0, 0);
        for Part { count, took, said } in parts {
            let same = self.scratch.listed().same_as(asked, question, asked, count);
            self.counters.calls += 1;
            if let Some(tally) = self.entry.tally.as_ref().filter(|_| !took.is_zero()) {
                tally.took(took);
            }
            match said {
                Ok((Said::Decisions(decisions), draft)) => {
                    if draft.as_ref().is_some_and(|draft| draft.keeps_message()) && self.is_outdated() {
                        // A binding came meanwhile, and was given what was kept before.
                        break;
                    }
                    let known = generation == self.entry.generation;
                    given = self.take_over(version, (asked, same), given, &decisions, known, answers);
                    if let Some(draft) = draft.filter(|_| same > 0) {
                        self.attach(draft, given, answers);
                    }
                }
                Ok((Said::Verdicts(_), _)) => break,
                Err(unanswered) => {
                    let refusal = match unanswered {
                        Unanswered::Failed(what) => refusal(self.exchange, NotServed::Failed(what)),
                        Unanswered::NotServed(not_served) => unavailable(self.exchange, not_served),
                    };
                    given = self.fail(given, asked + same, &refusal, answers);
                }
            }
            asked += same;
            if same < count {
                break;
            }
        }
        if asked >= self.scratch.listed().questions.len() {
            self.handed_over.leave_singly(self.waker, singly);
            return Ok(Asked::All);
        }
        match end {
            // Else the one that a call about many failed at would be among many again.
            End::Turn if asked > 0 && singly > 0 => self.hand_over(version, asked, given, singly, 0, answers),
            _ if asked > 0 => self.cut(given, answers, Until::Woken),
            End::InDoubt(cell) => self.cut(given, answers, Until::Settled(&cell)),
            End::Turn | End::Outdated(_) => self.hand_over(version, 0, 0, singly, tries, answers),
        }
    }

    /// Hands questions over, from that one and that waiting answer on.
    pub(super) fn hand_over(
        &mut self,
        version: &Arc<Version>,
        first: usize,
        answered: usize,
        singly: usize,
        tries: u32,
        answers: &mut Vec<Answer>,
    ) -> Result<Asked, Again> {
        if let Some(why) = self.entry.pace.as_ref().and_then(|pace| pace.aside(version.id)) {
            let refusal = unavailable(self.exchange, NotServed::Failed(why));
            self.fail(answered, usize::MAX, &refusal, answers);
            return Ok(Asked::All);
        }
        let subject = Subject::Exchange(self.exchange.clone(), self.layer);
        let (vhost, generation, reads) = (&self.exchange.vhost, self.entry.generation, &self.entry.reads);
        let about = Asking { version, vhost, subject, generation, reads, singly, tries };
        let count = self.scratch.fitting(first, lane::MESSAGES_MAX);
        let question = self.scratch.listed().question(first, count, about);
        if let Some(asked) = self.lane.and_then(|lane| lane.ask(question, self.waker)) {
            self.handed_over.note(self.waker, asked, self.registry);
        }
        self.cut(answered, answers, Until::Woken)
    }
}

/// The questions of a batch.
#[derive(Clone, Copy)]
pub(super) struct Listed<'a> {
    /// Projections back to back, each after its length.
    pub(super) projections: &'a [u8],
    /// Where each lies, its length included.
    pub(super) questions: &'a [Range<usize>],
    /// The message of each, where the plugin may take it.
    pub(super) on_hand: &'a [Arc<OwnedMessage>],
}

impl Listed<'_> {
    /// Whether a question is what another one has at a place.
    pub(super) fn is_same(&self, number: usize, of: &Question, place: usize) -> bool {
        let projection =
            self.questions.get(number).and_then(|question| self.projections.get(question.clone()));
        place < of.count()
            && projection == Some(of.projections(place, 1))
            && match (self.on_hand.get(number), of.on_hand.get(place)) {
                (Some(mine), Some(theirs)) => is_same(mine, theirs),
                (mine, theirs) => mine.is_none() && theirs.is_none(),
            }
    }

    /// How many of the questions from that one on are the first of another one from a place on.
    pub(super) fn same_as(&self, first: usize, of: &Question, place: usize, count: usize) -> usize {
        (0..count).take_while(|nth| self.is_same(first + nth, of, place + nth)).count()
    }

    /// A question about so many of them from one on.
    pub(super) fn question(&self, first: usize, count: usize, about: Asking<'_>) -> Question {
        let places = self.questions.get(first..first + count).unwrap_or_default();
        let start = places.first().map_or(0, |place| place.start);
        let end = places.last().map_or(0, |place| place.end);
        let Asking { version, vhost, subject, generation, reads, singly, tries } = about;
        Question {
            version: version.clone(),
            vhost: vhost.clone(),
            subject,
            generation,
            reads: reads.clone(),
            bytes: self.projections.get(start..end).unwrap_or_default().to_vec(),
            ends: places.iter().map(|place| place.end - start).collect(),
            on_hand: self.on_hand.get(first..first + count).unwrap_or_default().to_vec(),
            singly,
            tries,
        }
    }
}

/// Whom a question is put to, and how.
pub(super) struct Asking<'a> {
    pub(super) version: &'a Arc<Version>,
    pub(super) vhost: &'a Name,
    pub(super) subject: Subject,
    pub(super) generation: Generation,
    pub(super) reads: &'a Arc<Reads>,
    pub(super) singly: usize,
    pub(super) tries: u32,
}

/// Whether two messages are the same to everybody.
fn is_same(a: &OwnedMessage, b: &OwnedMessage) -> bool {
    a.exchange == b.exchange
        && a.routing_key == b.routing_key
        && a.properties == b.properties
        && a.body == b.body
}
