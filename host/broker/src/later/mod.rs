//! What is to happen later in a vhost: held messages go on, timers fire, emitted messages are
//! published.
//!
//! *In:* what exchange types answer and ask for while messages are routed. *Out:* messages into the
//! same routing walk, calls of [`crate::port::Router::timer`]. Nothing here runs by itself: one
//! housekeeper a vhost calls [`Vhost::run_later`] when [`Vhost::next_message_ms`] says so, has
//! [`Vhost::run_errands`] called where nobody waits when [`Vhost::errands_due`] does, and looks again when
//! its [`Wake`] is called. Time comes from the router.
//!
//! *Invariants:* held messages go on in the order of their times, those of the same time in the
//! order in which they were held. What an exchange's type does not take when its time comes stays
//! and is tried again: a held message [`RELEASE_TRIES_MAX`] times, then it is set aside until the exchange's
//! bindings or the plugins change (`stuck.rs`); an emitted one [`EMISSION_TRIES_MAX`] times and a timer
//! [`TIMER_TRIES_MAX`] times, then they are given up. While a plugin cannot be asked at all no try counts. What
//! waits for one exchange keeps nothing of another. The lock is taken last of all, and nothing is
//! called under it.
//!
//! `schedule.rs` has the order, `run.rs` the housekeeper's part, `timers.rs` all of timers.

mod emitting;
mod keeping;
mod outbox;
mod report;
mod room;
mod run;
mod schedule;
mod stuck;
mod timers;

pub use report::{HoldInfo, LaterCounters, Loss, TimerInfo, Why};
pub use room::{HoldLimits, HoldQuota, KEPT_OVERHEAD_BYTES, NoRoom};
pub use run::{Housekeeping, Ran};

use crate::{
    exchange::{Exchange, ExchangeId},
    far,
    memory::MemoryAccount,
    origin::Origin,
    port::{Hold, HoldId, Layer, Wake},
    receipt::Receipt,
    store::{Ranges, Store},
    vhost::Vhost,
};
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use emitting::{Emitting, count_emitted};
use hashbrown::HashMap;
use keeping::Keeping;
pub(crate) use keeping::{ToKeep, is_kept};
use leveret_model::{MessageView, Name, OwnedMessage};
use outbox::Outbox;
pub(crate) use outbox::Part;
use parking_lot::Mutex;
use room::Room;
use schedule::{At, Schedule, Taken};
use stuck::Stuck;

/// How many emissions may lead to one another: a message that the ninth emits is dropped.
pub const HOPS_MAX: u8 = 8;
/// How many messages may be emitted because of one, all those together that emissions of it lead to.
pub const EMISSIONS_MAX: u32 = 10_000;
/// How often an emitted message is tried, some fifty seconds together.
pub const EMISSION_TRIES_MAX: u32 = 10;
/// How often a held message may be refused before it is set aside, some fifty seconds together.
pub const RELEASE_TRIES_MAX: u32 = 10;
/// How often the call of a timer may fail, some fifty seconds together.
pub const TIMER_TRIES_MAX: u32 = 10;
/// How long to wait before something is tried again for the first time, in milliseconds; then
/// twice as long each time.
pub const RETRY_AFTER_MS_MIN: u64 = 100;
/// How long to wait before something is tried again at most, in milliseconds, if the virtual host is told
/// nothing else ([`Vhost::set_retry_ms_max`]).
pub const RETRY_AFTER_MS_MAX: u64 = 30_000;
/// How many timers one vhost may have.
pub const TIMERS_MAX: usize = 65_536;
/// How many timers one exchange may have.
pub const EXCHANGE_TIMERS_MAX: usize = 1_000;
/// The least time between two calls of a timer of one name, in milliseconds.
pub const TIMER_PAUSE_MS_MIN: u64 = 10;
/// How much may wait to be emitted in a virtual host; of that, one plugin has what is left to the others at most: half,
/// if no other emits.
pub const OUTBOX_LIMITS: HoldLimits = HoldLimits { messages_max: 200_000, bytes_max: 128 * 1024 * 1024 };

/// How many different losses are told apart between two runs; the counters count all.
const LOSSES_MAX: usize = 64;

/// Where the types of one exchange go on.
type Place = (ExchangeId, Layer);
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

pub(crate) struct Later {
    state: Mutex<State>,
    bell: Arc<Bell>,
    held: Room,
    keeping: Keeping,
    outbox: Outbox,
    /// The longest pause before something is tried again, in milliseconds.
    retry_ms_max: AtomicU64,
}

