//! Which consumers there are, and which are active: of a queue with a single active consumer one, and the others stand by.

use super::Client;
use crate::queue::QueueKind;
use alloc::vec::Vec;
use leveret_model::Name;

impl Client {
    /// Its consumers, by channel and tag.
    #[must_use]
    pub fn consumers(&self) -> Vec<(u16, Name)> {
        let mut all = Vec::new();
        for (number, channel) in &self.channels {
            let consumers = channel.holders.iter().flatten().filter_map(|holder| holder.consumer.as_ref());
            all.extend(consumers.filter(|consumer| consumer.active).map(|c| (*number, c.tag.clone())));
        }
        all.sort_unstable();
        all
    }

    /// Whether a consumer became active, or is no more, since this was asked. The connection is woken for that.
    #[must_use]
    pub fn take_activity(&self) -> bool {
        self.ready.take_activity()
    }

    /// Whether a consumer of a quorum queue is active, and does not stand by; `None` if it is of another queue.
    #[must_use]
    pub fn is_active(&self, n: u16, tag: &[u8]) -> Option<bool> {
        let channel = self.channels.get(&n)?;
        let at = channel.consumer_at(tag)?;
        let holder = channel.holders.get(at as usize)?.as_ref()?;
        let consumer = holder.consumer.as_ref().filter(|_| holder.queue.kind() == QueueKind::Quorum)?;
        Some(consumer.handle.is_active())
    }
}
