//! How much of a virtual host may be in the lane, and who waits for room.

use super::{ERRANDS_MAX, QUESTION_BYTES_MAX, QUESTIONS_MAX, Question};
use hashbrown::HashSet;
use leveret_broker::port::Wake;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What a virtual host has in the lane.
#[derive(Default)]
pub(super) struct Room {
    questions: AtomicUsize,
    bytes: AtomicUsize,
    waiting: Mutex<Waiting>,
    errands: AtomicUsize,
    waiting_with_errands: Mutex<Waiting>,
}

/// Who waits, each once, in the order in which they came.
#[derive(Default)]
struct Waiting {
    wakers: VecDeque<Arc<dyn Wake>>,
    known: HashSet<usize, foldhash::fast::RandomState>,
}

impl Waiting {
    fn add(&mut self, waker: &Arc<dyn Wake>) {
        if self.known.insert(address(waker)) {
            self.wakers.push_back(waker.clone());
        }
    }

    fn take_first(&mut self) -> Option<Arc<dyn Wake>> {
        let waker = self.wakers.pop_front()?;
        self.known.remove(&address(&waker));
        Some(waker)
    }

    fn take_all(&mut self) -> VecDeque<Arc<dyn Wake>> {
        self.known.clear();
        std::mem::take(&mut self.wakers)
    }
}

fn address(waker: &Arc<dyn Wake>) -> usize {
    Arc::as_ptr(waker).cast::<()>() as usize
}

impl Room {
    /// Takes up room for a question; false if there is none, and `waker` is called when there is again.
    pub(super) fn enter(&self, question: &Question, waker: &Arc<dyn Wake>) -> bool {
        let is_full = || {
            self.questions.load(Ordering::SeqCst) >= QUESTIONS_MAX
                || self.bytes.load(Ordering::SeqCst) >= QUESTION_BYTES_MAX
        };
        if !has_room(is_full, &self.waiting, waker) {
            return false;
        }
        self.questions.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(question.bytes_len(), Ordering::SeqCst);
        true
    }

    /// A question is gone.
    pub(super) fn leave(&self, question: &Question) {
        self.bytes.fetch_sub(question.bytes_len(), Ordering::SeqCst);
        let left = self.questions.fetch_sub(1, Ordering::SeqCst) - 1;
        wake_next(&self.waiting, left == 0);
    }

    /// Takes up room for an errand, as [`Self::enter`] does; without a waker there always is.
    pub(super) fn enter_errand(&self, waker: Option<&Arc<dyn Wake>>) -> bool {
        let is_full = || self.errands.load(Ordering::SeqCst) >= ERRANDS_MAX;
        if let Some(waker) = waker
            && !has_room(is_full, &self.waiting_with_errands, waker)
        {
            return false;
        }
        self.errands.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// An errand is done.
    pub(super) fn leave_errand(&self) {
        let left = self.errands.fetch_sub(1, Ordering::SeqCst) - 1;
        wake_next(&self.waiting_with_errands, left == 0);
    }
}

fn has_room(is_full: impl Fn() -> bool, waiting: &Mutex<Waiting>, waker: &Arc<dyn Wake>) -> bool {
    if !is_full() {
        return true;
    }
    waiting.lock().add(waker);
    if is_full() {
        return false;
    }
    // Some room was left in between: whoever waits may be the last to hear of it.
    wake_next(waiting, true);
    true
}

fn wake_next(waiting: &Mutex<Waiting>, all: bool) {
    let mut waiting = waiting.lock();
    let woken = if all { waiting.take_all() } else { waiting.take_first().into_iter().collect() };
    drop(waiting);
    woken.iter().for_each(|waker| waker.wake());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn whoever_waits_is_woken_once_and_in_turn() {
        let room = Room::default();
        let counts: [Arc<Counts>; 2] = Default::default();
        let wakers: [Arc<dyn Wake>; 2] = [counts[0].clone(), counts[1].clone()];
        let woken = || counts.each_ref().map(|counts| counts.0.load(Ordering::SeqCst));
        for _ in 0..ERRANDS_MAX {
            assert!(room.enter_errand(Some(&wakers[0])));
        }
        for _ in 0..3 {
            assert!(!room.enter_errand(Some(&wakers[0])) && !room.enter_errand(Some(&wakers[1])));
        }
        assert!(room.enter_errand(None), "the broker's own always find room");
        room.leave_errand();
        assert_eq!(woken(), [1, 0]);
        room.leave_errand();
        assert_eq!(woken(), [1, 1]);
        room.leave_errand();
        assert_eq!(woken(), [1, 1], "nobody waits any more");
        assert!(room.enter_errand(Some(&wakers[1])));
    }
}
