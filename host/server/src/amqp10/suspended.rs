//! Links that are suspended (sections 2.6.3 and 3.5.6): what is not settled of them is kept until their client attaches them
//! again, on whatever connection, or their time is over.
//!
//! A link is known by its virtual host, the user, the client's container, its name, and its direction. One that is attached
//! somewhere is taken from there when it is attached elsewhere (section 2.6.1): the connection that has it gives it up, and
//! who wants it is woken and asks again.
//!
//! *Bounds*, of each user in each virtual host: [`LINKS_MAX`] links that can be resumed, attached or not, and
//! [`DELIVERIES_MAX`] deliveries of those that are suspended. The one that is suspended longest goes for a newer one.
//! What is kept here ends with the process.

use super::charge::Charge;
use super::received::{DELIVERY_BYTES, Received};
use crate::connection::ConnectionWake;
use leveret_broker::{Held, MemoryAccount};
use leveret_model::Name;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// How many links that can be resumed a user may have in a virtual host.
pub(super) const LINKS_MAX: usize = 256;
/// How many deliveries are kept of all links that are suspended, of a user in a virtual host.
pub(super) const DELIVERIES_MAX: usize = 65_536;
/// What is kept of a link beside its deliveries, in bytes, about.
const LINK_BYTES: usize = 512;

/// A link, among all that there are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LinkKey {
    pub(super) vhost: Name,
    pub(super) user: Name,
    /// The client's.
    pub(super) container: Arc<str>,
    pub(super) name: Box<str>,
    /// The client receives.
    pub(super) receives: bool,
}

impl LinkKey {
    fn user(&self) -> (Name, Name) {
        (self.vhost.clone(), self.user.clone())
    }
}

/// What is not settled of a link.
pub(crate) enum Unsettled {
    /// Messages that were sent, by numbers that stand for their tags.
    Sent(Held),
    /// What is known of deliveries that came.
    Received(Arc<Received>),
}

impl Unsettled {
    fn len(&self) -> usize {
        match self {
            Self::Sent(held) => held.len(),
            Self::Received(received) => received.len(),
        }
    }
}

/// Until when a link is kept that is suspended, in milliseconds since 1970, or in seconds from when something else is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// That time.
    Ms(u64),
    /// So long after the end of that session of that connection.
    Session(u64, u16, u32),
    /// So long after the end of that connection.
    Connection(u64, u32),
    /// For ever.
    Never,
}

pub(super) fn after(now_ms: u64, seconds: u32) -> u64 {
    now_ms.saturating_add(u64::from(seconds) * 1000)
}

/// The links that somebody wants that a connection has.
pub(crate) struct Wanted {
    links: Mutex<Vec<(u16, u32)>>,
    wake: Arc<ConnectionWake>,
}

impl Wanted {
    pub(super) fn new(wake: Arc<ConnectionWake>) -> Arc<Self> {
        Arc::new(Self { links: Mutex::default(), wake })
    }

    /// By session and handle.
    pub(super) fn take(&self) -> Vec<(u16, u32)> {
        std::mem::take(&mut *self.links.lock())
    }
}

/// What comes of asking for a link.
pub(super) enum Claim {
    /// It is whoever's asked, with what was kept of it. Its attachment has this number.
    Given(u64, Option<Unsettled>),
    /// Another connection has it. Whoever asked is woken when that has given it up, and may ask again.
    Busy,
    /// The user has too many.
    Refused,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Suspended(Mutex<Links>);

#[derive(Default)]
struct Links {
    all: HashMap<LinkKey, Link>,
    users: HashMap<(Name, Name), Usage>,
    /// The greatest number until now.
    number: u64,
}

#[derive(Default)]
struct Usage {
    links: usize,
    deliveries: usize,
    /// Those that are suspended, the first longest.
    suspended: BTreeMap<u64, LinkKey>,
}

enum Link {
    Attached { number: u64, owner: Arc<Wanted>, at: (u16, u32), waiting: Vec<Arc<ConnectionWake>> },
    Suspended { number: u64, unsettled: Unsettled, deliveries: usize, until: Until, _charge: Charge },
}

impl Links {
    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// A link is no more. What was kept of it.
    fn remove(&mut self, key: &LinkKey) -> Option<Link> {
        let link = self.all.remove(key)?;
        let user = key.user();
        if let Some(usage) = self.users.get_mut(&user) {
            usage.links -= 1;
            if let Link::Suspended { number, deliveries, .. } = &link {
                usage.suspended.remove(number);
                usage.deliveries -= deliveries;
            }
            if usage.links == 0 {
                self.users.remove(&user);
            }
        }
        Some(link)
    }

