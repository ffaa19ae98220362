//! What the broker has said and was told, and what follows from it for all that it delivers.
//!
//! *In:* each publish, confirm, delivery, ack and reject, at the moment of which the client knows; what is found
//! after each start. *Out:* violations, in words.
//!
//! A copy is a message in one queue. What was sent and not answered when a life ended may have happened or not; what
//! is found after the start decides, and from then on it counts like what was confirmed: it was read from the disk.

mod found;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

/// The queues that the load is about, all durable.
pub(crate) const QUEUES: [&str; 12] =
    ["d0", "d1", "f0", "f1", "f2", "t0", "t1", "work", "dead", "unique", "due", "barrier"];
/// Rejected messages of this queue go to [`DEAD`].
pub(crate) const WORK: usize = 7;
/// Dead letters.
pub(crate) const DEAD: usize = 8;
/// Behind an exchange that drops duplicates.
pub(crate) const UNIQUE: usize = 9;
/// Behind an exchange that delays.
pub(crate) const DUE: usize = 10;
/// What consumers publish, to know that what they did before is safe.
pub(crate) const BARRIER: usize = 11;

/// What came of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing was heard.
    None,
    /// Confirmed, or read from the disk.
    Accepted,
}

/// What is to be published.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Who publishes it: messages of one publisher are in the order of their numbers.
    pub(crate) publisher: u32,
    /// The length of its body.
    pub(crate) bytes: usize,
    /// Whether it is to outlive the process.
    pub(crate) persistent: bool,
    /// The queues to which it goes.
    pub(crate) targets: Vec<usize>,
    /// When it may come, in milliseconds since 1970.
    pub(crate) due_ms: Option<u64>,
    /// What no two messages in [`UNIQUE`] share.
    pub(crate) unique: Option<u64>,
}

#[derive(Debug)]
struct Known {
    message: Message,
    answer: Answer,
}

impl Known {
    /// Whether a message that came before may be held once more: a release is safe only some time after it happened.
    fn may_be_held(&self, copy: &Copy) -> bool {
        self.message.due_ms.is_some() && !copy.kept
    }
}

/// A message in a queue.
#[derive(Clone, Debug, Default)]
struct Copy {
    /// The life in which it came to be there.
    made: u32,
    /// How often it came.
    deliveries: u32,
    /// The life in which it came last.
    seen: u32,
    /// A client has it and said nothing yet.
    out: bool,
    /// An ack was sent in this life.
    acked: bool,
    /// A reject was sent in this life.
    rejected: bool,
    /// It is not there any more, for certain.
    gone: bool,
    /// It may be held again or be settled: it was released and acked, and neither was known to be safe.
    maybe: bool,
    /// It was read from the disk in this queue, so it is held no more.
    kept: bool,
}

/// How the previous life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was killed.
    Killed,
    /// It was asked to stop while clients were busy.
    Stopped,
}

/// The last number that came first of each publisher, as one consumer saw it.
pub(crate) type Order = HashMap<u32, u64>;

/// See the module.
#[derive(Default)]
pub(crate) struct Model {
    life: u32,
    last_id: u64,
    messages: BTreeMap<u64, Known>,
    copies: BTreeMap<(usize, u64), Copy>,
    /// Of each value that no two messages share: whether one was confirmed, and which one came.
    uniques: BTreeMap<u64, (bool, Option<u64>)>,
    /// Values of which one came, was never confirmed and is not there any more: it was acked, or never safe.
    undecided: BTreeSet<u64>,
    /// About how many messages wait.
    backlog: i64,
    /// The broker was asked to stop: what a client has that is closed first, another may get.
    pub(crate) stopping: bool,
    /// Confirms and deliveries in this life.
    pub(crate) events: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) tally: Tally,
}