#[derive(Default)]
struct State {
    holds: Schedule<Place, Held>,
    stuck: Stuck,
    held_at: Map<HoldId, (Place, At)>,
    /// Where messages are held from before the start, and no plugin is charged for them yet.
    uncharged: Map<Place, Arc<Exchange>>,
    timers: Schedule<Place, Timer>,
    timer_at: Map<(Place, Name), At>,
    /// When timers were called that may not be again yet.
    called: Map<(Place, Name), u64>,
    /// By the name of the exchange.
    outbox: Schedule<Name, Emission>,
    last_number: u64,
    counters: LaterCounters,
    losses: Vec<Loss>,
}

/// A message is to be held by an exchange.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) hold: Hold,
    /// Of whoever decided so.
    pub(crate) quota: Option<Arc<HoldQuota>>,
}

struct Held {
    exchange: Arc<Exchange>,
    quota: Option<Arc<HoldQuota>>,
    message: OwnedMessage,
    due_ms: u64,
    origin: Origin,
    /// How often it was refused since it was due, or since what answers changed.
    tries: u32,
    /// It is set aside, and for this reason.
    stuck: Option<Arc<str>>,
    /// It is in the store too.
    kept: bool,
}

struct Timer {
    exchange: Arc<Exchange>,
    name: Name,
    /// When it was to fire, however often it is tried.
    due_ms: u64,
    /// How often its call failed.
    tries: u32,
}

struct Emission {
    message: OwnedMessage,
    /// Of that plugin.
    plugin: Arc<str>,
    origin: Origin,
    tries: u32,
    /// It was not answered when it was tried last.
    waits: bool,
}

/// Wakes the housekeeper. Given to the router, it also notes that what was pending is answered.
#[derive(Default)]
struct Bell {
    answered: AtomicBool,
    housekeeper: Mutex<Option<Arc<dyn Wake>>>,
}

impl Bell {
    fn ring(&self) {
        let housekeeper = self.housekeeper.lock().clone();
        if let Some(housekeeper) = housekeeper {
            housekeeper.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.answered.store(true, Ordering::Release);
        self.ring();
    }
}

impl State {
    fn next_ms(&self) -> Option<u64> {
        self.next_message_ms().into_iter().chain(self.timers.next_ms()).min()
    }

    fn next_message_ms(&self) -> Option<u64> {
        let next = [self.holds.next_ms(), self.outbox.next_ms(), self.stuck.look_ms()];
        next.into_iter().flatten().min()
    }

    fn waits(&self) -> bool {
        self.holds.waits() || self.timers.waits() || self.outbox.waits()
    }

    fn timers_of(&self, exchange: ExchangeId) -> usize {
        self.timers.lanes(layers(exchange)).map(|(_, timers)| timers.len()).sum()
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn lost(&mut self, why: Why, name: &Name, count: u64) {
        *match why {
            Why::NoQueue => &mut self.counters.enqueues_lost,
            Why::QueueFull => &mut self.counters.queues_full,
            Why::ExchangeDeleted => &mut self.counters.holds_lost,
            Why::TooManyTimers => &mut self.counters.timers_refused,
            Why::TimerFailed(_) => &mut self.counters.timers_failed,
            Why::HoldStuck(_) => &mut self.counters.holds_stuck,
            Why::LetterStuck(_) => &mut self.counters.letters_stuck,
            Why::HistoryShortened => &mut self.counters.histories_shortened,
            Why::HoldAgain | Why::LetterAgain => &mut self.counters.tried_again,
            Why::NotWritten(_) => &mut self.counters.effects_lost,
            Why::TooManyHops(_)
            | Why::TooManyEmissions(_)
            | Why::OutboxFull(_)
            | Why::NoExchange
            | Why::NotAccepted(_) => &mut self.counters.emissions_lost,
        } += count;
        if let Some(same) = self.losses.iter_mut().find(|loss| loss.why == why && loss.name == *name) {
            same.count += count;
        } else if self.losses.len() < LOSSES_MAX {
            self.losses.push(Loss { why, name: name.clone(), count });
        }
    }

    /// Keeps a held message; gives it back if its exchange is gone.
    #[must_use]
    fn keep(&mut self, place: Place, at: At, held: Held) -> Option<Held> {
        if held.exchange.is_deleted() {
            self.lost(Why::ExchangeDeleted, &held.exchange.spec.name, 1);
            return Some(held);
        }
        self.held_at.insert(HoldId(at.1), (place, at));
        self.holds.insert(place, at, held);
        None
    }
}

impl Later {
    pub(crate) fn new(account: &Arc<MemoryAccount>, store: Arc<dyn Store>) -> Self {
        Self {
            state: Mutex::default(),
            bell: Arc::default(),
            held: Room::new(account.clone(), HoldLimits::default()),
            keeping: Keeping::new(store),
            outbox: Outbox::new(account.clone(), OUTBOX_LIMITS),
            retry_ms_max: AtomicU64::new(RETRY_AFTER_MS_MAX),
        }
    }

