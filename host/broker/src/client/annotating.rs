//! What a client says of messages that it gives back.

use super::Client;
use leveret_model::{Name, Value};

impl Client {
    /// Adds headers to a message that was delivered and is not settled, for whoever gets it when it is given back or
    /// rejected. With `failed` it has a failure more in `x-delivery-count`, where its queue does not count them itself.
    /// Nothing happens if there is no such delivery; if too much is added to one message that is left out.
    pub fn annotate(&mut self, n: u16, delivery_tag: u64, headers: &[(Name, Value)], failed: bool) {
        let Some(channel) = self.channels.get_mut(&n) else { return };
        let Some(entry) = channel.unacked.get(delivery_tag).filter(|entry| !entry.is_late()).copied() else {
            return;
        };
        if let Some(holder) = channel.holder_mut(entry.holder) {
            holder.queue.annotate(entry.message, headers, failed);
        }
    }
}
