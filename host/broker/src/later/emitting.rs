//! What is emitted because of one message: how much may descend from it, and that there is room.
//!
//! All that descends from one message by emissions, whatever emits it, is bounded twice: [`HOPS_MAX`] emissions may lead
//! to one another, and there are at most [`EMISSIONS_MAX`] of them. That many a message may emit; what it leaves of them
//! its emissions share. What is beyond is lost, and told.

use super::{EMISSIONS_MAX, Emission, HOPS_MAX, Later, Why, outbox::Part};
use crate::{
    origin::Origin,
    port::{Deed, Effects, Fate, Want},
    vhost::Vhost,
};
use alloc::{format, string::ToString, sync::Arc, vec::Vec};
use leveret_model::{Name, OwnedMessage};

/// What may be emitted because of one message.
pub(crate) struct Emitting {
    /// Of what is emitted.
    origin: Origin,
    /// How many more may be emitted.
    left: u32,
    /// The room that was taken for them, by plugin.
    room: Vec<(Arc<str>, Part)>,
}

impl Emitting {
    /// For so many, without room, because of a message of that origin.
    pub(crate) fn new(because: Origin, count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let left = count.min(because.emissions_max);
        let emissions_max = because.emissions_max.saturating_sub(count).checked_div(count).unwrap_or(0);
        let hops = because.hops.saturating_add(1);
        Self { origin: Origin { hops, emissions_max, ..Origin::default() }, left, room: Vec::new() }
    }

    /// Uses room that was taken.
    fn use_room(&mut self, plugin: &Arc<str>, part: Part) -> bool {
        let taken = self.room.iter_mut().find(|(of, _)| of == plugin);
        taken.is_some_and(|(_, room)| room.take(part))
    }
}

impl Vhost {
    /// Takes room for what effects want of the broker, should a message of that origin have that fate. `None` if they
    /// emit nothing.
    ///
    /// # Errors
    /// Why there is none, and the plugin is told: the message is not to be accepted.
    pub(crate) fn room_for<'e>(
        &self,
        (origin, fate): (Origin, Fate),
        effects: impl Iterator<Item = &'e dyn Effects> + Clone,
    ) -> Result<Option<Emitting>, Arc<str>> {
        let (mut emitted, mut put) = (Vec::<(Arc<str>, Part)>::new(), Vec::<(Name, Arc<str>, Part)>::new());
        for effects in effects.clone() {
            effects.wants(fate, &mut |want| match want {
                Want::Emit { plugin, message_bytes } => {
                    let part = Part::of(message_bytes);
                    match emitted.iter_mut().find(|(of, _)| of == plugin) {
                        Some((_, all)) => all.add(part),
                        None => emitted.push((plugin.clone(), part)),
                    }
                }
                Want::Enqueue { plugin, queue, body_bytes } => {
                    let part = Part { messages: 1, bytes: body_bytes as u64 };
                    match put.iter_mut().find(|(to, ..)| to == queue) {
                        Some((.., all)) => all.add(part),
                        None => put.push((queue.clone(), plugin.clone(), part)),
                    }
                }
            });
        }
        let refused = |plugin: &Arc<str>, why: Arc<str>| {
            effects.clone().for_each(|effects| effects.no_room(plugin, &why));
            why
        };
        for (name, plugin, part) in put {
            if self.queue(&name).is_some_and(|queue| queue.refuses(part)) {
                let why = format!("no room in queue '{name}' for what plugin '{plugin}' enqueues");
                return Err(refused(&plugin, Arc::from(why)));
            }
        }
        if emitted.is_empty() {
            return Ok(None);
        }
        let count: u64 = emitted.iter().map(|(_, part)| part.messages).sum();
        let mut emitting = Emitting::new(origin, usize::try_from(count).unwrap_or(usize::MAX));
        if emitting.origin.hops > HOPS_MAX || emitting.left == 0 {
            return Ok(Some(emitting));
        }
        for (plugin, part) in emitted {
            if let Err(no_room) = self.later.outbox.take(&plugin, part) {
                self.later.give_back_unused(emitting);
                return Err(refused(&plugin, Arc::from(no_room.to_string())));
            }
            emitting.room.push((plugin, part));
        }
        Ok(Some(emitting))
    }
}

impl Later {
    /// Publishes a message soon, if it may be.
    pub(crate) fn emit(
        &self,
        exchange: Name,
        message: OwnedMessage,
        plugin: Arc<str>,
        emitting: &mut Emitting,
    ) {
        let part = Part::of(message.len_bytes());
        if emitting.origin.hops > HOPS_MAX {
            return self.lost(Why::TooManyHops(plugin), &exchange, 1);
        }
        if emitting.left == 0 {
            return self.lost(Why::TooManyEmissions(plugin), &exchange, 1);
        }
        emitting.left -= 1;
        if emitting.use_room(&plugin, part) {
            self.send(exchange, message, plugin, emitting.origin);
        } else {
            self.publish_soon(exchange, message, plugin, emitting.origin);
        }
    }

    /// Publishes a message soon, on behalf of that plugin, if there is room for it.
    pub(crate) fn publish_soon(
        &self,
        exchange: Name,
        message: OwnedMessage,
        plugin: Arc<str>,
        origin: Origin,
    ) {
        if self.outbox.take(&plugin, Part::of(message.len_bytes())).is_err() {
            return self.lost(Why::OutboxFull(plugin), &exchange, 1);
        }
        self.send(exchange, message, plugin, origin);
    }

    /// The same for one that has room.
    fn send(&self, exchange: Name, message: OwnedMessage, plugin: Arc<str>, origin: Origin) {
        self.change(|state| {
            let at = (0, state.number());
            state.outbox.insert(exchange, at, Emission { message, plugin, origin, tries: 0, waits: false });
        });
    }

    /// Gives back what was taken and nothing emitted used.
    pub(crate) fn give_back_unused(&self, emitting: Emitting) {
        for (plugin, part) in emitting.room {
            self.outbox.give_back(&plugin, part);
        }
    }
}

/// How many messages are emitted by deeds.
pub(crate) fn count_emitted(deeds: &[Deed]) -> usize {
    deeds.iter().filter(|deed| matches!(deed, Deed::Emit { .. })).count()
}

/// What may descend from a message that is held from before the start: how much of it was left is not written.
pub(crate) fn emissions_max_after_start(hops: u8) -> u32 {
    if hops == 0 { EMISSIONS_MAX } else { u32::from(HOPS_MAX) }
}
