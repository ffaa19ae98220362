//! Dead letters: messages that their queue does not want any more go to its dead-letter exchange.
//!
//! A message that dies stays in its queue, handed out to nobody, until it is where it should go.
//! The connection at whose hand it died keeps it on a list ([`DeadLetters`]) and sends it on when no
//! lock is held: it copies a run of one queue's, writes their history ([`history`]), has them
//! intercepted, and publishes them as the broker publishes messages of its own. Once they are in
//! their queues or held they are settled where they lay, and only then the effects of the types and
//! interceptors that were asked are committed. So a failure on the way loses nothing.
//!
//! *Refused:* if a type or an interceptor refuses one, or cannot be asked, it stays in its queue and
//! is tried again after a while, longer each time; others are not held up. One that was refused
//! [`REFUSALS_MAX`] times is set aside, visibly: nobody is asked about it until its dead-letter exchange or the
//! plugins change. If the answer is pending, it and those behind it wait for the waker. When the connection ends, what is on its list goes
//! back to the front of its queue, marked as redelivered.
//!
//! *Held:* what a type holds counts as routed. It goes on with its history and as what it is, so
//! another death is counted there; but queues where it died are not left out then.
//!
//! *Too large:* what does not fit of a history is left out. Where some was left out before, so that it cannot be told
//! whether a letter goes in a circle, and not all of the rest fits, it is set aside at once.
//!
//! *Gone for good:* what no queue takes (unless its queue's strategy is `at-least-once`), what is dropped on purpose, and what would go round in a
//! circle in which no client rejects it. The queue counts each
//! ([`DeadLettering::counts`](crate::queue::DeadLettering::counts)).

mod deaths;
mod history;
mod letters;

use crate::{
    exchange::ExchangeId,
    intercept::{Interception, Standing},
    later::Why,
    memory::LargeBody,
    origin::{Origin, Sender},
    port::{Fate, Layer, Router, Site, Wake},
    publish::{Published, Publisher},
    queue::{DeadLettering, MessageRef, Queue, Settle},
    store::{self, Group},
    vhost::Vhost,
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    vec::Vec,
};
use core::sync::atomic::Ordering;
use letters::Prepared;
use leveret_model::Name;

pub(crate) use deaths::Deaths;
pub use history::DEATHS_MAX;
pub(crate) use letters::Letters;

/// How many dead letters are routed in one go.
const RUN_MESSAGES_MAX: usize = 256;
/// After so many bytes a run is not made longer.
const RUN_BYTES_MAX: usize = 1024 * 1024;
/// How long a dead letter waits that was refused once, in milliseconds; twice as long each time.
pub const BACK_OFF_MS_FIRST: u64 = 100;
/// How long one waits at most, in milliseconds.
pub const BACK_OFF_MS_MAX: u64 = 30_000;

/// How often one is refused, by a type or interceptor that was asked about it, before it is set aside. It is
/// in its queue still: deleting that drops it, and when its connection ends it goes back to the front.
pub const REFUSALS_MAX: u32 = 10;

/// Why a letter is set aside of which nobody was asked.
const UNWRITABLE: &str =
    "its headers leave no room for its history, and without that it might go round in a circle";

/// Why a message is dead-lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeathReason {
    /// A client rejected it, not to be requeued.
    Rejected,
    /// Its time to live is over.
    Expired,
    /// The queue is full.
    MaxLength,
    /// It was delivered in vain too often.
    DeliveryLimit,
}

