//! What is known here of the deliveries that came on a link that can be resumed (section 2.6.13), by their tags, from when
//! they came until their sender has settled them: so one that its sender resumes is not taken for a new message.
//!
//! A link's connection may be gone before the store has told what became of a message, and another one have the link by
//! then: who learns of an outcome tells it here, and whoever has the link is woken.

use super::outcomes::{Outcome, Run};
use crate::connection::ConnectionWake;
use leveret_broker::port::Wake as _;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What a delivery takes beside its tag, in bytes, about.
pub(super) const DELIVERY_BYTES: usize = 128;

/// The deliveries of a link.
#[derive(Default)]
pub(crate) struct Received {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    deliveries: BTreeMap<Box<[u8]>, Delivery>,
    /// Whoever has the link; `None` while it is suspended.
    owner: Option<Arc<ConnectionWake>>,
    /// Their outcomes were learnt by somebody else than the owner.
    news: BTreeSet<Box<[u8]>>,
}

/// One of them.
#[derive(Default)]
struct Delivery {
    outcome: Option<Outcome>,
    /// Its session and its number there, with the owner.
    at: Option<(u16, u32)>,
}

impl Received {
    /// Somebody has the link from now on, or nobody.
    pub(super) fn belong_to(&self, owner: Option<Arc<ConnectionWake>>) {
        let mut known = self.known.lock();
        known.owner = owner;
        known.news.clear();
        known.deliveries.values_mut().for_each(|delivery| delivery.at = None);
    }

    /// How many deliveries there are.
    pub(super) fn len(&self) -> usize {
        self.known.lock().deliveries.len()
    }

    /// Whether so many have a place with whoever has the link.
    fn has_here(&self, most: usize) -> bool {
        let known = self.known.lock();
        known.deliveries.len() >= most
            && known.deliveries.values().filter(|delivery| delivery.at.is_some()).take(most).count() >= most
    }

    /// One came, in that session and with that number there. The place of one of the same tag that it replaces.
    pub(super) fn begin(&self, tag: &[u8], at: (u16, u32)) -> Option<(u16, u32)> {
        let delivery = Delivery { outcome: None, at: Some(at) };
        self.known.lock().deliveries.insert(tag.into(), delivery)?.at
    }

    /// Whoever has the link gives it up. The places of those of which it need not learn anything more: all, unless what is
    /// known `stays`, else those whose outcome is known.
    fn leave(&self, stays: bool) -> Vec<(u16, u32)> {
        let known = self.known.lock();
        let over = known.deliveries.values().filter(|delivery| !stays || delivery.outcome.is_some());
        let places = over.filter_map(|delivery| delivery.at).collect();
        drop(known);
        self.belong_to(None);
        places
    }

    /// It is settled, or did not come to anything.
    fn forget(&self, tag: &[u8]) {
        self.known.lock().deliveries.remove(tag);
    }

    /// Those that are not to stay are settled.
    pub(super) fn retain(&self, mut stays: impl FnMut(&[u8]) -> bool) {
        self.known.lock().deliveries.retain(|tag, _| stays(tag));
    }

    /// Those whose outcome nobody will ever learn are forgotten.
    fn forget_unknown(&self, tags: &[Box<[u8]>]) {
        let mut known = self.known.lock();
        for tag in tags {
            if known.deliveries.get(tag).is_some_and(|delivery| delivery.outcome.is_none()) {
                known.deliveries.remove(tag);
            }
        }
    }

    /// Nobody will learn any more what became of one. Its sender may send it again: it is forgotten, or told as one that
    /// could not be written where somebody has the link and may have been told of it.
    fn give_up(&self, tag: &[u8], mut outcome: Outcome) {
        let mut known = self.known.lock();
        let Known { deliveries, owner, news } = &mut *known;
        let Some(delivery) = deliveries.get_mut(tag).filter(|delivery| delivery.outcome.is_none()) else {
            return;
        };
        if let Some(owner) = owner {
            outcome.lose();
            delivery.outcome = Some(outcome);
            news.insert(tag.into());
            owner.wake();
        } else {
            deliveries.remove(tag);
        }
    }

    /// Tags and outcomes, in order.
    pub(super) fn each(&self, mut each: impl FnMut(&[u8], Option<&Outcome>)) {
        let known = self.known.lock();
        known.deliveries.iter().for_each(|(tag, delivery)| each(tag, delivery.outcome.as_ref()));
    }