    /// How long to wait before something is tried again, that was tried so often.
    fn retry_after_ms(&self, tries: u32) -> u64 {
        let doubled = RETRY_AFTER_MS_MIN.checked_shl(tries.saturating_sub(1).min(32));
        doubled.unwrap_or(u64::MAX).min(self.retry_ms_max.load(Ordering::Relaxed))
    }

    /// How often to look whether what is set aside may be answered otherwise.
    pub(crate) fn look_every_ms(&self) -> u64 {
        stuck::LOOK_EVERY_MS.min(self.retry_ms_max.load(Ordering::Relaxed))
    }

    /// Changes the state, and wakes the housekeeper if there is something to do earlier than
    /// before.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let (result, earlier) = {
            let mut state = self.state.lock();
            let (due_ms, quiet) = (state.next_ms(), state.losses.is_empty());
            let result = change(&mut state);
            let earlier = match (due_ms, state.next_ms()) {
                (Some(before), Some(now)) => now < before,
                (None, now) => now.is_some(),
                (Some(_), None) => false,
            };
            (result, earlier || (quiet && !state.losses.is_empty()))
        };
        if earlier {
            self.bell.ring();
        }
        result
    }

    /// There is a change to tell.
    pub(crate) fn wake_housekeeper(&self) {
        self.bell.ring();
    }

    /// Takes room for a message that is to be held in these places.
    pub(crate) fn make_room(&self, message: &MessageView<'_>, places: &[Holding]) -> Result<(), NoRoom> {
        if places.is_empty() {
            return Ok(());
        }
        let quotas = || places.iter().filter_map(|holding| holding.quota.as_ref());
        for (taken, quota) in quotas().enumerate() {
            if let Err(no_room) = quota.take(message) {
                quotas().take(taken).for_each(|quota| quota.give_back(message));
                return Err(no_room);
            }
        }
        self.held
            .take(message, places.len() as u64)
            .inspect_err(|_| quotas().for_each(|quota| quota.give_back(message)))
    }

    /// Gives back the room that was made for a message at one place, which is not held there after all.
    pub(crate) fn give_back_room(&self, message: &MessageView<'_>, place: &Holding) {
        self.held.give_back(message);
        if let Some(quota) = &place.quota {
            quota.give_back(message);
        }
    }

    /// A message that was held is not any more.
    fn let_go(&self, held: &Held) {
        let message = held.message.view();
        self.held.give_back(&message);
        if let Some(quota) = &held.quota {
            quota.give_back(&message);
        }
    }

    /// Holds messages for which room was made, each with its place in its batch. Those that are to be written go
    /// into `to_keep`.
    pub(crate) fn hold<'a>(
        &self,
        now_ms: u64,
        messages: impl Iterator<Item = (u32, Holding, MessageView<'a>, Origin)>,
        to_keep: &mut Vec<ToKeep>,
    ) {
        // Copied before the lock is taken.
        let holds: Vec<_> = messages
            .map(|(index, Holding { exchange, hold, quota }, message, origin)| {
                let due_ms = now_ms.saturating_add(hold.delay_ms);
                let kept = is_kept(&*self.keeping.store, &exchange, &message);
                let message = far::copy(&message, &*self.keeping.store);
                let place = (exchange.id, hold.resume);
                let (tries, stuck) = (0, None);
                (index, place, Held { exchange, quota, message, due_ms, origin, tries, stuck, kept })
            })
            .collect();
        self.change(|state| {
            for (message, place, held) in holds {
                state.counters.held += 1;
                let at = (held.due_ms, state.number());
                let (exchange, due_ms, kept) = (held.exchange.clone(), held.due_ms, held.kept);
                if let Some(held) = state.keep(place, at, held) {
                    self.let_go(&held);
                } else if kept {
                    to_keep.push(ToKeep { message, exchange, resume: place.1, due_ms, number: at.1 });
                }
            }
        });
    }

    /// Counts what is lost, and has it told.
    pub(crate) fn lost(&self, why: Why, name: &Name, count: u64) {
        self.change(|state| state.lost(why, name, count));
    }

