//! What exchange types want the broker to do ([`Deed`]), and messages that go into a queue past
//! all exchanges.

use crate::{
    far,
    later::{Emitting, Why, count_emitted},
    memory::LargeBody,
    origin::Origin,
    port::Deed,
    publish::Publish,
    queue::{Notes, Queue, is_apart, large_of},
    store::Noted,
    vhost::Vhost,
};
use alloc::{sync::Arc, vec::Vec};
use leveret_model::OwnedMessage;

impl Vhost {
    /// Does what effects ask for, and leaves `deeds` empty. `because` is where the message comes from that they belong
    /// to; `now_ms` is the time. No room was taken for it: what is emitted and finds none is lost.
    pub(crate) fn perform(&self, deeds: &mut Vec<Deed>, because: Origin, now_ms: u64) {
        if !deeds.is_empty() {
            let mut emitting = Emitting::new(because, count_emitted(deeds));
            self.perform_with(deeds, &mut emitting, now_ms);
        }
    }

    /// The same, with the room that was taken.
    pub(crate) fn perform_with(&self, deeds: &mut Vec<Deed>, emitting: &mut Emitting, now_ms: u64) {
        for deed in deeds.drain(..) {
            match deed {
                Deed::Emit { exchange, message, plugin } => {
                    let message = far::hold_on(message, &*self.store);
                    self.later.emit(exchange, message, plugin, emitting);
                }
                Deed::Enqueue { queue, message } => {
                    let message = core::iter::once(&message);
                    let took = self.queue(&queue).is_some_and(|queue| self.put(&queue, message, now_ms));
                    if !took {
                        self.later.lost(Why::NoQueue, &queue, 1);
                    }
                }
                Deed::SetTimer { exchange, layer, name, due_ms } => {
                    self.later.set_timer(exchange, layer, name, due_ms);
                }
                Deed::CancelTimer { exchange, layer, name } => {
                    self.later.cancel_timer(exchange, layer, name);
                }
                Deed::CancelHold { exchange, id } => {
                    self.later.cancel_hold(id, Some(exchange));
                }
            }
        }
    }

    /// Puts messages into a queue in order at the time `now_ms`; false if it is deleted. What a queue has no room for
    /// is left out, and counted.
    pub(crate) fn put<'a>(
        &self,
        queue: &Arc<Queue>,
        messages: impl Iterator<Item = &'a OwnedMessage>,
        now_ms: u64,
    ) -> bool {
        let batch: Vec<Publish<'_>> = messages
            .map(|message| Publish { channel: 0, message: message.view(), mandatory: false, more_keys: None })
            .collect();
        let places = (0_u32..).zip(&batch);
        let large: Vec<_> = places
            .filter(|(_, publish)| is_apart(&publish.message))
            .map(|(place, publish)| (place, LargeBody::of(&publish.message, &*self.store, self.memory())))
            .collect();
        let members: Vec<u32> = (0_u32..).take(batch.len()).collect();
        let mut notes = Notes::default();
        if !queue.enqueue((&batch, now_ms), None, &members, &large, &mut notes) {
            return false;
        }
        notes.leave_dying();
        if !notes.refused.is_empty() {
            self.later.lost(Why::QueueFull, queue.name(), notes.refused.len() as u64);
        }
        let (placing, progress) = (&mut notes.placing, &mut notes.progress);
        if !placing.is_empty() {
            let (mut group, durability) = (self.store.group(), placing.durability());
            placing.drain(|member, targets| {
                if let Some(publish) = batch.get(member as usize) {
                    let noted = Noted { dead_lettered: false, came_ms: now_ms };
                    group.enqueue(&publish.message, large_of(&large, member), noted, targets);
                }
            });
            group.submit(durability, None);
        }
        progress.tell(&*self.store);
        true
    }
}
