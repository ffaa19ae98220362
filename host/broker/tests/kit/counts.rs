//! What a store was told, counted.

use super::Disk;
use leveret_broker::store::{KeptId, Ranges};

impl Disk {
    /// How often it was told of deliveries that count.
    pub fn counted(&self) -> usize {
        self.0.lock().unwrap().counted
    }

    /// What was settled since the last time, by the groups that told it.
    pub fn take_progress(&self) -> Vec<Vec<(KeptId, Ranges)>> {
        std::mem::take(&mut self.0.lock().unwrap().progressed)
    }

    /// How many numbers were settled, of messages that it has or had and of others.
    pub fn settled_numbers(&self) -> usize {
        self.0.lock().unwrap().queues.values().map(|queue| queue.settled.len()).sum()
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.0.lock().unwrap().pages.len()
    }

    /// How many pages there ever were.
    pub fn pages_written(&self) -> usize {
        self.0.lock().unwrap().pages_written
    }
}