impl DeathReason {
    /// The reason as the headers name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message that died and is in its queue still.
struct Dying {
    queue: Arc<Queue>,
    message: MessageRef,
    reason: DeathReason,
    /// It was a failure of whoever had it.
    failed: bool,
    /// How often it was tried in vain.
    tries: u32,
    /// How often of these it was refused by whoever was asked about it.
    refusals: u32,
}

/// What the answers about a queue's dead letters follow from, as far as is known: the exchange and the
/// plugins.
type Answering = (Option<(ExchangeId, u64)>, u64);

fn answering(vhost: &Vhost, to: &DeadLettering, router: &dyn Router) -> Answering {
    let exchange = vhost.exchange(&to.exchange);
    (
        exchange.map(|exchange| (exchange.id, exchange.own_generation())),
        router.plugins_generation(vhost.name()),
    )
}

/// The dead letters that one connection is to send on.
#[derive(Default)]
pub(crate) struct DeadLetters {
    /// To be routed now, in the order in which they died.
    fresh: VecDeque<Dying>,
    /// Refused ones by the time of their next try, in milliseconds since 1970, and a number.
    refused: BTreeMap<(u64, u64), Dying>,
    /// Set aside, with what it was refused by.
    stuck: Vec<(Dying, Answering)>,
    /// When to look whether something has changed for those.
    look_ms: u64,
    /// The first of `fresh` waits for a type's answer, and all behind it with it.
    pending: bool,
    last_number: u64,
    last_now_ms: u64,
    routing: Option<Box<Routing>>,
}

/// Scratch, made with the first dead letter.
#[derive(Default)]
struct Routing {
    letters: Letters,
    interception: Interception,
    publisher: Publisher,
    outcomes: Vec<Published>,
}

impl DeadLetters {
    /// Adds a message. Its queue was told that it is dying ([`Queue::condemn`]).
    pub(crate) fn push(&mut self, queue: &Arc<Queue>, message: MessageRef, reason: DeathReason) {
        self.add(queue, message, reason, false);
    }

    /// The same of one that a client settled so, and whether it failed on it.
    pub(crate) fn push_settled(&mut self, queue: &Arc<Queue>, message: MessageRef, failed: bool) {
        self.add(queue, message, DeathReason::Rejected, failed);
    }

    fn add(&mut self, queue: &Arc<Queue>, message: MessageRef, reason: DeathReason, failed: bool) {
        self.fresh.push_back(Dying { queue: queue.clone(), message, reason, failed, tries: 0, refusals: 0 });
    }

    /// Whether some are to be routed, and none waits for an answer.
    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty() && !self.pending
    }