    fn insert(&mut self, key: LinkKey, link: Link) {
        let usage = self.users.entry(key.user()).or_default();
        usage.links += 1;
        if let Link::Suspended { number, deliveries, .. } = &link {
            usage.suspended.insert(*number, key.clone());
            usage.deliveries += deliveries;
        }
        self.all.insert(key, link);
    }

    /// Lets go of those of a user that are suspended longest until there is room. What was kept of them.
    fn make_room(&mut self, user: &(Name, Name), links: usize, deliveries: usize) -> Vec<Link> {
        let mut gone = Vec::new();
        while let Some(usage) = self.users.get(user)
            && (usage.links + links > LINKS_MAX || usage.deliveries + deliveries > DELIVERIES_MAX)
            && let Some(oldest) = usage.suspended.first_key_value().map(|(_, key)| key.clone())
        {
            gone.extend(self.remove(&oldest));
        }
        gone
    }
}

impl Suspended {
    /// A number that no attachment has.
    pub(super) fn next(&self) -> u64 {
        self.0.lock().next()
    }

    /// Somebody wants to have a link.
    pub(super) fn claim(&self, key: &LinkKey, owner: &Arc<Wanted>, at: (u16, u32)) -> Claim {
        let mut links = self.0.lock();
        if let Some(Link::Attached { owner: other, at: there, waiting, .. }) = links.all.get_mut(key) {
            if !waiting.iter().any(|waiting| Arc::ptr_eq(waiting, &owner.wake)) {
                waiting.push(owner.wake.clone());
                other.links.lock().push(*there);
                other.wake.wake_now();
            }
            return Claim::Busy;
        }
        let unsettled = match links.remove(key) {
            Some(Link::Suspended { unsettled, .. }) => Some(unsettled),
            _ => None,
        };
        let gone = links.make_room(&key.user(), 1, 0);
        let is_full = links.users.get(&key.user()).is_some_and(|usage| usage.links >= LINKS_MAX);
        let number = links.next();
        if !is_full {
            let (owner, waiting) = (owner.clone(), Vec::new());
            links.insert(key.clone(), Link::Attached { number, owner, at, waiting });
        }
        // What is put back takes locks of queues.
        drop(links);
        drop(gone);
        if is_full { Claim::Refused } else { Claim::Given(number, unsettled) }
    }

    /// Whether there are none, attached or not.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().all.is_empty()
    }

    /// Somebody attaches a link without wanting what is kept of it.
    pub(super) fn forget(&self, key: &LinkKey) {
        let mut links = self.0.lock();
        let is_suspended = matches!(links.all.get(key), Some(Link::Suspended { .. }));
        let gone = if is_suspended { links.remove(key) } else { None };
        drop(links);
        drop(gone);
    }

    /// Whether somebody else waits for a link of this attachment.
    pub(super) fn is_wanted(&self, key: &LinkKey, number: u64) -> bool {
        let links = self.0.lock();
        let link = links.all.get(key);
        matches!(link, Some(Link::Attached { number: it, waiting, .. }) if *it == number && !waiting.is_empty())
    }

    /// An attachment is over, and nothing is kept.
    pub(super) fn release(&self, key: &LinkKey, number: u64) {
        self.end(key, number, None);
    }

    /// An attachment is over. What is not settled is kept until then, if there is room, and if anything is to be kept.
    pub(super) fn suspend(
        &self,
        key: &LinkKey,
        number: u64,
        kept: (Unsettled, Until),
        account: &Arc<MemoryAccount>,
        now_ms: u64,
    ) {
        self.end(key, number, Some((kept, account, now_ms)));
    }

