//! How long a queue may be: what becomes of messages beyond that.
//!
//! What waits for consumers that can take it does not count: they are about to come for it. Where publishes are refused
//! beyond it, dead letters that are to be kept until a queue takes them count, or there would be any number of them.

use super::{
    Queue,
    record::DEAD_LETTERED,
    settings::{Overflow, QueueKind},
    state::State,
};
use crate::{dead_letter::DeathReason, later::Part};
use leveret_model::MessageView;

/// How many messages do not count at most because a consumer can take them.
const AWAITED_MAX: u32 = 4096;
/// Nor more than so many bytes of them.
const AWAITED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How many go at once; the rest is for the housekeeper.
const SHORTENED_MAX: usize = 4096;

impl Queue {
    /// Whether it would not accept so much, of bodies alone: a look that says nothing of what comes until then.
    pub(crate) fn refuses(&self, part: Part) -> bool {
        let mut state = self.state.lock();
        state.settings.overflow == Overflow::RejectPublish
            && state.settings.is_limited()
            && !state.is_deleted()
            && state.is_long((part.messages, part.bytes))
    }
}

impl State {
    /// Whether one more message, this one, with these flags of a record, is not to be accepted.
    #[inline]
    pub(super) fn is_full(&mut self, message: &MessageView<'_>, flags: u8) -> bool {
        let is_asked = self.settings.overflow != Overflow::DropHead && self.settings.is_limited();
        is_asked && self.has_no_room_for(message, flags)
    }

    /// As in RabbitMQ a quorum queue takes a dead letter that is one too many: two queues that are full of letters for
    /// each other would keep them for ever, and take nothing else.
    #[inline(never)]
    fn has_no_room_for(&mut self, message: &MessageView<'_>, flags: u8) -> bool {
        let may_be_one_too_many = flags & DEAD_LETTERED != 0 && self.settings.kind == QueueKind::Quorum;
        let more = if may_be_one_too_many { (0, 0) } else { (1, message.body_bytes()) };
        if !self.is_long(more) {
            return false;
        }
        self.serve();
        self.is_long(more)
    }

    /// Lets the oldest go while there are too many, up to a bound; whether there are still too many then.
    pub(super) fn shorten(&mut self) -> bool {
        if self.settings.overflow != Overflow::DropHead || !self.settings.is_limited() {
            return false;
        }
        let mut gone = 0;
        while self.is_long((0, 0))
            && let (Some(head), _) = self.unwatched(Self::take_ready)
        {
            self.die(head, DeathReason::MaxLength);
            gone += 1;
            if gone == SHORTENED_MAX {
                self.ageing.is_long = true;
                return true;
            }
        }
        false
    }

    /// Whether it would be too long with so many messages more, and so many bytes.
    fn is_long(&mut self, (messages, bytes): (u64, u64)) -> bool {
        let (awaited, ready) = (self.consumers.sole_credit(AWAITED_MAX) as usize, self.ready());
        let mut counted = ready.saturating_sub(awaited) as u64;
        if self.settings.keeps_letters && self.settings.overflow == Overflow::RejectPublish {
            counted += self.letters;
        }
        let too_many = self.settings.max_length.is_some_and(|most| counted + messages > most);
        let is_counted = counted + messages > 0;
        let too_long = self.settings.max_length_bytes.is_some_and(|most| {
            let beyond = (self.ready_bytes + bytes).saturating_sub(most);
            beyond > 0 && (is_counted || beyond > AWAITED_BYTES_MAX)
        });
        too_many || too_long
    }
}
