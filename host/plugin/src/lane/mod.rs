//! The slow lane: threads beside the workers that make the calls of plugins which may take long, so that a
//! worker never waits for one.
//!
//! *In:* what a worker wants to know of some messages (`Question`), with a waker. *Out:* answers
//! (`Answered`) that the worker takes when it was woken; it turns them into the broker's words itself,
//! as if it had asked. What it does not take is undone. And whatever else is to be done for a virtual host
//! with its instances here, by a [`Worker`] of the thread ([`Errand`]): changes of exchanges and bindings,
//! timers.
//!
//! *Invariants:*
//! - Of a virtual host one thread asks at a time, so each plugin has one instance here for it, and its
//!   answers come in the order of the questions; errands are done in their order, in turn with questions.
//! - Who has used least CPU time here is next: whatever one virtual host's plugins do, another's are
//!   asked. The threads have a lower priority than the workers.
//! - A virtual host has at most [`QUESTIONS_MAX`] questions and [`QUESTION_BYTES_MAX`] bytes of them here,
//!   answers that nobody took yet included, and [`ERRANDS_MAX`] errands; who wants more waits. What nobody
//!   took for [`ANSWER_KEPT`] is undone.
//!
//! `queue.rs` has the threads and who is next, `run.rs` what is done for a question, `room.rs` what there is
//! room for.

mod queue;
mod room;
mod run;

pub(crate) use queue::{Lane, lower_priority};

use crate::{
    attachment::Attachment,
    capability::Draft,
    guest::{Decisions, Verdicts},
    state::Cell,
    version::Version,
    worker::{NotServed, Worker},
};
use leveret_broker::{
    exchange::{Exchange, Generation},
    port::{Layer, Wake},
};
use leveret_model::{Name, OwnedMessage, Reads};
use parking_lot::Mutex;
use room::Room;
use std::{sync::Arc, time::Duration};

/// How many questions of a virtual host there are at a time.
pub const QUESTIONS_MAX: usize = 1_024;
/// How many bytes they have together.
pub const QUESTION_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many errands of a virtual host there are at a time.
pub const ERRANDS_MAX: usize = 1_024;
/// How many messages are in one question.
pub const MESSAGES_MAX: usize = 64;
/// For how long an answer waits to be taken.
pub const ANSWER_KEPT: Duration = Duration::from_secs(10);
/// After so much CPU time of one question it is the next virtual host's turn; what is answered then is
/// given.
pub const SLICE: Duration = Duration::from_millis(10);

/// Something to do for a virtual host, with a worker that has its instances in the lane. It may wait, and its
/// calls of plugins take as long as their limits say.
pub type Errand = Box<dyn FnOnce(&mut Worker) + Send>;

/// What somebody wants to know of some messages.
pub(crate) struct Question {
    pub(crate) version: Arc<Version>,
    pub(crate) vhost: Name,
    pub(crate) subject: Subject,
    /// The generation of the exchange that the asker knows.
    pub(crate) generation: Generation,
    /// What the projections are of.
    pub(crate) reads: Arc<Reads>,
    /// Projections back to back, each after its length.
    pub(crate) bytes: Vec<u8>,
    /// Where each ends.
    pub(crate) ends: Vec<usize>,
    /// The message of each, where the plugin may take it.
    pub(crate) on_hand: Vec<Arc<OwnedMessage>>,
    /// So many from the first on were asked about together, and the call failed: each is to be asked about
    /// alone. May be more than are in this question.
    pub(crate) singly: usize,
    /// How often an answer came too late.
    pub(crate) tries: u32,
}

/// Whom it is put to.
pub(crate) enum Subject {
    /// A type of an exchange.
    Exchange(Arc<Exchange>, Layer),
    /// An interceptor.
    Attachment(Arc<Attachment>),
}

/// What came of a question.
pub(crate) struct Answered {
    /// The generation at which the exchange's answers were given.
    pub(crate) generation: Generation,
    /// For the first messages, in order.
    pub(crate) parts: Vec<Part>,
    pub(crate) end: End,
    /// A call about so many of those that come next has failed: each is to be asked about alone.
    pub(crate) singly: usize,
}

/// What came of one call.
pub(crate) struct Part {
    /// About how many messages.
    pub(crate) count: usize,
    pub(crate) took: Duration,
    pub(crate) said: Result<(Said, Option<Box<Draft>>), Unanswered>,
}

/// Why there is no answer for some messages.
pub(crate) enum Unanswered {
    /// The plugin failed on them.
    Failed(String),
    /// It was not asked about them.
    NotServed(NotServed),
}

/// What a guest said.
pub(crate) enum Said {
    Decisions(Decisions),
    Verdicts(Verdicts),
}

/// Why there is no answer for the rest of the messages.
pub(crate) enum End {
    /// There is for all; or the time was up.
    Turn,
    /// What is read is another thing by now; this, where it is known.
    Outdated(Option<Arc<Reads>>),
    /// A key of this cell is in doubt.
    InDoubt(Arc<Cell>),
}

/// A question in the lane. Dropped, it is not put any more, and its answer is undone.
pub(crate) struct Asked {
    pub(crate) question: Question,
    waker: Arc<dyn Wake>,
    progress: Mutex<Progress>,
    room: Arc<Room>,
}

enum Progress {
    Waits,
    Done(Answered),
    /// Or given up.
    Taken,
}

impl Question {
    fn bytes_len(&self) -> usize {
        let on_hand = self.on_hand.iter().map(|message| message.body.len() + message.properties.len());
        self.bytes.len() + on_hand.sum::<usize>()
    }

    /// How many messages it is about.
    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The projections of so many messages from one on, each after its length.
    pub(crate) fn projections(&self, first: usize, count: usize) -> &[u8] {
        let start = first.checked_sub(1).map_or(0, |before| self.ends.get(before).copied().unwrap_or(0));
        let end = (first + count).checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0);
        self.bytes.get(start..end).unwrap_or_default()
    }
}

impl Asked {
    /// Whether it is that asker's.
    pub(crate) fn is_of(&self, waker: &Arc<dyn Wake>) -> bool {
        Arc::as_ptr(&self.waker).cast::<()>() == Arc::as_ptr(waker).cast::<()>()
    }

    /// Whether it was answered and is to be taken; also if it was given up meanwhile.
    pub(crate) fn is_done(&self) -> bool {
        !matches!(*self.progress.lock(), Progress::Waits)
    }

    /// Takes what came of it; `None` if it was given up.
    pub(crate) fn take(&self) -> Option<Answered> {
        match std::mem::replace(&mut *self.progress.lock(), Progress::Taken) {
            Progress::Done(answered) => Some(answered),
            Progress::Waits | Progress::Taken => None,
        }
    }

    fn finish(&self, answered: Answered) {
        *self.progress.lock() = Progress::Done(answered);
        self.waker.wake();
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.room.leave(&self.question);
    }
}