    /// An outcome is told `by` a connection of a delivery that was `at` a session and a number there; `None` where nobody
    /// hears of it. If that is where the delivery is now, it is forgotten, unless it `stays`; else whoever has the link is
    /// told. Whether the delivery is there, and known.
    fn learn(
        &self,
        tag: &[u8],
        outcome: &Outcome,
        (by, at): (&Arc<ConnectionWake>, Option<(u16, u32)>),
        stays: bool,
    ) -> bool {
        let mut known = self.known.lock();
        let Known { deliveries, owner, news } = &mut *known;
        let Some(delivery) = deliveries.get_mut(tag) else { return false };
        let is_owner = owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, by));
        let is_heard = is_owner && at.is_some() && delivery.at == at;
        if is_heard && !stays {
            deliveries.remove(tag);
            return false;
        }
        delivery.outcome = Some(outcome.clone());
        if let Some(owner) = owner.as_ref().filter(|_| !is_heard) {
            news.insert(tag.into());
            owner.wake();
        }
        is_heard
    }
}

/// The deliveries of a connection that came on links that can be resumed.
pub(super) struct Tracked {
    own: Arc<ConnectionWake>,
    links: BTreeMap<(u16, u32), Link>,
    /// By session and number.
    deliveries: BTreeMap<(u16, u32), Delivered>,
    /// Of sessions that are gone: what the store has not told of yet.
    orphans: Vec<Orphan>,
    /// Nobody hears of what is told.
    is_alone: bool,
}

struct Link {
    received: Arc<Received>,
    second: bool,
}

struct Delivered {
    received: Arc<Received>,
    tag: Box<[u8]>,
}

struct Orphan {
    token: u64,
    received: Arc<Received>,
    tag: Box<[u8]>,
    outcome: Outcome,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        for Orphan { received, tag, outcome, .. } in std::mem::take(&mut self.orphans) {
            received.give_up(&tag, outcome);
        }
    }
}

/// A delivery that goes on.
pub(super) enum Resumed {
    /// It is not known: whoever resumes it is to be ignored.
    Unknown,
    /// Its sender has settled it, or its outcome is not known yet.
    Nothing,
    /// It is to be told.
    Tell(Run),
}

impl Tracked {
    pub(super) fn new(own: Arc<ConnectionWake>) -> Self {
        let (links, deliveries) = Default::default();
        Self { own, links, deliveries, orphans: Vec::new(), is_alone: false }
    }

    /// A link was attached.
    pub(super) fn attach(&mut self, at: (u16, u32), received: Arc<Received>, second: bool) {
        received.belong_to(Some(self.own.clone()));
        self.links.insert(at, Link { received, second });
    }

    /// A link is gone. What it had; whether that `stays`.
    pub(super) fn detach(&mut self, at: (u16, u32), stays: bool) -> Option<Arc<Received>> {
        let Link { received, .. } = self.links.remove(&at)?;
        for place in received.leave(stays) {
            self.deliveries.remove(&place);
        }
        Some(received)
    }

    /// Whether a link has so many unsettled deliveries that it is not to have more. Those of earlier attachments do not
    /// count before they are resumed, which takes credit.
    pub(super) fn is_full(&self, at: (u16, u32), most: usize) -> bool {
        !self.links.is_empty() && self.links.get(&at).is_some_and(|link| link.received.has_here(most))
    }

    /// A delivery came.
    pub(super) fn begin(&mut self, (channel, handle): (u16, u32), id: u32, tag: &[u8]) {
        if self.links.is_empty() {
            return;
        }
        let Some(Link { received, .. }) = self.links.get(&(channel, handle)) else { return };
        if let Some(earlier) = received.begin(tag, (channel, id)) {
            self.deliveries.remove(&earlier);
        }
        let delivered = Delivered { received: received.clone(), tag: tag.into() };
        self.deliveries.insert((channel, id), delivered);
    }

    /// A delivery that came on an earlier attachment goes on.
    pub(super) fn resume(
        &mut self,
        (channel, handle): (u16, u32),
        id: u32,
        tag: &[u8],
        settled: bool,
    ) -> Resumed {
        let Some(Link { received, second }) = self.links.get(&(channel, handle)) else {
            return Resumed::Unknown;
        };
        let mut known = received.known.lock();
        if settled {
            let Some(settled) = known.deliveries.remove(tag) else { return Resumed::Unknown };
            if let Some(earlier) = settled.at {
                self.deliveries.remove(&earlier);
            }
            return Resumed::Nothing;
        }
        let Some(delivery) = known.deliveries.get_mut(tag) else { return Resumed::Unknown };
        if let Some(earlier) = delivery.at.replace((channel, id)) {
            self.deliveries.remove(&earlier);
        }
        let outcome = delivery.outcome.clone();
        if outcome.is_none() || *second {
            let delivered = Delivered { received: received.clone(), tag: tag.into() };
            self.deliveries.insert((channel, id), delivered);
        } else {
            known.deliveries.remove(tag);
        }
        let second = *second;
        match outcome {
            None => Resumed::Nothing,
            Some(outcome) => Resumed::Tell(Run { channel, token: 0, ids: (id, id), outcome, second }),
        }
    }

