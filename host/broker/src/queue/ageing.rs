//! What time does to a queue: messages expire, and a queue that nobody uses does.
//!
//! A message expires when it comes to the head: a lane looks at its first message alone. It is looked at when somebody
//! wants it, and by the housekeeper ([`State::tick`]) when the queue asked for that ([`Ageing::wish`]). A queue asks for
//! one visit at a time; one that comes too early does no harm and asks for the next.
//!
//! What a queue found at a start is on disk, and nobody knows whether it expires. Before its first visit the
//! housekeeper looks at the first message of each lane, under no lock.

use super::{
    Queue,
    keeping::Keeping,
    lanes::Lanes,
    record::{Marks, OWN_TTL, TIMED},
    settings::QueueSettings,
    slab::MessageRef,
    state::State,
};
use crate::{dead_letter::DeathReason, store::Stored};
use alloc::{sync::Arc, vec::Vec};
use leveret_model::MessageView;

/// A message without any time to live is for consumers that wait for it: so long it takes them at most to come for it.
const GRACE_MS: u64 = 1000;
/// When to come again if what comes next cannot be read now.
const LOOK_AGAIN_MS: u64 = 1000;
/// Of what is looked at one message is read.
const LOOK_BYTES: usize = 1;
/// How many messages of a lane expire in one visit.
const EXPIRED_MAX: usize = 1000;

/// What a queue knows of time.
#[derive(Default)]
pub(super) struct Ageing {
    /// A message may expire.
    pub(super) has_timed: bool,
    /// And one may do so before those that came earlier.
    pub(super) has_own_ttl: bool,
    /// There are messages from before a start, of which nobody looked whether they may expire.
    is_unseen: bool,
    /// Since when a message may expire of which it was not noted when it came.
    untimed_ms: Option<u64>,
    /// When the first of those expires that came back.
    came_back_ms: Option<u64>,
    /// The queue goes as soon as there is no message.
    ends_empty: bool,
    /// There are more messages than there may be.
    pub(super) is_long: bool,
    /// When the housekeeper was asked to come.
    asked_ms: Option<u64>,
    /// It was used: when that was is to be noted.
    touched: bool,
    /// Since when it is unused.
    unused_since_ms: u64,
}

/// What the housekeeper found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ticked {
    /// When to come again.
    pub(super) next_ms: Option<u64>,
    /// The queue was unused for too long, or was to go when it was empty.
    pub(super) is_over: bool,
}

impl Ageing {
    /// The housekeeper is to come then; gives the time if it has to be told.
    pub(super) fn wish(&mut self, due_ms: Option<u64>) -> Option<u64> {
        let due_ms = due_ms.filter(|due_ms| self.asked_ms.is_none_or(|asked_ms| *due_ms < asked_ms))?;
        self.asked_ms = Some(due_ms);
        Some(due_ms)
    }

    /// Other settings hold from the time `now_ms` on, also for messages that the queue may have.
    pub(super) fn changed(
        &mut self,
        (before, after): (&QueueSettings, &QueueSettings),
        has_messages: bool,
        now_ms: u64,
    ) {
        if after.message_ttl_ms.is_some() && has_messages {
            if before.message_ttl_ms.is_none() {
                self.untimed_ms = Some(now_ms);
            }
            // Of some it is known when they came, of others not: a later one may expire first.
            (self.has_timed, self.has_own_ttl) = (true, true);
        }
        self.touched = after.expires_ms.is_some() && (self.touched || before.expires_ms.is_none());
    }
}

impl Queue {
    /// The queue goes as soon as there is no message in it, delivered ones included; or it does not, if it is there still.
    pub fn end_when_empty(self: &Arc<Self>, ends: bool) {
        let mut state = self.state.lock();
        if !state.is_deleted() {
            state.ageing.ends_empty = ends;
            self.part(state);
        }
    }

    /// Looks whether what was there before a start may expire.
    pub(super) fn look(&self) {
        let heads = self.state.lock().unseen();
        let (mut has_own_ttl, mut is_later) = (false, false);
        for (keeping, first) in heads {
            keeping.store.read(keeping.id, first, LOOK_BYTES, &mut |stored: Stored<'_>| {
                let own = stored
                    .message
                    .as_ref()
                    .is_some_and(|message| message.ttl_ms().is_ok_and(|ttl| ttl.is_some()));
                has_own_ttl |= own && stored.came_ms > 0;
                is_later |= stored.is_later;
            });
        }
        if has_own_ttl || is_later {
            let ageing = &mut self.state.lock().ageing;
            ageing.has_timed |= has_own_ttl;
            ageing.has_own_ttl |= has_own_ttl;
            ageing.is_unseen |= is_later;
        }
    }
}

