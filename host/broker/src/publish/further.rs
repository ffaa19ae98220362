//! Messages with further routing keys: they go where they would go with each of them, once to each queue.

use super::{Batch, Publish, Published, Scratch};
use crate::replies;
use alloc::{boxed::Box, vec::Vec};
use leveret_model::MoreKeys;

impl Scratch {
    /// Stages a message for the queues that its keys name.
    pub(super) fn deliver_by_name(
        &mut self,
        batch: &mut Batch<'_, '_>,
        index: usize,
        more: &MoreKeys,
    ) -> Published {
        let Some(publish) = batch.messages.get(index) else { return Published::Unroutable };
        self.walk.clear();
        self.walk.found_by_name(batch.vhost, publish.message.routing_key, Some(more));
        let staged = self.stage_walked(batch, index, publish);
        self.walk.clear();
        if staged {
            return Published::Routed;
        }
        let more = more.keys.iter().map(|key| &**key);
        let mut names = core::iter::once(publish.message.routing_key).chain(more);
        let dropped = names.any(|name| replies::to_no_queue(name) == Published::Dropped);
        if dropped { Published::Dropped } else { Published::Unroutable }
    }
}

/// The messages of a batch as they are kept.
pub(super) fn kept<'b>(messages: &[Publish<'b>]) -> Vec<Publish<'b>> {
    messages.iter().map(|publish| Publish { message: publish.kept(), ..*publish }).collect()
}

/// The further keys of those messages of which interceptors changed the headers; `before` is where they have their
/// `places`. What is no list of keys any more is as if it were not there.
pub(super) fn changed(
    messages: &[Publish<'_>],
    places: &[usize],
    before: &[Publish<'_>],
) -> Vec<Option<Option<Box<MoreKeys>>>> {
    let is_changed = |publish: &Publish<'_>, place: usize| {
        before.get(place).is_some_and(|before| before.message.properties != publish.message.properties)
    };
    let pairs = messages.iter().zip(places);
    let of_each = pairs.map(|(publish, place)| {
        is_changed(publish, *place).then(|| publish.message.more_keys().unwrap_or_default())
    });
    of_each.collect()
}
