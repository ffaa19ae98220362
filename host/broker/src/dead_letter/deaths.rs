//! Messages that die at nobody's hand: they expired, or their consumer went away, once too often or from a queue that
//! is full meanwhile. The housekeeper sends them on; they are in their queues until then. It also visits queues when time has
//! something to do with them.

use super::{DeadLetters, DeathReason};
use crate::{
    later::Later,
    port::Router,
    queue::{Counted, MessageRef, Progress, Queue, QueueId},
    vhost::Vhost,
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Weak},
    vec::Vec,
};
use hashbrown::HashMap;
use parking_lot::Mutex;

/// How many letters are sent on, and how many queues visited, in one piece of work.
const PIECE_MAX: usize = 256;
/// When to go on counting what could not be read, in milliseconds.
const COUNT_AGAIN_MS: u64 = 1000;

/// What a virtual host's housekeeper has to do for its queues.
pub(crate) struct Deaths {
    later: Arc<Later>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    fresh: VecDeque<(Arc<Queue>, MessageRef, DeathReason)>,
    /// By time, in milliseconds since 1970; one for each queue.
    visits: BTreeMap<(u64, QueueId), Weak<Queue>>,
    /// When each of these is to be visited.
    visited_at: HashMap<QueueId, u64, foldhash::fast::RandomState>,
    /// Whose bodies are to be counted, in turn.
    uncounted: VecDeque<Weak<Queue>>,
    /// When the letters that were refused are to be tried again.
    letters_ms: Option<u64>,
    /// They wait for a type's answer.
    pending: bool,
}

impl Deaths {
    pub(crate) fn new(later: Arc<Later>) -> Self {
        Self { later, waiting: Mutex::default() }
    }

    /// These died.
    pub(crate) fn add(&self, queue: &Arc<Queue>, dying: Vec<(MessageRef, DeathReason)>) {
        let mut waiting = self.waiting.lock();
        let was_empty = waiting.fresh.is_empty();
        waiting.fresh.extend(dying.into_iter().map(|(message, reason)| (queue.clone(), message, reason)));
        drop(waiting);
        if was_empty {
            self.later.wake_housekeeper();
        }
    }

    /// The queue is to be visited then, or earlier where that was asked before.
    pub(crate) fn visit(&self, queue: &Arc<Queue>, due_ms: u64) {
        let mut waiting = self.waiting.lock();
        let first = waiting.visits.first_key_value().map(|((due_ms, _), _)| *due_ms);
        match waiting.visited_at.insert(queue.id(), due_ms) {
            Some(earlier_ms) if earlier_ms <= due_ms => {
                waiting.visited_at.insert(queue.id(), earlier_ms);
                return;
            }
            Some(later_ms) => drop(waiting.visits.remove(&(later_ms, queue.id()))),
            None => {}
        }
        waiting.visits.insert((due_ms, queue.id()), Arc::downgrade(queue));
        drop(waiting);
        if first.is_none_or(|first| due_ms < first) {
            self.later.wake_housekeeper();
        }
    }

    /// Its bodies are to be counted.
    pub(crate) fn count(&self, queue: &Arc<Queue>) {
        self.waiting.lock().uncounted.push_back(Arc::downgrade(queue));
        self.later.wake_housekeeper();
    }

    /// Counts a piece of what is to be counted of one queue.
    fn count_piece(&self, now_ms: u64, progress: &mut Progress) {
        let next = self.waiting.lock().uncounted.pop_front();
        let Some(queue) = next.and_then(|queue| queue.upgrade()) else { return };
        match queue.count_piece(progress) {
            Counted::All => {}
            Counted::Piece => self.waiting.lock().uncounted.push_back(Arc::downgrade(&queue)),
            Counted::Later => self.visit(&queue, now_ms.saturating_add(COUNT_AGAIN_MS)),
        }
    }

    /// When there is something to do, in milliseconds since 1970.
    pub(crate) fn next_ms(&self, answered: bool) -> Option<u64> {
        let waiting = self.waiting.lock();
        let has_fresh = !waiting.fresh.is_empty() && !waiting.pending;
        if has_fresh || waiting.pending && answered || !waiting.uncounted.is_empty() {
            return Some(0);
        }
        let visit_ms = waiting.visits.first_key_value().map(|((due_ms, _), _)| *due_ms);
        visit_ms.into_iter().chain(waiting.letters_ms).min()
    }

    /// Takes the queues that are to be visited.
    fn take_visits(&self, now_ms: u64) -> Vec<Arc<Queue>> {
        let mut waiting = self.waiting.lock();
        let mut queues = Vec::new();
        while queues.len() < PIECE_MAX
            && let Some(next) = waiting.visits.first_entry().filter(|next| next.key().0 <= now_ms)
        {
            let ((_, id), queue) = next.remove_entry();
            waiting.visited_at.remove(&id);
            queues.extend(queue.upgrade());
        }
        queues
    }

    /// How many visits are to be made.
    #[cfg(test)]
    pub(crate) fn visits(&self) -> usize {
        let waiting = self.waiting.lock();
        assert_eq!(waiting.visits.len(), waiting.visited_at.len());
        waiting.visits.len()
    }

    /// Forgets everything: the virtual host goes.
    pub(crate) fn clear(&self) {
        *self.waiting.lock() = Waiting::default();
    }
}

impl Vhost {
    /// Does a bounded piece of what is due for queues.
    pub(crate) fn run_deaths(
        self: &Arc<Self>,
        now_ms: u64,
        router: &mut dyn Router,
        letters: &mut DeadLetters,
    ) {
        let deaths = &*self.deaths;
        let mut progress = Progress::default();
        for queue in deaths.take_visits(now_ms) {
            let (next_ms, is_over) = queue.tick(now_ms, &mut progress);
            if is_over {
                self.queue_gone(&queue, Some(router));
            } else if let Some(next_ms) = next_ms {
                deaths.visit(&queue, next_ms);
            }
        }
        deaths.count_piece(now_ms, &mut progress);
        progress.tell(&*self.store);
        let fresh: Vec<_> = {
            let mut waiting = deaths.waiting.lock();
            let count = waiting.fresh.len().min(PIECE_MAX);
            waiting.fresh.drain(..count).collect()
        };
        for (queue, message, reason) in fresh {
            letters.push(&queue, message, reason);
        }
        if letters.len() > 0 {
            letters.send(self, router, &self.later.waker());
        }
        let mut waiting = deaths.waiting.lock();
        waiting.letters_ms = letters.due_ms();
        waiting.pending = letters.is_pending();
    }
}