    /// Whether the first waits for a type's answer.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending
    }

    /// How many are on the list.
    pub(crate) fn len(&self) -> usize {
        self.fresh.len() + self.refused.len() + self.stuck.len()
    }

    /// When the next of those that were refused is to be tried again, or looked at.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let refused = self.refused.first_key_value().map(|((due_ms, _), _)| *due_ms);
        let look_ms = (!self.stuck.is_empty()).then_some(self.look_ms);
        refused.into_iter().chain(look_ms).min()
    }

    /// Sends on what can be sent on; asks again where an answer was pending.
    pub(crate) fn send(&mut self, vhost: &Arc<Vhost>, router: &mut dyn Router, waker: &Arc<dyn Wake>) {
        let set_back = self.take_due(router.now_ms());
        self.take_changed(set_back, vhost, router);
        self.pending = false;
        let mut routing = self.routing.take().unwrap_or_default();
        while let Some(first) = self.fresh.front() {
            let queue = first.queue.clone();
            let Some(to) = queue.dead_lettering() else {
                // They had somewhere to go when they died.
                if let Some(dying) = self.fresh.pop_front() {
                    queue.settle_now(&[(dying.message, None)], Settle::Rejected);
                }
                continue;
            };
            let to = &*to;
            routing.interception.clear();
            let reason = first.reason;
            self.copy_run((&queue, to), reason, &mut routing.letters);
            let copied = routing.letters.len();
            if vhost.intercepts.dead_letter {
                let site = Site::DeadLetter { vhost: vhost.name(), queue: queue.name(), reason };
                let Routing { letters, interception, .. } = &mut *routing;
                letters.intercept(interception, (site, to), router, waker);
            }
            if routing.letters.len() == 0 && copied > 0 {
                self.pending = true;
                break;
            }
            if !self.send_run(&mut routing, (&queue, to), vhost, router, waker) {
                self.pending = true;
                break;
            }
        }
        routing.letters.clear();
        routing.interception.clear();
        routing.outcomes.clear();
        self.routing = Some(routing);
    }

    /// Has those tried again that were refused and are due. Gives whether the clock was set back.
    fn take_due(&mut self, now_ms: u64) -> bool {
        // A clock that was set back must not keep them waiting.
        let set_back = now_ms < self.last_now_ms;
        self.last_now_ms = now_ms;
        while let Some(next) = self.refused.first_entry() {
            if next.key().0 > now_ms && !set_back {
                break;
            }
            self.fresh.push_back(next.remove());
        }
        set_back
    }

    /// Has those tried again that are set aside and may be answered otherwise now.
    fn take_changed(&mut self, set_back: bool, vhost: &Vhost, router: &dyn Router) {
        if self.stuck.is_empty() || (self.last_now_ms < self.look_ms && !set_back) {
            return;
        }
        self.look_ms = self.last_now_ms.saturating_add(vhost.later.look_every_ms());
        for (mut dying, refused_by) in core::mem::take(&mut self.stuck) {
            let to = dying.queue.dead_lettering();
            if to.is_some_and(|to| answering(vhost, &to, router) == refused_by) {
                self.stuck.push((dying, refused_by));
                continue;
            }
            count_stuck(&dying, false);
            vhost.later.lost(Why::LetterAgain, dying.queue.name(), 1);
            (dying.tries, dying.refusals) = (0, 0);
            self.fresh.push_back(dying);
        }
    }

    /// Copies the first of the list that died in one queue for one reason, and writes their history.
    fn copy_run(
        &self,
        (queue, to): (&Arc<Queue>, &DeadLettering),
        reason: DeathReason,
        letters: &mut Letters,
    ) {
        let run = self.fresh.iter().take_while(|d| Arc::ptr_eq(&d.queue, queue) && d.reason == reason);
        letters.clear();
        queue.copy(run.take(RUN_MESSAGES_MAX).map(|dying| dying.message), RUN_BYTES_MAX, letters);
        for (index, dying) in self.fresh.iter().enumerate().take(letters.len()) {
            if dying.failed {
                letters.count_failure(index);
            }
            letters.write_history(index, (queue, to), reason, self.last_now_ms);
        }
    }

    /// Publishes the letters, the first of the list. False if some are left, since an answer is
    /// pending.
    fn send_run(
        &mut self,
        routing: &mut Routing,
        (queue, to): (&Arc<Queue>, &DeadLettering),
        vhost: &Arc<Vhost>,
        router: &mut dyn Router,
        waker: &Arc<dyn Wake>,
    ) -> bool {
        let Routing { letters, interception, publisher, outcomes } = routing;
        let keys = letters.more_keys(interception, to);
        let (places, batch) = letters.batch(interception, to, &keys);
        outcomes.clear();
        let mut run = Run {
            list: self,
            queue,
            to,
            letters,
            interception,
            places: &places,
            cycles: Vec::new(),
            dealt: 0,
            fates: Vec::new(),
            vhost,
            answering: answering(vhost, to, router),
        };
        match vhost.exchange(&to.exchange) {
            Some(exchange) if !batch.is_empty() => {
                let to = (&exchange, Layer::FRONT);
                publisher.publish_own(vhost, router, to, (&batch, &mut run), outcomes, waker);
            }
            _ => {
                outcomes.resize(batch.len(), Published::Unroutable);
                run.placed(outcomes, None);
            }
        }
        let (all, fates) = (run.dealt == letters.len(), core::mem::take(&mut run.fates));
        drop(batch);
        commit(letters, interception, (queue.name(), to, vhost), fates, self.last_now_ms);
        all
    }

    /// Keeps one that was tried in vain for another try.
    fn refuse(&mut self, mut dying: Dying, wait_ms_max: u64) {
        let wait_ms = BACK_OFF_MS_FIRST.saturating_mul(1 << dying.tries.min(16));
        dying.tries = dying.tries.saturating_add(1);
        self.last_number += 1;
        let due_ms = self.last_now_ms.saturating_add(wait_ms.min(wait_ms_max));
        self.refused.insert((due_ms, self.last_number), dying);
    }

    /// Leaves what died at nobody's hand, and was not tried yet, to the housekeeper.
    pub(crate) fn leave_deaths(&mut self) {
        self.fresh.retain(|dying| {
            let stays = dying.reason == DeathReason::Rejected || dying.tries > 0;
            if !stays {
                dying.queue.leave_dying(dying.message, dying.reason);
            }
            stays
        });
    }

    /// Puts what was rejected back to the front of where it was, and leaves all else to the housekeeper.
    pub(crate) fn give_back(&mut self) {
        let refused = core::mem::take(&mut self.refused);
        let stuck = self.stuck.drain(..).map(|(dying, _)| dying).inspect(|dying| count_stuck(dying, false));
        for dying in self.fresh.drain(..).chain(refused.into_values()).chain(stuck) {
            match dying.reason {
                DeathReason::Rejected => {
                    dying.queue.settle_now(&[(dying.message, None)], Settle::Requeue { failed: true });
                }
                reason => dying.queue.leave_dying(dying.message, reason),
            }
        }
    }
}