    #[allow(clippy::type_complexity, reason = "said once")]
    fn end(&self, key: &LinkKey, number: u64, kept: Option<((Unsettled, Until), &Arc<MemoryAccount>, u64)>) {
        let mut links = self.0.lock();
        let is_it = matches!(links.all.get(key), Some(Link::Attached { number: it, .. }) if *it == number);
        if !is_it {
            return;
        }
        let Some(Link::Attached { waiting, .. }) = links.remove(key) else { return };
        let mut gone = Vec::new();
        if let Some(((unsettled, mut until), account, now_ms)) = kept {
            if !waiting.is_empty() && matches!(until, Until::Ms(_)) {
                until = Until::Ms(after(now_ms, TAKEN_UP_WITHIN));
            }
            let deliveries = unsettled.len();
            let is_over = matches!(until, Until::Ms(ms) if ms <= now_ms);
            if deliveries > 0 && deliveries <= DELIVERIES_MAX && !is_over {
                gone = links.make_room(&key.user(), 1, deliveries);
                let (number, bytes) = (links.next(), LINK_BYTES + deliveries * DELIVERY_BYTES);
                let charge = Charge::new(account.clone(), bytes);
                let link = Link::Suspended { number, unsettled, deliveries, until, _charge: charge };
                links.insert(key.clone(), link);
            } else {
                drop(links);
                drop(unsettled);
                waiting.iter().for_each(|waiting| waiting.wake_now());
                return;
            }
        }
        drop(links);
        drop(gone);
        waiting.iter().for_each(|waiting| waiting.wake_now());
    }

    /// A session is over, or with `None` a connection.
    pub(super) fn on_over(&self, connection: u64, channel: Option<u16>, now_ms: u64) {
        let mut links = self.0.lock();
        for link in links.all.values_mut() {
            let Link::Suspended { until, .. } = link else { continue };
            match *until {
                Until::Session(of, session, timeout)
                    if of == connection && channel.is_none_or(|channel| channel == session) =>
                {
                    *until = Until::Ms(after(now_ms, timeout));
                }
                Until::Connection(of, timeout) if of == connection && channel.is_none() => {
                    *until = Until::Ms(after(now_ms, timeout));
                }
                _ => {}
            }
        }
        drop(links);
        self.expire(now_ms);
    }

    /// Lets go of those whose time is over.
    pub(crate) fn expire(&self, now_ms: u64) {
        let mut links = self.0.lock();
        let is_over =
            |link: &Link| matches!(link, Link::Suspended { until: Until::Ms(ms), .. } if *ms <= now_ms);
        let over = links.all.iter().filter(|(_, link)| is_over(link));
        let over: Vec<_> = over.map(|(key, _)| key.clone()).collect();
        let gone: Vec<_> = over.iter().filter_map(|key| links.remove(key)).collect();
        drop(links);
        drop(gone);
    }

    /// Lets go of all: the broker stops.
    pub(crate) fn clear(&self) {
        let links = std::mem::take(&mut *self.0.lock());
        drop(links);
    }
}

