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

    /// The length of the longest body in a page.
    pub fn longest_of_pages(&self) -> usize {
        let inner = self.0.lock().unwrap();
        let pages = inner.pages.iter().filter_map(|page| inner.queues.get(page));
        pages
            .flat_map(|page| page.messages.values().map(|message| message.message.body.len()))
            .max()
            .unwrap_or(0)
    }

    /// How many pages there ever were.
    pub fn pages_written(&self) -> usize {
        self.0.lock().unwrap().pages_written
    }
}