/// What happened, so that a run in which nothing did is seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) confirmed: u64,
    pub(crate) refused: u64,
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
    pub(crate) rejected: u64,
    pub(crate) requeued: u64,
    pub(crate) safe_acks: u64,
    pub(crate) found: u64,
    pub(crate) unanswered_found: u64,
    pub(crate) unanswered_lost: u64,
    pub(crate) acks_lost: u64,
    pub(crate) duplicates: u64,
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The body of a message.
pub(crate) fn body(id: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64)
        .map(|at| (id.wrapping_mul(31).wrapping_add(at.wrapping_mul((at >> 8) | 1))) as u8)
        .collect()
}

impl Model {
    /// About how many messages wait.
    pub(crate) fn backlog(&self) -> i64 {
        self.backlog
    }

    pub(crate) fn violate(&mut self, what: String) {
        self.violations.push(format!("life {}: {what}", self.life));
    }

    /// Notes a publish, before it is sent. Gives the message's number.
    pub(crate) fn publish(&mut self, message: Message) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let life = self.life;
        let mut targets = message.targets.clone();
        if let Some(unique) = message.unique {
            let (confirmed, came) = *self.uniques.entry(unique).or_default();
            if (confirmed || came.is_some()) && !self.undecided.contains(&unique) {
                self.tally.duplicates += 1;
                targets.clear();
            }
        }
        self.backlog += targets.len() as i64;
        for queue in targets {
            self.copies.insert((queue, id), Copy { made: life, ..Copy::default() });
        }
        self.messages.insert(id, Known { message, answer: Answer::None });
        id
    }

    /// A confirm came.
    pub(crate) fn confirmed(&mut self, id: u64) {
        self.events += 1;
        self.tally.confirmed += 1;
        let known = self.messages.get_mut(&id).unwrap();
        known.answer = Answer::Accepted;
        if let Some(unique) = known.message.unique {
            self.uniques.entry(unique).or_default().0 |= known.message.persistent;
        }
    }

    /// A negative confirm came: nothing is known.
    pub(crate) fn refused(&mut self) {
        self.events += 1;
        self.tally.refused += 1;
    }

    /// A consumer got something.
    pub(crate) fn delivered(&mut self, order: &mut Order, queue: usize, got: &Got) {
        self.events += 1;
        self.tally.delivered += 1;
        let Some(copy) = self.known(queue, got) else { return };
        let place = format!("message {} in {}", got.id, QUEUES[queue]);
        let known = &self.messages[&got.id];
        let is_first_of_held = known.may_be_held(&copy) && copy.deliveries == 0;
        let mut wrong = Vec::new();
        if copy.out && !self.stopping {
            wrong.push("came while it is out");
        }
        if copy.gone || ((copy.acked || copy.rejected) && !self.stopping) {
            wrong.push("came after it was settled");
        }
        if copy.made < self.life && copy.seen < self.life && !is_first_of_held {
            wrong.push("came though it was not there after the start");
        }
        // A dead letter that somebody had rejected is marked where it comes to.
        let may_be_marked = copy.deliveries > 0 || queue == DEAD;
        let is_dishonest = if got.redelivered { !may_be_marked } else { copy.deliveries > 0 };
        if is_dishonest && !self.stopping {
            wrong.push("has a dishonest redelivered flag");
        }
        if known.message.due_ms.is_some_and(|due_ms| got.at_ms + 1 < due_ms) {
            wrong.push("came before its time");
        }
        let is_first = copy.deliveries == 0 && !got.redelivered;
        let is_in_order = known.message.due_ms.is_none() && queue != DEAD && is_first;
        let publisher = known.message.publisher;
        if is_in_order && order.insert(publisher, got.id).is_some_and(|last| last > got.id) {
            wrong.push("came after a later one of its channel");
        }
        for wrong in wrong {
            self.violate(format!("{place} {wrong}: {got:?} {copy:?} {:?}", self.messages[&got.id]));
        }
        let life = self.life;
        let copy = self.copies.get_mut(&(queue, got.id)).unwrap();
        copy.deliveries += 1;
        copy.out = true;
        copy.maybe = false;
        copy.seen = life;
    }

    /// Checks that a message was published, to that queue and with that body, and is no duplicate.
    fn known(&mut self, queue: usize, got: &Got) -> Option<Copy> {
        let place = format!("message {} in {}", got.id, QUEUES[queue]);
        let Some(known) = self.messages.get(&got.id) else {
            self.violate(format!("{place} was never published: {got:?}"));
            return None;
        };
        if got.body != body(got.id, known.message.bytes) {
            let bytes = got.body.len();
            self.violate(format!("{place} has another body, of {bytes} bytes: {:?}", self.messages[&got.id]));
        }
        let known = &self.messages[&got.id];
        if let (Some(unique), UNIQUE) = (known.message.unique, queue)
            && !self.undecided.contains(&unique)
        {
            let came = self.uniques.entry(unique).or_default();
            if came.1.is_some_and(|came| came != got.id) {
                let which = *came;
                self.violate(format!("{place} is a duplicate: {unique} {which:?}"));
                return None;
            }
            came.1 = Some(got.id);
        }
        let copy = self.copies.get(&(queue, got.id)).cloned();
        if copy.is_none() {
            self.violate(format!("{place} does not belong there: {:?}", self.messages[&got.id]));
        }
        copy
    }

    /// An ack is sent next.
    pub(crate) fn acks(&mut self, queue: usize, id: u64) {
        self.tally.acked += 1;
        self.backlog -= 1;
        if let Some(copy) = self.copies.get_mut(&(queue, id)) {
            copy.out = false;
            copy.acked = true;
        }
    }

    /// A message is given back next.
    pub(crate) fn requeues(&mut self, queue: usize, id: u64) {
        self.tally.requeued += 1;
        if let Some(copy) = self.copies.get_mut(&(queue, id)) {
            copy.out = false;
        }
    }

    /// A message of [`WORK`] is rejected next.
    pub(crate) fn rejects(&mut self, id: u64) {
        self.tally.rejected += 1;
        let made = self.life;
        if let Some(copy) = self.copies.get_mut(&(WORK, id)) {
            copy.out = false;
            copy.rejected = true;
            self.copies.insert((DEAD, id), Copy { made, ..Copy::default() });
        }
    }

    /// What was acked is known to be safe: a later publish on the same channel was confirmed.
    pub(crate) fn safe(&mut self, acked: &[(usize, u64)]) {
        for place in acked {
            if let Some(copy) = self.copies.get_mut(place) {
                copy.gone = true;
                self.tally.safe_acks += 1;
            }
        }
    }

    /// Whether nobody knows of a message if it is held: it was not confirmed before a kill, or it was released and
    /// acked and neither was known to be safe. Nobody waits for it, so it may come after all that is owed.
    pub(crate) fn may_be_held_yet(&self, queue: usize, id: u64) -> bool {
        let (known, copy) = (self.messages.get(&id), self.copies.get(&(queue, id)));
        known.zip(copy).is_some_and(|(known, copy)| {
            let is_unknown = known.answer == Answer::None || copy.maybe;
            is_unknown && known.message.due_ms.is_some() && copy.deliveries == 0
        })
    }

    /// What is to come still: confirmed, and nobody acked it.
    pub(crate) fn owed(&self) -> BTreeSet<(usize, u64)> {
        let open =
            self.copies.iter().filter(|(_, copy)| !copy.gone && !copy.acked && !copy.rejected && !copy.maybe);
        let owed = open.filter(|((queue, id), copy)| {
            let known = &self.messages[id];
            let decided = known.message.unique.is_none() || copy.deliveries > 0;
            (known.answer == Answer::Accepted || copy.deliveries > 0 || *queue == DEAD) && decided
        });
        owed.map(|(place, _)| *place).collect()
    }
}

/// A message as it came.
pub(crate) struct Got {
    /// Its number.
    pub(crate) id: u64,
    /// Its flag.
    pub(crate) redelivered: bool,
    /// Its body.
    pub(crate) body: Vec<u8>,
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
}

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "redelivered {}, {} bytes, at {}", self.redelivered, self.body.len(), self.at_ms)
    }
}
