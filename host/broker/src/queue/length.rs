//! How long a queue may be: what becomes of messages beyond that.
//!
//! What waits for consumers that can take it does not count: they are about to come for it.

use super::{settings::Overflow, state::State};
use crate::dead_letter::DeathReason;

/// How many messages do not count at most because a consumer can take them.
const AWAITED_MAX: u32 = 65_536;

impl State {
    /// Whether one more message, with a body of so many bytes, is not to be accepted.
    pub(super) fn is_full(&mut self, body_bytes: usize) -> bool {
        if self.settings.overflow == Overflow::DropHead || !self.settings.is_limited() {
            return false;
        }
        let more = (1, body_bytes as u64);
        if !self.is_long(more) {
            return false;
        }
        self.serve();
        self.is_long(more)
    }

    /// Lets the oldest go while there are too many.
    pub(super) fn shorten(&mut self) {
        if self.settings.overflow != Overflow::DropHead || !self.settings.is_limited() {
            return;
        }
        while self.is_long((0, 0))
            && let (Some(head), _) = self.unwatched(Self::take_ready)
        {
            self.die(head, DeathReason::MaxLength);
        }
    }

    /// Whether it would be too long with so many messages more, and so many bytes.
    fn is_long(&mut self, (messages, bytes): (u64, u64)) -> bool {
        let (awaited, ready) = (self.consumers.sole_credit(AWAITED_MAX) as usize, self.ready());
        let counted = ready.saturating_sub(awaited) as u64;
        let too_many = self.settings.max_length.is_some_and(|most| counted + messages > most);
        let too_long = counted + messages > 0
            && self.settings.max_length_bytes.is_some_and(|most| self.ready_bytes + bytes > most);
        too_many || too_long
    }
}