impl Lanes {
    /// Where the first message of each lane is that is on disk alone.
    fn heads_on_disk(&self) -> Vec<(Keeping, u64)> {
        let heads = self.places().filter_map(|at| {
            let lane = self.lane(at);
            let hole = lane.store.holes.front().filter(|hole| hole.page.is_none())?;
            Some((lane.keeping.clone()?, hole.first))
        });
        heads.collect()
    }
}

impl State {
    /// There may be messages from before a start.
    pub(super) fn note_found(&mut self) {
        if self.settings.message_ttl_ms.is_some() {
            (self.ageing.has_timed, self.ageing.has_own_ttl) = (true, true);
        }
        self.ageing.is_unseen = self.ready() > 0;
    }

    /// What is to be looked at, which is taken to be done then.
    fn unseen(&mut self) -> Vec<(Keeping, u64)> {
        let looks = core::mem::take(&mut self.ageing.is_unseen) && !self.ageing.has_timed;
        if looks { self.lanes.heads_on_disk() } else { Vec::new() }
    }

    /// When a message expires, in milliseconds since 1970.
    fn due_ms(&self, message: MessageRef) -> Option<u64> {
        let stored = self.lanes.stored(message)?;
        let came_ms = stored.came_ms.or(self.ageing.untimed_ms)?;
        let own = if stored.has_own_ttl { stored.message.ttl_ms().ok().flatten() } else { None };
        let ttl_ms = own.into_iter().chain(self.settings.message_ttl_ms).min()?;
        // The grace was for the consumer that waited: what that gives back has no time to live left. (A dead letter comes
        // with the mark.)
        let is_spent = ttl_ms == 0 && stored.redelivered && !stored.dead_lettered;
        Some(if is_spent { 0 } else { came_ms.saturating_add(ttl_ms) })
    }