    /// Drops a held message; with an exchange, only if that one holds it: numbers are easily guessed.
    pub(crate) fn cancel_hold(&self, id: HoldId, by: Option<ExchangeId>) -> bool {
        let kept = self.take_hold(id, by);
        self.keeping.settle(kept.as_deref().unwrap_or_default());
        kept.is_some()
    }

    /// Takes out a held message; gives its number where it is kept.
    fn take_hold(&self, id: HoldId, by: Option<ExchangeId>) -> Option<Vec<Ranges>> {
        let mut state = self.state.lock();
        let (place, at) = state.held_at.get(&id).copied()?;
        if by.is_some_and(|exchange| exchange != place.0) {
            return None;
        }
        let mut kept = Vec::new();
        state.held_at.remove(&id);
        let held = state.holds.remove(&place, at).or_else(|| state.stuck.remove(&place, at));
        if let Some(held) = held {
            self.let_go(&held);
            state.counters.holds_cancelled += 1;
            if held.kept {
                Ranges::push(&mut kept, id.0);
            }
        }
        Some(kept)
    }

    /// Drops what waits for an exchange that is marked as deleted.
    pub(crate) fn exchange_gone(&self, exchange: &Exchange) {
        self.change(|state| {
            let (lost, kept) = self.remove_holds(state, exchange.id);
            self.keeping.settle(&kept);
            if lost > 0 {
                state.lost(Why::ExchangeDeleted, &exchange.spec.name, lost);
            }
            let places: Vec<Place> =
                state.timers.lanes(layers(exchange.id)).map(|(place, _)| *place).collect();
            for place in places {
                for (_, timer) in state.timers.remove_lane(&place) {
                    state.timer_at.remove(&(place, timer.name));
                }
            }
        });
    }

    /// How many messages an exchange holds.
    pub(crate) fn hold_count(&self, exchange: ExchangeId) -> usize {
        let state = self.state.lock();
        let waiting = state.holds.lanes(layers(exchange)).map(|(_, held)| held.len());
        let stuck = state.stuck.lanes(layers(exchange)).map(|(_, held)| held.len());
        waiting.chain(stuck).sum()
    }

    /// How many messages an exchange holds because its type at that layer said so, and how many of them are
    /// set aside.
    pub(crate) fn held_by(&self, exchange: ExchangeId, layer: Layer) -> (usize, usize) {
        let place = (exchange, Layer(layer.0.saturating_add(1)));
        let state = self.state.lock();
        let waiting: usize = state.holds.lanes(place..=place).map(|(_, held)| held.len()).sum();
        let stuck: usize = state.stuck.lanes(place..=place).map(|(_, held)| held.len()).sum();
        (waiting + stuck, stuck)
    }

    /// The messages that an exchange holds, by their times.
    pub(crate) fn holds(&self, exchange: ExchangeId, skip: usize, max: usize) -> Vec<HoldInfo> {
        let state = self.state.lock();
        let lanes = state.holds.lanes(layers(exchange)).chain(state.stuck.lanes(layers(exchange)));
        let mut first: Vec<_> =
            lanes.flat_map(|(_, held)| held.iter().take(skip.saturating_add(max))).collect();
        first.sort_unstable_by_key(|(at, _)| **at);
        let page = first.into_iter().skip(skip).take(max);
        page.map(|(at, held)| HoldInfo {
            id: HoldId(at.1),
            due_ms: held.due_ms,
            length_bytes: held.message.view().whole_bytes(),
            routing_key: held.message.routing_key.clone(),
            tries: held.tries,
            stuck: held.stuck.clone(),
        })
        .collect()
    }

    /// Takes out what an exchange holds; gives how many, and the numbers of those that are kept.
    fn remove_holds(&self, state: &mut State, exchange: ExchangeId) -> (u64, Vec<Ranges>) {
        state.uncharged.retain(|place, _| place.0 != exchange);
        let waiting: Vec<Place> = state.holds.lanes(layers(exchange)).map(|(place, _)| *place).collect();
        let mut gone = state.stuck.remove_all(layers(exchange));
        gone.extend(waiting.iter().flat_map(|place| state.holds.remove_lane(place)));
        let (mut removed, mut kept) = (0, Vec::new());
        for (at, held) in gone {
            state.held_at.remove(&HoldId(at.1));
            self.let_go(&held);
            if held.kept {
                Ranges::push(&mut kept, at.1);
            }
            removed += 1;
        }
        (removed, kept)
    }
}

