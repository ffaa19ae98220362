//! Consumers that are given copies: what they see stays where it is, for others (AMQP 1.0, 3.5.7: the distribution mode
//! `copy`).
//!
//! Each walks over what is ready from the head of the queue on, as consumers do that want some messages and not others
//! (`selective.rs`), and sees each message once; what comes later it sees then, and what comes back behind its place once
//! more. It is not among those whose turn it is: it takes nothing from anybody, keeps no queue from being deleted as unused,
//! and is no reason why one stays. What is handed out to others, set aside or expired it does not see.

use super::{
    consumers::{ConsumerKey, Consumers},
    handing::{Pull, Taker},
    lanes::Lanes,
    selective::{Budget, Candidate, Found, Pause, spend},
    state::State,
};

impl Consumers {
    /// Whether a consumer is given copies.
    pub(super) fn copies(&mut self, key: ConsumerKey) -> bool {
        !self.browsers.is_empty() && self.get_mut(key).is_some_and(|consumer| consumer.copies())
    }

    /// Tells those that are given copies, and have not seen all.
    #[cold]
    pub(super) fn tell_browsers(&mut self, lanes: &Lanes) {
        for index in 0..self.browsers.len() {
            let Some(key) = self.browsers.get(index).copied() else { break };
            let Some(consumer) = self.get_mut(key).filter(|consumer| consumer.own_credit(1) > 0) else {
                continue;
            };
            if consumer.selective.as_ref().is_some_and(|selective| selective.has_news(lanes)) {
                consumer.handle.notify();
            }
        }
    }
}

impl State {
    /// Gives a consumer copies of what it has not seen, at most `burst`; `now_ms` is the time.
    pub(super) fn browse(
        &mut self,
        key: ConsumerKey,
        burst: u32,
        taker: &mut impl Taker,
        now_ms: u64,
    ) -> Pull {
        let (mut left, mut budget) = (burst, Budget::default());
        loop {
            let Some(consumer) = self.consumers.get_mut(key).filter(|consumer| consumer.own_credit(1) > 0)
            else {
                return Pull::Drained;
            };
            if left == 0 {
                return Pull::Burst;
            }
            if !taker.has_room() {
                return Pull::NoRoom;
            }
            consumer.spend(1);
            let found = self.copy_next(key, (&mut budget, now_ms), taker);
            let Some(consumer) = self.consumers.get_mut(key) else { return Pull::Drained };
            if !matches!(found, Found::Message(_)) {
                consumer.refund(1);
            }
            match found {
                Found::Message(_) => left -= 1,
                Found::Nothing => return Pull::Drained,
                Found::Paused(Pause::Unfinished) => return Pull::Unfinished,
                Found::Paused(Pause::Later) => return Pull::Later,
            }
        }
    }

    /// Hands a copy of the next message to `taker` that a consumer has not seen and wants.
    fn copy_next(
        &mut self,
        key: ConsumerKey,
        (budget, now_ms): (&mut Budget, u64),
        taker: &mut impl Taker,
    ) -> Found {
        loop {
            let Self { lanes, consumers, .. } = self;
            let Some(selective) = consumers.selective_mut(key) else { return Found::Nothing };
            let (message, spot) = match selective.candidate(lanes) {
                Candidate::Message(message, spot) => (message, spot),
                Candidate::Load(lane, first) => match self.read_ahead((lane, first), budget) {
                    None => continue,
                    Some(found) => return found,
                },
                Candidate::Nothing => return Found::Nothing,
            };
            if !spend(&mut budget.messages) {
                return Found::Paused(Pause::Unfinished);
            }
            let is_aside = self.tries.suspects.as_ref().is_some_and(|suspects| suspects.is_aside(message));
            let is_gone = is_aside || self.is_expired(message, now_ms);
            if self.tries.tells() {
                self.tell_handing_out(message);
            }
            let Self { lanes, consumers, tries, patched, .. } = self;
            let Some(selective) = consumers.selective_mut(key) else { return Found::Nothing };
            selective.pass(message, spot, lanes);
            let Some(stored) = lanes.stored(message).filter(|_| !is_gone) else { continue };
            let view = tries.told(message, stored.message, patched);
            if selective.wants(&view, stored.redelivered) {
                taker.take(message, stored.redelivered, view);
                return Found::Message(message);
            }
        }
    }
}
