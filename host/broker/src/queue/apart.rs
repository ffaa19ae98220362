//! Bodies that are too large for a segment, each with an allocation of its own.

use super::{LARGE_BODY_BYTES, slab::Numbered};
use crate::memory::LargeBody;
use alloc::sync::Arc;
use core::ops::Range;
use leveret_model::MessageView;

/// Large bodies by the numbers of their messages.
#[derive(Default)]
pub(super) struct Apart {
    bodies: Numbered<Arc<LargeBody>>,
    bytes: usize,
}

impl Apart {
    /// How long all of them are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Arc<LargeBody>> {
        self.bodies.get(&sequence)
    }

    pub(super) fn insert(&mut self, sequence: u64, body: Arc<LargeBody>) {
        self.bytes += body.as_bytes().len();
        self.bodies.insert(sequence, body);
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        if let Some(body) = self.bodies.remove(&sequence) {
            self.bytes -= body.as_bytes().len();
        }
    }

    /// Forgets those of these messages, but for some.
    pub(super) fn remove_all(&mut self, numbers: &Range<u64>, stays: impl Fn(u64) -> bool) {
        let bytes = &mut self.bytes;
        self.bodies.retain(|number, body| {
            let stays = !numbers.contains(number) || stays(*number);
            *bytes -= if stays { 0 } else { body.as_bytes().len() };
            stays
        });
    }

    /// Forgets all, and all memory.
    pub(super) fn clear(&mut self) {
        if self.bodies.capacity() > 0 {
            *self = Self::default();
        }
    }
}

/// Whether the body of a message has an allocation of its own, or is far: then that is [`LargeBody`]'s.
#[inline]
pub(crate) fn is_apart(message: &MessageView<'_>) -> bool {
    message.body.len() >= LARGE_BODY_BYTES || message.is_far()
}

/// The body of a member of a batch that is large.
pub(crate) fn large_of(large: &[(u32, Arc<LargeBody>)], member: u32) -> Option<&Arc<LargeBody>> {
    let found = large.binary_search_by_key(&member, |(index, _)| *index).ok();
    found.and_then(|index| large.get(index)).map(|(_, body)| body)
}