impl Vhost {
    /// Who is woken when [`Self::next_due_ms`] becomes earlier, and when there is a loss or a change to
    /// tell.
    pub fn set_housekeeper(&self, housekeeper: Arc<dyn Wake>) {
        *self.later.bell.housekeeper.lock() = Some(housekeeper);
    }

    /// When a message or a timer is due, in milliseconds since 1970.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.next_message_ms().into_iter().chain(self.next_timer_ms()).min()
    }

    /// When [`Self::run_later`] has something to do, in milliseconds since 1970.
    #[must_use]
    pub fn next_message_ms(&self) -> Option<u64> {
        let answered = self.later.bell.answered.load(Ordering::Acquire);
        let deaths_ms = self.deaths.next_ms(answered);
        let state = self.later.state.lock();
        if answered && state.waits() {
            return Some(0);
        }
        state.next_message_ms().into_iter().chain(deaths_ms).min()
    }

    /// When a timer is due, in milliseconds since 1970.
    #[must_use]
    pub fn next_timer_ms(&self) -> Option<u64> {
        self.later.state.lock().timers.next_ms()
    }

    /// How much may be held from now on; what is held stays.
    pub fn set_hold_limits(&self, limits: HoldLimits) {
        self.later.held.set_limits(limits);
    }

    /// How many messages and bytes are held, [`KEPT_OVERHEAD_BYTES`] a message included.
    #[must_use]
    pub fn held(&self) -> (u64, u64) {
        self.later.held.taken()
    }

    /// How many messages an exchange holds.
    #[must_use]
    pub fn hold_count(&self, exchange: &[u8]) -> usize {
        self.exchange(exchange).map_or(0, |exchange| self.later.hold_count(exchange.id))
    }

    /// The messages that an exchange holds, in the order in which they are to go on, from the
    /// `skip`th on, at most `max`.
    #[must_use]
    pub fn holds(&self, exchange: &[u8], skip: usize, max: usize) -> Vec<HoldInfo> {
        let exchange = self.exchange(exchange);
        exchange.map(|exchange| self.later.holds(exchange.id, skip, max)).unwrap_or_default()
    }

    /// How many of the messages that an exchange holds are set aside, because it refused them too often.
    #[must_use]
    pub fn stuck_count(&self, exchange: &[u8]) -> usize {
        let Some(exchange) = self.exchange(exchange) else { return 0 };
        let state = self.later.state.lock();
        state.stuck.lanes(layers(exchange.id)).map(|(_, held)| held.len()).sum()
    }

    /// Drops a held message; false if there is none of that number, or it goes on just now.
    pub fn cancel_hold(&self, id: HoldId) -> bool {
        self.cancel_hold_kept(id).is_some()
    }

    /// The same, with the receipt.
    pub fn cancel_hold_kept(&self, id: HoldId) -> Option<Receipt> {
        let kept = self.later.take_hold(id, None)?;
        Some(self.later.keeping.settle_kept(&kept))
    }

    /// Drops all messages that an exchange holds; returns how many.
    pub fn cancel_holds(&self, exchange: &[u8]) -> u64 {
        self.cancel_holds_kept(exchange).0
    }

    /// The same, with the receipt.
    pub fn cancel_holds_kept(&self, exchange: &[u8]) -> (u64, Receipt) {
        let Some(exchange) = self.exchange(exchange) else {
            return (0, Receipt::default());
        };
        let (cancelled, kept) = {
            let mut state = self.later.state.lock();
            let removed = self.later.remove_holds(&mut state, exchange.id);
            state.counters.holds_cancelled += removed.0;
            removed
        };
        (cancelled, self.later.keeping.settle_kept(&kept))
    }

    /// From now on nothing waits longer than that, in milliseconds, before it is tried again: what is held, is
    /// emitted or is due, and dead letters.
    pub fn set_retry_ms_max(&self, ms: u64) {
        self.later.retry_ms_max.store(ms, Ordering::Relaxed);
    }

    /// The longest that something waits before it is tried again, in milliseconds.
    pub(crate) fn retry_ms_max(&self) -> u64 {
        self.later.retry_ms_max.load(Ordering::Relaxed)
    }

    /// What was counted.
    #[must_use]
    pub fn later_counters(&self) -> LaterCounters {
        self.later.state.lock().counters
    }
}

/// All places of an exchange.
fn layers(exchange: ExchangeId) -> core::ops::RangeInclusive<Place> {
    (exchange, Layer::FRONT)..=(exchange, Layer(u8::MAX))
}