    /// Outcomes that others learnt of deliveries of links that are here now.
    pub(super) fn take_news(&mut self) -> Vec<Run> {
        let mut runs = Vec::new();
        for Link { received, second } in self.links.values() {
            let mut known = received.known.lock();
            for tag in std::mem::take(&mut known.news) {
                let Some(delivery) = known.deliveries.get(&tag) else { continue };
                let (Some((channel, id)), Some(outcome)) = (delivery.at, delivery.outcome.clone()) else {
                    continue;
                };
                if !second {
                    known.deliveries.remove(&tag);
                    self.deliveries.remove(&(channel, id));
                }
                runs.push(Run { channel, token: 0, ids: (id, id), outcome, second: *second });
            }
        }
        runs
    }

    /// Outcomes are being told.
    pub(super) fn on_told(&mut self, run: &Run) {
        if self.deliveries.is_empty() {
            return;
        }
        let stays = run.second || self.is_alone;
        for at in self.within(run.channel, run.ids) {
            let Some(Delivered { received, tag }) = self.deliveries.get(&at) else { continue };
            let is_here = received.learn(tag, &run.outcome, (&self.own, Some(at)), stays);
            if !run.second || !is_here {
                self.deliveries.remove(&at);
            }
        }
    }

    /// The sender has settled these. Whether any of them were known.
    pub(super) fn on_settled(&mut self, channel: u16, ids: (u32, u32)) -> bool {
        let mut any = false;
        for at in self.within(channel, ids) {
            if let Some(Delivered { received, tag }) = self.deliveries.remove(&at) {
                received.forget(&tag);
                any = true;
            }
        }
        any
    }

    /// The keys of those of a session with numbers from the first to the last (RFC 1982).
    fn within(&self, channel: u16, (first, last): (u32, u32)) -> Vec<(u16, u32)> {
        let keys = |first, last| self.deliveries.range((channel, first)..=(channel, last)).map(|(at, _)| *at);
        if first <= last {
            keys(first, last).collect()
        } else {
            keys(first, u32::MAX).chain(keys(0, last)).collect()
        }
    }

    /// A session is gone: of what the store still tells, whoever resumes a link is to learn; of the rest nobody will.
    pub(super) fn forget_session(&mut self, channel: u16, runs: &[Run]) {
        for run in runs.iter().filter(|run| run.channel == channel && run.came()) {
            for at in self.within(channel, run.ids) {
                let Some(Delivered { received, tag }) = self.deliveries.remove(&at) else { continue };
                let (token, outcome) = (run.token, run.outcome.clone());
                self.orphans.push(Orphan { token, received, tag, outcome });
            }
        }
        let rest = self.within(channel, (0, u32::MAX));
        for at in rest {
            if let Some(Delivered { received, tag }) = self.deliveries.remove(&at) {
                received.forget_unknown(&[tag]);
            }
        }
    }

    /// What the store could not write.
    pub(super) fn lose(&mut self, token: u64) {
        let lost = self.orphans.iter_mut().filter(|orphan| orphan.token == token);
        lost.for_each(|orphan| orphan.outcome.lose());
    }

    /// All before this token may be told.
    pub(super) fn on_safe(&mut self, unsafe_from: u64) {
        if self.orphans.is_empty() {
            return;
        }
        let own = self.own.clone();
        self.orphans.retain(|orphan| {
            let is_safe = orphan.token < unsafe_from;
            if is_safe {
                orphan.received.learn(&orphan.tag, &orphan.outcome, (&own, None), true);
            }
            !is_safe
        });
    }

    /// Nobody hears of what is told from now on.
    pub(super) fn is_left_alone(&mut self) {
        self.is_alone = true;
    }