/// Counts one that is set aside, or is no more.
fn count_stuck(dying: &Dying, more: bool) {
    let Some(counters) = dying.queue.dead_letter_counters() else { return };
    match more {
        true => counters.stuck.fetch_add(1, Ordering::Relaxed),
        false => counters.stuck.fetch_sub(1, Ordering::Relaxed),
    };
}

/// Dead letters of one queue that are being published.
struct Run<'a> {
    list: &'a mut DeadLetters,
    queue: &'a Arc<Queue>,
    to: &'a DeadLettering,
    letters: &'a Letters,
    interception: &'a Interception,
    /// Which of the letters the messages of the batch are.
    places: &'a [usize],
    /// Which messages of the batch were kept from a queue. Rare.
    cycles: Vec<u32>,
    /// How many letters are off the list.
    dealt: usize,
    /// What became of those that are out of their queue.
    fates: Vec<(usize, Fate)>,
    vhost: &'a Vhost,
    answering: Answering,
}

/// Commits what interceptors did for letters that are where they belong.
fn commit(
    letters: &Letters,
    interception: &mut Interception,
    (queue, to, vhost): (&Name, &DeadLettering, &Vhost),
    fates: Vec<(usize, Fate)>,
    now_ms: u64,
) {
    let mut deeds = Vec::new();
    for (index, fate) in fates {
        let Some((shown, message)) = letters.as_shown(index, to) else { continue };
        let effects = interception.take_effects(shown);
        if effects.is_empty() {
            continue;
        }
        let message = interception.view(shown, &message);
        if let Err(failure) = store::keep(&*vhost.store, effects, (fate, &message), &mut deeds) {
            // The letter is where it belongs.
            vhost.later.lost(Why::NotWritten(failure.0), queue, 1);
        }
        vhost.perform(&mut deeds, Origin::default(), now_ms);
    }
}

/// How a dead letter ended.
#[derive(Clone, Copy)]
enum Ending {
    Gone,
    Routed,
    Unroutable,
    Cycle,
    Dropped,
    Refused,
    /// It would be no other another time.
    Unwritable,
    /// Nobody was asked about it.
    Unavailable,
}

impl Run<'_> {
    fn letter(&self, message: u32) -> usize {
        self.places.get(message as usize).copied().unwrap_or(usize::MAX)
    }

    fn ending(&self, message: usize, outcome: &Published) -> Ending {
        match outcome {
            Published::Routed => Ending::Routed,
            Published::Unroutable if self.cycles.contains(&(message as u32)) => Ending::Cycle,
            Published::Unroutable | Published::Full(_) if self.to.at_least_once => Ending::Unavailable,
            Published::Full(_) => Ending::Unroutable,
            Published::Unroutable => Ending::Unroutable,
            Published::Dropped => Ending::Dropped,
            Published::Rejected(_) => Ending::Refused,
            Published::Unavailable(_) | Published::Refused(_) => Ending::Unavailable,
        }
    }
}

