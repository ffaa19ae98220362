//! Handing messages out: to consumers, which come for them, and to whoever gets one.

use super::{
    GotMessage,
    consumers::ConsumerKey,
    selective::{Budget, Pause},
    slab::MessageRef,
    state::State,
};
use leveret_model::MessageView;

/// Takes messages for a consumer, under the queue's lock.
pub(crate) trait Taker {
    fn has_room(&self) -> bool;
    fn take(&mut self, message: MessageRef, redelivered: bool, view: MessageView<'_>);
    /// Whether what a consumer without acknowledgements takes is settled by whoever took it.
    fn settles(&self) -> bool {
        false
    }
}

/// Why a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pull {
    /// Nothing more for this consumer; it will be told when there is.
    Drained,
    /// The burst is over; there may be more.
    Burst,
    /// There is more, but no room.
    NoRoom,
    /// What comes next cannot be read from the store now: pull again in a while. Nobody tells when.
    Later,
    /// It has not looked at all that is there: pull again when others had their turn. Nobody tells when.
    Unfinished,
}

impl State {
    /// Gives a consumer what is for it, at most `burst` messages; `now_ms` is the time.
    pub(super) fn pull(&mut self, key: ConsumerKey, burst: u32, taker: &mut impl Taker, now_ms: u64) -> Pull {
        self.later = false;
        self.tell_handed_out();
        if self.consumers.sole() == Some(key) {
            return self.pull_ready(key, burst, taker, now_ms);
        }
        if self.consumers.copies(key) {
            return self.browse(key, burst, taker, now_ms);
        }
        let (mut left, mut budget) = (burst, Budget::default());
        loop {
            let Some(consumer) = self.consumers.get_mut(key) else {
                return Pull::Drained;
            };
            let no_ack = consumer.no_ack;
            if consumer.assigned.is_empty() {
                if self.consumers.stands_by(key) {
                    return Pull::Drained;
                }
                if let Some(selective) = self.consumers.selective_mut(key) {
                    selective.pause = None;
                }
                self.consumers.rejoin(key);
                self.assign(&mut budget, Some(key));
                if self.consumers.get_mut(key).is_none_or(|consumer| consumer.assigned.is_empty()) {
                    return self.nothing_for(key);
                }
                continue;
            }
            if left == 0 {
                return Pull::Burst;
            }
            if !taker.has_room() {
                return Pull::NoRoom;
            }
            let Some(message) = consumer.assigned.pop_front() else {
                return Pull::Drained;
            };
            if self.is_unfit(message, now_ms) {
                if let Some(consumer) = self.consumers.get_mut(key) {
                    consumer.release_one();
                }
                continue;
            }
            let is_alone = self.tries.is_alone(message);
            if is_alone && left < burst {
                if let Some(consumer) = self.consumers.get_mut(key) {
                    consumer.assigned.push_front(message);
                }
                return Pull::Burst;
            }
            self.hand_out(message, no_ack, taker);
            left = if is_alone { 0 } else { left - 1 };
        }
    }

    /// Why there is nothing for a consumer that pulls.
    fn nothing_for(&mut self, key: ConsumerKey) -> Pull {
        match self.consumers.pause(key) {
            Some(Pause::Unfinished) => Pull::Unfinished,
            Some(Pause::Later) => Pull::Later,
            None if self.later => Pull::Later,
            None => Pull::Drained,
        }
    }

    /// For the only consumer, straight from what is ready.
    fn pull_ready(&mut self, key: ConsumerKey, burst: u32, taker: &mut impl Taker, now_ms: u64) -> Pull {
        let wanted = burst.min(u32::try_from(self.ready()).unwrap_or(u32::MAX));
        if self.consumers.is_to_hand_over() {
            return Pull::Drained;
        }
        let Some(consumer) = self.consumers.get_mut(key) else {
            return Pull::Drained;
        };
        let no_ack = consumer.no_ack;
        let wanted = consumer.own_credit(wanted);
        let granted = if no_ack || wanted == 0 { wanted } else { consumer.credit.acquire(wanted) };
        if granted == 0 {
            return Pull::Drained;
        }
        let (mut taken, mut is_cut) = (0, false);
        while taken < granted && taker.has_room() {
            let run = self.hand_out_run(granted - taken, no_ack, taker);
            if run > 0 {
                taken += run;
                continue;
            }
            let Some(message) = self.take_fresh(now_ms) else { break };
            let is_alone = self.tries.is_alone(message);
            if is_alone && taken > 0 {
                self.untake(message);
                is_cut = true;
                break;
            }
            self.hand_out(message, no_ack, taker);
            taken += 1;
            if is_alone {
                is_cut = true;
                break;
            }
        }
        let (more, stuck) = (self.ready() > 0, self.is_stuck());
        let Some(consumer) = self.consumers.get_mut(key) else {
            return Pull::Drained;
        };
        if !no_ack {
            consumer.unsettled += taken;
            consumer.credit.release(granted - taken);
        }
        consumer.spend(taken);
        if stuck {
            Pull::Later
        } else if taken < granted && more && !is_cut {
            Pull::NoRoom
        } else if more && consumer.own_credit(1) > 0 {
            Pull::Burst
        } else {
            Pull::Drained
        }
    }

    fn hand_out(&mut self, message: MessageRef, no_ack: bool, taker: &mut impl Taker) {
        if self.tries.tells() {
            self.tell_handing_out(message);
        }
        let Self { lanes, tries, patched, .. } = self;
        let mut kept = false;
        if let Some(stored) = lanes.stored(message) {
            kept = stored.kept;
            taker.take(message, stored.redelivered, tries.told(message, stored.message, patched));
        }
        if no_ack && !taker.settles() {
            self.forget(message);
        } else if kept {
            self.lanes.note_delivered(message);
        }
    }

    /// Takes back what was handed out and did not reach anybody: as if it had not been. Nobody is
    /// told that it is ready again.
    pub(super) fn take_back(&mut self, message: MessageRef, key: Option<ConsumerKey>) {
        self.untake(message);
        self.let_go(key, 1);
    }

    /// Hands out one message that is not expired at the time `now_ms`, and for which no consumer has credit: what a
    /// consumer can take is its, as in RabbitMQ, where it would be on its way already.
    pub(super) fn get(
        &mut self,
        no_ack: bool,
        now_ms: u64,
        got: impl FnOnce(GotMessage<'_>, MessageRef),
    ) -> bool {
        if self.is_awaited() {
            return false;
        }
        // Whoever gets does not look again; a consumer that knows does.
        let (taken, _) = self.unwatched(|state| state.take_fresh(now_ms));
        let Some(taken) = taken else {
            return false;
        };
        // What would be next and is expired is not left.
        self.unwatched(|state| state.expire_heads(now_ms));
        let messages_left = self.ready() as u64;
        if self.tries.tells() {
            self.tell_handing_out(taken);
        }
        let Self { lanes, tries, patched, .. } = self;
        let Some(stored) = lanes.stored(taken) else {
            return false;
        };
        let (kept, redelivered) = (stored.kept, stored.redelivered);
        let message = tries.told(taken, stored.message, patched);
        got(GotMessage { message, redelivered, messages_left }, taken);
        self.tell_handed_out();
        if no_ack {
            self.forget(taken);
        } else if kept {
            self.lanes.note_delivered(taken);
        }
        true
    }

    /// Whether the only consumer can take all that is ready. Several take it as soon as it is.
    fn is_awaited(&mut self) -> bool {
        let ready = u32::try_from(self.ready()).unwrap_or(u32::MAX);
        !self.consumers.is_to_hand_over() && self.consumers.sole_credit(ready) == ready
    }
}