/// How long somebody who wants a link that another connection had has at least to take it up, in seconds.
const TAKEN_UP_WITHIN: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, user: &str) -> LinkKey {
        LinkKey {
            vhost: Name::from_static("/"),
            user: Name::new(user.as_bytes()).unwrap(),
            container: "client".into(),
            name: name.into(),
            receives: false,
        }
    }

    fn owner() -> Arc<Wanted> {
        Wanted::new(Arc::new(ConnectionWake::default()))
    }

    fn of(deliveries: usize) -> Unsettled {
        let received = Received::default();
        for number in 0..deliveries {
            received.begin(&number.to_be_bytes(), (0, 0));
        }
        Unsettled::Received(Arc::new(received))
    }

    struct World {
        links: Suspended,
        account: Arc<MemoryAccount>,
    }

    impl World {
        fn new() -> Self {
            Self { links: Suspended::default(), account: Arc::new(MemoryAccount::new(1 << 30)) }
        }

        fn suspend(&self, key: &LinkKey, deliveries: usize, until: Until) {
            let Claim::Given(number, _) = self.links.claim(key, &owner(), (0, 0)) else { panic!("{key:?}") };
            self.links.suspend(key, number, (of(deliveries), until), &self.account, 0);
        }

        /// How many deliveries of a link are kept, which is attached then.
        fn kept(&self, key: &LinkKey) -> Option<usize> {
            match self.links.claim(key, &owner(), (0, 0)) {
                Claim::Given(_, unsettled) => unsettled.map(|unsettled| unsettled.len()),
                Claim::Busy | Claim::Refused => panic!("{key:?}"),
            }
        }
    }

    #[test]
    fn each_goes_when_its_time_is_over() {
        let world = World::new();
        let keys = ["ms", "session", "connection", "never"].map(|name| key(name, "u"));
        let all = [Until::Ms(5), Until::Session(7, 3, 2), Until::Connection(7, 2), Until::Never];
        keys.iter().zip(all).for_each(|(key, until)| world.suspend(key, 1, until));
        let left = || {
            let links = world.links.0.lock();
            keys.iter().map(|key| links.all.contains_key(key)).collect::<Vec<_>>()
        };
        world.links.expire(4);
        world.links.on_over(7, Some(4), 4);
        world.links.on_over(8, None, 4);
        assert_eq!(left(), [true; 4]);
        world.links.expire(5);
        assert_eq!(left(), [false, true, true, true]);
        world.links.on_over(7, Some(3), 0);
        world.links.expire(2000);
        assert_eq!(left(), [false, false, true, true]);
        world.links.on_over(7, None, 0);
        world.links.expire(1999);
        assert_eq!(left(), [false, false, true, true]);
        world.links.expire(u64::MAX);
        assert_eq!(left(), [false, false, false, true]);
        assert_eq!(world.account.bytes(), (LINK_BYTES + DELIVERY_BYTES) as u64);
        world.links.clear();
        assert_eq!(world.account.bytes(), 0);
    }

    #[test]
    fn a_user_has_only_so_much_and_the_oldest_goes() {
        let world = World::new();
        let half = DELIVERIES_MAX / 2;
        world.suspend(&key("other", "v"), half, Until::Never);
        ["a", "b"].into_iter().for_each(|name| world.suspend(&key(name, "u"), half, Until::Never));
        world.suspend(&key("c", "u"), 1, Until::Never);
        assert_eq!(
            [("a", "u"), ("b", "u"), ("c", "u"), ("other", "v")]
                .map(|(name, user)| world.kept(&key(name, user))),
            [None, Some(half), Some(1), Some(half)]
        );
        world.suspend(&key("much", "u"), DELIVERIES_MAX + 1, Until::Never);
        assert_eq!(world.kept(&key("much", "u")), None, "and nothing else went for it");
    }

    #[test]
    fn a_user_has_only_so_many_links() {
        let world = World::new();
        world.suspend(&key("first", "u"), 1, Until::Never);
        for number in 0..LINKS_MAX {
            let name = number.to_string();
            assert!(
                matches!(world.links.claim(&key(&name, "u"), &owner(), (0, 0)), Claim::Given(..)),
                "{name}"
            );
        }
        assert!(matches!(world.links.claim(&key("one more", "u"), &owner(), (0, 0)), Claim::Refused));
        assert!(matches!(world.links.claim(&key("one more", "v"), &owner(), (0, 0)), Claim::Given(..)));
    }

    #[test]
    fn who_has_a_link_is_told_once_who_wants_it() {
        let world = World::new();
        let (has, wants, link) = (owner(), owner(), key("l", "u"));
        let Claim::Given(number, None) = world.links.claim(&link, &has, (1, 2)) else { panic!() };
        for _ in 0..2 {
            assert!(matches!(world.links.claim(&link, &wants, (3, 4)), Claim::Busy));
        }
        assert_eq!(has.take(), [(1, 2)]);
        assert!(world.links.is_wanted(&link, number) && !world.links.is_wanted(&link, number + 1));
        // Though it would expire at once: somebody takes it up.
        world.links.suspend(&link, number, (of(3), Until::Ms(0)), &world.account, 0);
        world.links.expire(0);
        let Claim::Given(_, Some(kept)) = world.links.claim(&link, &wants, (3, 4)) else { panic!() };
        assert_eq!(kept.len(), 3);
        world.links.release(&link, number);
        assert!(!world.links.is_empty(), "that is over already");
    }
}