impl Run<'_> {
    /// Keeps a letter that was refused too often, without another try until something changes.
    fn set_aside(&mut self, index: usize, dying: Dying, outcome: Option<&Published>) {
        let by_interceptor = match self.letters.as_shown(index, self.to) {
            Some((shown, _)) => match self.interception.standing(shown) {
                Standing::Rejected(why) => Some(why),
                _ => None,
            },
            None => None,
        };
        let why = by_interceptor.or_else(|| match outcome {
            Some(Published::Rejected(why)) => Some(why.clone()),
            _ => None,
        });
        let why = why.unwrap_or_else(|| Arc::from(UNWRITABLE));
        self.vhost.later.lost(Why::LetterStuck(why), self.queue.name(), 1);
        count_stuck(&dying, true);
        if self.list.stuck.is_empty() {
            self.list.look_ms = self.list.last_now_ms.saturating_add(self.vhost.later.look_every_ms());
        }
        self.list.stuck.push((dying, self.answering));
    }
}

impl Sender for Run<'_> {
    fn origin(&self, message: u32) -> Origin {
        let letter = self.letter(message);
        let failures = self.letters.failures(letter);
        Origin { dead_lettered: true, redelivered: failures > 0, failures, ..Origin::default() }
    }

    fn large(&self, message: u32) -> Option<Arc<LargeBody>> {
        self.letters.apart(self.letter(message), self.interception)
    }

    fn may_reach(&mut self, message: u32, queue: &Queue) -> bool {
        let cycle = self.letters.closes_cycle(self.letter(message), queue);
        if cycle && !self.cycles.contains(&message) {
            self.cycles.push(message);
        }
        !cycle
    }

    /// Takes letters off the list, up to the first that has no outcome, and out of their queue unless
    /// they were refused.
    fn placed(&mut self, outcomes: &[Published], group: Option<&mut dyn Group>) {
        let end = self.places.get(outcomes.len()).copied().unwrap_or(self.letters.len());
        let mut buried = Vec::with_capacity(end - self.dealt);
        let mut shortened = 0;
        // The message of the batch that comes next.
        let mut message = self.places.partition_point(|place| *place < self.dealt);
        for index in self.dealt..end {
            let ending = match self.letters.prepared(index) {
                Prepared::Gone => Ending::Gone,
                Prepared::Dropped => Ending::Dropped,
                Prepared::Refused => Ending::Refused,
                Prepared::Unwritable => Ending::Unwritable,
                Prepared::Unavailable => Ending::Unavailable,
                Prepared::ToRoute => {
                    let outcome = outcomes.get(message);
                    message += 1;
                    outcome.map_or(Ending::Unavailable, |outcome| self.ending(message - 1, outcome))
                }
            };
            let Some(mut dying) = self.list.fresh.pop_front() else { break };
            let counters = &self.to.counters;
            let (counter, fate) = match ending {
                Ending::Gone => continue,
                Ending::Routed => (&counters.routed, Some(Fate::Routed)),
                Ending::Unroutable => (&counters.unroutable, Some(Fate::Unroutable)),
                Ending::Cycle => (&counters.cycles, Some(Fate::Unroutable)),
                Ending::Dropped => (&counters.dropped, Some(Fate::Dropped)),
                Ending::Refused => {
                    dying.refusals += 1;
                    (&counters.refused, None)
                }
                Ending::Unwritable => {
                    dying.refusals = REFUSALS_MAX;
                    (&counters.refused, None)
                }
                Ending::Unavailable => (&counters.refused, None),
            };
            counter.fetch_add(1, Ordering::Relaxed);
            match fate {
                None if dying.refusals >= REFUSALS_MAX => {
                    let asked = !matches!(ending, Ending::Unwritable);
                    let outcome = outcomes.get(message.wrapping_sub(1)).filter(|_| asked);
                    self.set_aside(index, dying, outcome);
                }
                None => self.list.refuse(dying, self.vhost.retry_ms_max()),
                Some(fate) => {
                    shortened += u64::from(self.letters.is_shortened(index));
                    self.fates.push((index, fate));
                    buried.push((dying.message, None));
                }
            }
        }
        self.dealt = end;
        if shortened > 0 {
            self.vhost.later.lost(Why::HistoryShortened, self.queue.name(), shortened);
        }
        match group {
            _ if buried.is_empty() => {}
            Some(group) => {
                self.queue.settle_with(&buried, |keeping, ranges| group.settle(keeping.id, ranges));
            }
            None => self.queue.settle_now(&buried, Settle::Accepted),
        }
    }
}

#[cfg(test)]
mod tests;
