//! What a client says of messages that it gives back.

use super::Client;
use crate::{
    queue::{AddedHeader, FAILED_AT_ONCE},
    store::{Durability, Group},
};
use alloc::boxed::Box;

/// What a client says of a message, beside its outcome.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remark<'a> {
    /// Headers that whoever gets it next is to see. If there are too many on one message these are left out.
    pub headers: &'a [AddedHeader],
    /// It has a failure more in `x-delivery-count`, where its queue does not count them itself.
    pub failed: bool,
    /// When it is to be tried again, in milliseconds since 1970, if it is given back to a quorum queue.
    pub due_ms: Option<u64>,
}

/// As the next delivery does that counts: nobody waits for it.
fn submit(group: &mut Option<Box<dyn Group>>) {
    if let Some(group) = group {
        group.submit(Durability::Never, None);
    }
}

impl Client {
    /// Notes something of a message that was delivered and is not settled, for when it is given back or rejected.
    /// Nothing happens if there is no such delivery.
    pub fn annotate(&mut self, n: u16, delivery_tag: u64, remark: Remark<'_>) {
        self.annotate_in(n, delivery_tag, remark, None);
    }

    /// Consumers of a channel failed on messages that were delivered there and are not settled. To be followed by what gives
    /// them back.
    pub fn fail(&mut self, n: u16, delivery_tags: impl Iterator<Item = u64>) {
        let remark = Remark { failed: true, ..Remark::default() };
        let mut group = self.vhost.store.keeps().then(|| self.vhost.store.group());
        for (count, tag) in (1..).zip(delivery_tags) {
            let with = group.as_mut().map(|group| &mut **group as &mut dyn Group);
            self.annotate_in(n, tag, remark, with);
            if count % FAILED_AT_ONCE == 0 {
                submit(&mut group);
            }
        }
        submit(&mut group);
    }

    /// The same as [`Self::annotate`]; what is kept of it is written with a group.
    pub(crate) fn annotate_in(
        &mut self,
        n: u16,
        delivery_tag: u64,
        remark: Remark<'_>,
        group: Option<&mut dyn Group>,
    ) {
        let Some(channel) = self.channels.get_mut(&n) else { return };
        let Some(entry) = channel.unacked.get(delivery_tag).filter(|entry| !entry.is_late()).copied() else {
            return;
        };
        if let Some(holder) = channel.holder_mut(entry.holder) {
            holder.queue.annotate(entry.message, remark, group);
        }
    }
}
