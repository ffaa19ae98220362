//! Memory is short, and publishers are held back: queues keep no more of their messages in memory than they have to.
//!
//! A queue lets go by itself of what can be read again, and writes pages of what else it has, but only when it gets
//! more; one that nobody publishes to any more keeps what it has. So that the relief does not depend on consumers, the
//! housekeeper goes round all queues of its virtual host for as long as the account is over its watermark.

use crate::{later::Later, port::Wake, queue::Queue, vhost::Vhost};
use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};

/// How often the housekeeper goes round, in milliseconds: what was published last may not be written yet.
const RELIEF_EVERY_MS: u64 = 200;
/// How many queues it looks at in one piece of work.
const PIECE_MAX: usize = 64;

/// A round of the housekeeper.
#[derive(Default)]
pub(crate) struct Relief {
    queues: Vec<Weak<Queue>>,
    next_ms: u64,
}

impl Wake for Later {
    fn wake(&self) {
        self.wake_housekeeper();
    }
}

impl Vhost {
    /// Goes on with the round, or begins one if it is time. Gives when to come again; `None` while there is memory.
    pub(crate) fn relieve_some(&self, now_ms: u64, relief: &mut Relief) -> Option<u64> {
        let account = self.memory();
        if !account.over_watermark() {
            relief.queues.clear();
            return None;
        }
        if relief.queues.is_empty() {
            // The clock may have been set.
            let next_ms = relief.next_ms.min(now_ms.saturating_add(RELIEF_EVERY_MS));
            if now_ms < next_ms {
                return Some(next_ms);
            }
            let all = self.queues().into_iter().filter(|queue| queue.can_relieve());
            relief.queues = all.map(|queue| Arc::downgrade(&queue)).collect();
            relief.next_ms = now_ms.saturating_add(RELIEF_EVERY_MS);
        }
        let left = relief.queues.len().saturating_sub(PIECE_MAX);
        for queue in relief.queues.drain(left..).filter_map(|queue| queue.upgrade()) {
            queue.relieve();
        }
        Some(if relief.queues.is_empty() { relief.next_ms } else { now_ms })
    }
}
