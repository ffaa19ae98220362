//! Timers: set with what a type did, called when they are due.
//!
//! Those of an exchange that outlives the process do too: whoever asks a type writes with the rest of what it did that
//! a timer is set, or fired ([`StateChange::SetTimer`]); what is given up or has no room is told to the store here. After
//! a start they are set again, and are called when their plugin is there.

use super::{
    EXCHANGE_TIMERS_MAX, Later, Place, TIMER_PAUSE_MS_MIN, TIMER_TRIES_MAX, TIMERS_MAX, Timer, TimerInfo, Why,
};
use crate::{
    exchange::{Exchange, ExchangeId},
    origin::Origin,
    port::{Due, Fired, Layer, Router},
    store::{Change, StateChange},
    vhost::Vhost,
};
use alloc::{sync::Arc, vec::Vec};
use leveret_model::Name;

/// How many timers fire in one run. The run ends earlier once the clock shows another millisecond: what
/// takes long lets others have their turns in between.
const TIMERS_A_RUN_MAX: usize = 64;

impl Vhost {
    /// Fires some of the timers that are due; for [`Self::run_errands`].
    pub(crate) fn fire_timers(&self, router: &mut dyn Router) {
        let now_ms = router.now_ms();
        let (mut deeds, waker) = (Vec::new(), self.later.waker());
        for _ in 0..TIMERS_A_RUN_MAX {
            let Some((place, timer, tries)) = self.later.take_timer(now_ms) else {
                return;
            };
            let due = Due { name: &timer.name, due_ms: timer.due_ms };
            let fired = router.timer(&timer.exchange, place.1, due, &waker, &mut deeds);
            self.later.fired((now_ms, tries), place, timer, fired);
            self.perform(&mut deeds, Origin::default(), now_ms);
            if router.now_ms() > now_ms {
                return;
            }
        }
    }

    /// Sets the timers again that the store has. Gives how many.
    pub(crate) fn set_timers_again(&self) -> u64 {
        let mut found = Vec::new();
        self.store.timers(self.name(), &mut |holder, name, due_ms| found.push((holder, name, due_ms)));
        let mut again = 0;
        for (holder, name, due_ms) in found {
            let exchange = self.exchange(&holder.exchange);
            if let Some(exchange) = exchange.filter(|exchange| exchange.kept_id() == Some(holder.number)) {
                self.later.set_timer(exchange, holder.layer, name, due_ms);
                again += 1;
            }
        }
        again
    }
}

impl Later {
    pub(crate) fn set_timer(&self, exchange: Arc<Exchange>, layer: Layer, name: Name, due_ms: u64) {
        let place = (exchange.id, layer);
        let refused = self.change(|state| {
            // Looked at under the lock: whoever deletes the exchange comes here afterwards.
            if exchange.is_deleted() {
                return None;
            }
            if let Some(at) = state.timer_at.remove(&(place, name.clone())) {
                state.timers.remove(&place, at);
            } else if state.timer_at.len() >= TIMERS_MAX
                || state.timers_of(exchange.id) >= EXCHANGE_TIMERS_MAX
            {
                state.lost(Why::TooManyTimers, &exchange.spec.name, 1);
                return Some((exchange, name));
            }
            let key = (place, name.clone());
            let called_ms = state.called.get(&key).copied();
            let earliest_ms = called_ms.map_or(0, |called_ms| called_ms.saturating_add(TIMER_PAUSE_MS_MIN));
            let at = (due_ms.max(earliest_ms), state.number());
            state.timer_at.insert(key, at);
            state.timers.insert(place, at, Timer { exchange, name, due_ms, tries: 0 });
            None
        });
        if let Some((exchange, name)) = refused {
            self.end_in_store(&exchange, layer, name, due_ms);
        }
    }

    pub(crate) fn cancel_timer(&self, exchange: ExchangeId, layer: Layer, name: Name) {
        let place = (exchange, layer);
        let mut state = self.state.lock();
        if let Some(at) = state.timer_at.remove(&(place, name)) {
            state.timers.remove(&place, at);
        }
    }

    /// How many timers a type of an exchange has set.
    pub(crate) fn timer_count(&self, place: Place) -> usize {
        let state = self.state.lock();
        state.timers.lanes(place..=place).map(|(_, timers)| timers.len()).sum()
    }

    /// Those that are due first, at most `max`.
    pub(crate) fn timers(&self, place: Place, max: usize) -> Vec<TimerInfo> {
        let state = self.state.lock();
        let timers = state.timers.lanes(place..=place).flat_map(|(_, timers)| timers.values()).take(max);
        timers.map(|timer| TimerInfo { name: timer.name.clone(), due_ms: timer.due_ms }).collect()
    }

    /// A timer is not there any more, and no type did anything.
    fn end_in_store(&self, exchange: &Exchange, layer: Layer, name: Name, due_ms: u64) {
        if let Some(holder) = exchange.state_holder(layer) {
            let change = StateChange::EndTimer { name, due_ms: Some(due_ms) };
            // Not taken, it comes again after a start.
            let _ = self.keeping.store.append(&[Change { holder, change }]);
        }
    }

    fn take_timer(&self, now_ms: u64) -> Option<(Place, Timer, u32)> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.called.retain(|_, called_ms| now_ms.saturating_sub(*called_ms) < TIMER_PAUSE_MS_MIN);
        let taken = state.timers.take(now_ms, 1)?;
        let (_, timer) = taken.things.into_iter().next()?;
        state.timer_at.remove(&(taken.lane, timer.name.clone()));
        Some((taken.lane, timer, taken.tries))
    }

    /// A timer was called, whose lane was blocked so often in a row before. It is not called again at once, whatever
    /// the time that it is set to.
    fn fired(&self, (now_ms, tries): (u64, u32), place: Place, mut timer: Timer, fired: Fired) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let due_ms = match &fired {
            Fired::Done => {
                state.counters.timers_fired += 1;
                state.called.insert((place, timer.name), now_ms);
                state.timers.unblock(place);
                return;
            }
            Fired::Failed(why) => {
                timer.tries += 1;
                if timer.tries >= TIMER_TRIES_MAX {
                    state.lost(Why::TimerFailed(why.clone()), &timer.exchange.spec.name, 1);
                    state.timers.unblock(place);
                    drop(guard);
                    self.end_in_store(&timer.exchange, place.1, timer.name, timer.due_ms);
                    return;
                }
                now_ms.saturating_add(self.retry_after_ms(timer.tries))
            }
            Fired::Pending | Fired::Unavailable => now_ms,
        };
        let key = (place, timer.name.clone());
        // One of that name may have been set anew.
        if !timer.exchange.is_deleted() && !state.timer_at.contains_key(&key) {
            let at = (due_ms, state.number());
            state.timer_at.insert(key, at);
            state.timers.insert(place, at, timer);
        }
        if let Fired::Failed(_) = fired {
            state.timers.unblock(place);
            return;
        }
        let until_ms = now_ms.saturating_add(self.retry_after_ms(tries + 1));
        state.timers.block(place, until_ms, tries + 1, fired == Fired::Pending);
    }
}