    #[inline]
    pub(super) fn is_expired(&self, message: MessageRef, now_ms: u64) -> bool {
        self.ageing.has_timed && self.due_ms(message).is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Takes what comes next and is not expired.
    #[inline]
    pub(super) fn take_fresh(&mut self, now_ms: u64) -> Option<MessageRef> {
        loop {
            let message = self.take_ready()?;
            if !self.is_unfit(message, now_ms) {
                return Some(message);
            }
        }
    }

    /// What is noted of a message that comes at the time `now_ms`, for its expiry.
    pub(super) fn marks(&mut self, message: &MessageView<'_>, flags: u8, now_ms: u64) -> Marks {
        let own = message.ttl_ms().ok().flatten();
        let Some(ttl_ms) = own.into_iter().chain(self.settings.message_ttl_ms).min() else {
            return Marks::of(flags);
        };
        self.ageing.has_timed = true;
        self.ageing.has_own_ttl |= own.is_some();
        let is_awaited = ttl_ms == 0 && self.consumers.any_has_credit();
        let came_ms = if is_awaited { now_ms.saturating_add(GRACE_MS) } else { now_ms };
        let own = if own.is_some() { OWN_TTL } else { 0 };
        Marks { flags: flags | TIMED | own, came_ms }
    }

    /// A message that was delivered comes back.
    pub(super) fn note_back(&mut self, message: MessageRef) {
        if self.ageing.has_timed {
            let back_ms = [self.ageing.came_back_ms, self.due_ms(message)];
            self.ageing.came_back_ms = back_ms.into_iter().flatten().min();
        }
    }

    /// The head of a lane that was only looked at.
    fn put_back(&mut self, head: MessageRef) {
        self.lanes.put_head(head);
        self.count_ready(head, true);
    }

    /// The queue was used.
    pub(super) fn touch(&mut self) {
        self.ageing.touched = self.settings.expires_ms.is_some();
    }

    /// After any change: when the housekeeper is to be asked to come.
    pub(super) fn wish(&mut self) -> Option<u64> {
        if self.ageing.touched || self.ageing.is_long || self.delayed.has_fresh() || self.is_to_end() {
            return self.ageing.wish(Some(0));
        }
        if !self.ageing.has_timed || self.ready() == 0 {
            let has_any = self.lanes.live().0 > 0;
            self.ageing.has_timed &= has_any;
            self.ageing.has_own_ttl &= has_any;
            return None;
        }
        let back_ms = self.ageing.came_back_ms.take();
        // One that is asked for comes early enough, unless another message may expire before the one it comes for.
        if self.ageing.asked_ms.is_some() && !self.ageing.has_own_ttl {
            return self.ageing.wish(back_ms);
        }
        let (due_ms, _) = self.unwatched(Self::heads_ms);
        self.ageing.wish([due_ms, back_ms].into_iter().flatten().min())
    }

    /// Whether it was to go when it was empty, and is.
    fn is_to_end(&self) -> bool {
        self.ageing.ends_empty && self.lanes.live().0 == 0
    }

    /// When the first of what is at the heads of the lanes expires.
    fn heads_ms(&mut self) -> Option<u64> {
        let mut first = None;
        for lane in self.lanes.places() {
            if let Some(head) = self.take_from(lane) {
                first = [first, self.due_ms(head)].into_iter().flatten().min();
                self.put_back(head);
            }
        }
        first
    }

    /// The housekeeper's visit: what is expired dies.
    pub(super) fn tick(&mut self, now_ms: u64) -> Ticked {
        let (mut ticked, is_later) = self.unwatched(|state| state.visit(now_ms));
        if is_later || self.ageing.is_unseen {
            let again_ms = now_ms.saturating_add(LOOK_AGAIN_MS);
            ticked.next_ms = ticked.next_ms.into_iter().chain([again_ms]).min();
            self.ageing.asked_ms = ticked.next_ms;
        }
        ticked
    }

    fn visit(&mut self, now_ms: u64) -> Ticked {
        self.ageing.asked_ms = None;
        self.ageing.is_long = false;
        let mut next_ms = self.end_delays(now_ms);
        if self.shorten() {
            next_ms = Some(now_ms);
        }
        if self.ageing.has_timed {
            for lane in self.lanes.places() {
                next_ms = [next_ms, self.expire(lane, now_ms)].into_iter().flatten().min();
            }
            next_ms = [next_ms, self.expire_returned(now_ms)].into_iter().flatten().min();
        }
        let (over_ms, is_over) = self.unused(now_ms);
        next_ms = [next_ms, over_ms].into_iter().flatten().min();
        self.ageing.asked_ms = next_ms;
        Ticked { next_ms, is_over: is_over || self.is_to_end() }
    }

    /// Lets expire what is expired at the head of a lane. Gives when to look again.
    fn expire(&mut self, lane: u16, now_ms: u64) -> Option<u64> {
        for _ in 0..EXPIRED_MAX {
            let head = self.take_from(lane)?;
            let due_ms = self.due_ms(head);
            if due_ms.is_none_or(|due_ms| due_ms > now_ms) {
                self.put_back(head);
                return due_ms;
            }
            self.die(head, DeathReason::Expired);
        }
        Some(now_ms)
    }

    /// What is expired at the heads of the lanes dies.
    pub(super) fn expire_heads(&mut self, now_ms: u64) {
        if self.ageing.has_timed {
            for lane in self.lanes.places() {
                self.expire(lane, now_ms);
            }
        }
    }

    /// What is expired of all that came back and comes first dies; when the next of it expires.
    fn expire_returned(&mut self, now_ms: u64) -> Option<u64> {
        let (mut key, mut next_ms) = (i64::MIN, None);
        while let Some((at, message)) = self.lanes.returned.as_ref().and_then(|returned| returned.from(key)) {
            key = at + 1;
            match self.due_ms(message) {
                Some(due_ms) if due_ms <= now_ms => {
                    self.lanes.returned.as_mut().and_then(|returned| returned.remove(at));
                    self.count_ready(message, false);
                    self.die(message, DeathReason::Expired);
                }
                due_ms => next_ms = [next_ms, due_ms].into_iter().flatten().min(),
            }
        }
        next_ms
    }

    /// When the queue is to go if it is not used until then, and whether it is that now.
    fn unused(&mut self, now_ms: u64) -> (Option<u64>, bool) {
        let Some(expires_ms) = self.settings.expires_ms else { return (None, false) };
        if core::mem::take(&mut self.ageing.touched) {
            self.ageing.unused_since_ms = now_ms;
        }
        if self.consumers.len() > 0 {
            // When the last one goes it is touched.
            return (None, false);
        }
        let over_ms = self.ageing.unused_since_ms.saturating_add(expires_ms);
        (Some(over_ms), over_ms <= now_ms)
    }
}

/// Whether a queue that was there before a restart is to be visited at once.
pub(super) fn is_to_be_visited(state: &State) -> bool {
    state.settings.expires_ms.is_some() || state.ready() > 0
}