    /// Whether there are outcomes of which nobody has learnt yet.
    pub(super) fn is_owed(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// How many bytes of memory all that takes, about.
    pub(super) fn kept_bytes(&self) -> usize {
        let known: usize = self.links.values().map(|link| link.received.len()).sum();
        (known + self.deliveries.len() + self.orphans.len()) * DELIVERY_BYTES
    }

    /// Whether there are deliveries whose outcomes are not told.
    pub(super) fn has_any(&self) -> bool {
        !self.deliveries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: (u16, u32) = (3, 7);

    fn tracked() -> (Tracked, Arc<Received>) {
        let mut tracked = Tracked::new(Arc::new(ConnectionWake::default()));
        let received = Arc::new(Received::default());
        tracked.attach(AT, received.clone(), true);
        (tracked, received)
    }

    fn accepted(ids: (u32, u32)) -> Run {
        Run { channel: AT.0, token: 0, ids, outcome: Outcome::Accepted, second: true }
    }

    #[test]
    fn a_tag_has_one_place() {
        let (mut tracked, received) = tracked();
        for id in 0..100 {
            tracked.begin(AT, id, b"t");
            tracked.on_told(&accepted((id, id)));
            assert_eq!((tracked.deliveries.len(), received.len()), (1, 1));
        }
        for id in 100..200 {
            assert!(matches!(tracked.resume(AT, id, b"t", false), Resumed::Tell(_)));
            assert_eq!((tracked.deliveries.len(), received.len()), (1, 1));
        }
        assert!(matches!(tracked.resume(AT, 200, b"t", true), Resumed::Nothing));
        assert_eq!((tracked.deliveries.len(), received.len()), (0, 0));
    }

    #[test]
    fn a_link_that_is_gone_leaves_nothing_but_what_is_still_to_be_learnt() {
        let (mut tracked, received) = tracked();
        let outcomes = || {
            let mut outcomes = Vec::new();
            received.each(|_, outcome| outcomes.push(outcome.is_some()));
            outcomes
        };
        (0..4).for_each(|id| tracked.begin(AT, id, &[id as u8]));
        tracked.on_told(&accepted((0, 1)));
        tracked.detach(AT, true);
        assert_eq!(tracked.deliveries.keys().copied().collect::<Vec<_>>(), [(3, 2), (3, 3)]);
        tracked.on_told(&accepted((2, 2)));
        tracked.attach(AT, received.clone(), true);
        tracked.on_told(&accepted((3, 3)));
        assert_eq!((tracked.deliveries.len(), outcomes()), (0, vec![true; 4]));
        (4..8).for_each(|id| tracked.begin(AT, id, &[id as u8]));
        tracked.on_told(&accepted((4, 5)));
        tracked.detach(AT, false);
        assert!(tracked.deliveries.is_empty());
    }

    #[test]
    fn what_is_noted_is_counted_until_it_is_settled() {
        let (mut tracked, _) = tracked();
        let mut counted = Vec::new();
        (0..4).for_each(|id| tracked.begin(AT, id, &[id as u8]));
        counted.push(tracked.kept_bytes());
        tracked.on_told(&accepted((0, 3)));
        counted.push(tracked.kept_bytes());
        tracked.on_settled(AT.0, (0, 2));
        counted.push(tracked.kept_bytes());
        tracked.detach(AT, true);
        counted.push(tracked.kept_bytes());
        // Once for the link, which may be suspended with it, and once for where it is.
        assert_eq!(counted, [8, 8, 2, 0].map(|places| places * DELIVERY_BYTES));
    }

    #[test]
    fn what_nobody_learns_any_more_may_be_sent_again() {
        for is_taken_up in [false, true] {
            let (mut tracked, received) = tracked();
            tracked.begin(AT, 0, b"t");
            tracked.forget_session(AT.0, &[accepted((0, 0))]);
            tracked.detach(AT, true);
            let mut other = Tracked::new(Arc::new(ConnectionWake::default()));
            if is_taken_up {
                other.attach(AT, received.clone(), false);
                assert!(matches!(other.resume(AT, 5, b"t", false), Resumed::Nothing));
            }
            assert_eq!(received.len(), 1);
            drop(tracked);
            let news = other.take_news().into_iter().map(|run| (run.ids, run.outcome)).collect::<Vec<_>>();
            let expected = is_taken_up.then_some(((5, 5), Outcome::Released));
            assert_eq!((news, received.len()), (expected.into_iter().collect(), 0));
        }
    }

    #[test]
    fn what_was_not_resumed_leaves_room() {
        let (mut tracked, received) = tracked();
        (0..4).for_each(|id| tracked.begin(AT, id, &[id as u8]));
        assert!(tracked.is_full(AT, 4) && !tracked.is_full(AT, 5));
        tracked.detach(AT, true);
        tracked.attach(AT, received, true);
        (10..13).for_each(|id| {
            tracked.resume(AT, id, &[id as u8 - 10], false);
        });
        assert!(tracked.is_full(AT, 3) && !tracked.is_full(AT, 4));
    }
}
