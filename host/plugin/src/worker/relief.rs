//! What becomes smaller on this worker where there is no more room for remembered answers.
//!
//! Whoever finds no room says so ([`crate::memo::VhostRoom`]), and at its next turn each worker looks at what it
//! keeps. What nobody has asked for a while goes first, as a whole, the longest unused first; then the largest
//! memo becomes smaller by an eighth, if it has more than the one that wants room had. So what is busy comes to
//! have equally much, and what is small stays as it is.
//!
//! *Fairness.* For a virtual host's own limit its own memos give. For the broker's total those of each virtual
//! host give that has more than the one that wants room, and of that one itself as for its own limit.

use super::{Entry, Worker};
use crate::memo::{BrokerRoom, Shrink, VhostRoom};
use hashbrown::HashMap;
use std::{cmp::Reverse, sync::Arc};

/// After so many ticks without a lookup a memo is idle.
const IDLE_TICKS: u64 = 2;
/// So much memory of idle memos is given up at a time, in bytes.
const GIVEN_UP_BYTES: usize = 1024 * 1024;

/// What this worker knows of who wants room.
pub(super) struct Relief {
    broker: Arc<BrokerRoom>,
    /// The wants that were looked at.
    wants: u64,
    /// The broker's shortage that was looked at, by its number.
    broker_shortage: u64,
    /// Those of virtual hosts, by the address of the room: rooms are never dropped before the host.
    shortages: HashMap<usize, u64, foldhash::fast::RandomState>,
    tick: u64,
}

/// A memo as it is now.
struct Seen {
    vhost: Arc<VhostRoom>,
    bytes: usize,
    used_at: u64,
}

/// What is to be done with a memo.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    GiveUp,
    Shrink,
}

impl Relief {
    pub(super) fn new(broker: Arc<BrokerRoom>) -> Self {
        let wants = broker.wants();
        Self { broker, wants, broker_shortage: 0, shortages: HashMap::default(), tick: 0 }
    }

    /// Which memos become smaller, by their places among those that were seen.
    fn choose(&mut self, seen: &[Seen]) -> HashMap<usize, Deed, foldhash::fast::RandomState> {
        let mut deeds = HashMap::default();
        let shortage = self.broker.shortage();
        let is_broker_short =
            std::mem::replace(&mut self.broker_shortage, shortage.number) != shortage.number;
        let mut rooms: Vec<&Arc<VhostRoom>> = Vec::new();
        for room in seen.iter().map(|memo| &memo.vhost) {
            if !rooms.iter().any(|known| Arc::ptr_eq(known, room)) {
                rooms.push(room);
            }
        }
        for room in rooms {
            let own = room.shortage();
            let known = self.shortages.insert(Arc::as_ptr(room) as usize, own.number).unwrap_or_default();
            let above = if is_broker_short && room.taken() > shortage.had {
                0
            } else if known != own.number || is_broker_short && room.taken() == shortage.had {
                own.had
            } else {
                continue;
            };
            let its = seen.iter().enumerate().filter(|(_, memo)| Arc::ptr_eq(&memo.vhost, room));
            let is_idle = |memo: &Seen| self.tick.saturating_sub(memo.used_at) >= IDLE_TICKS;
            let mut idle: Vec<_> = its.clone().filter(|(_, memo)| is_idle(memo)).collect();
            idle.sort_unstable_by_key(|(_, memo)| (memo.used_at, Reverse(memo.bytes)));
            let mut given_up = 0;
            for (place, memo) in idle {
                if given_up >= GIVEN_UP_BYTES {
                    break;
                }
                given_up += memo.bytes;
                deeds.insert(place, Deed::GiveUp);
            }
            let largest = its.max_by_key(|(_, memo)| memo.bytes).filter(|(_, memo)| memo.bytes > above);
            if let Some((place, _)) = largest.filter(|_| given_up == 0) {
                deeds.insert(place, Deed::Shrink);
            }
        }
        deeds
    }
}

impl Worker {
    /// To be called once a second: finds out what is idle, and gives memory back that others want. What a
    /// worker keeps that has nothing to do is given back here alone.
    pub fn tend(&mut self) {
        self.relief.tick += 1;
        let tick = self.relief.tick;
        self.each_memo(|memo| {
            memo.used_at(tick);
        });
        self.relieve_if_wanted();
    }

    /// Makes something smaller if somebody wants room.
    #[inline]
    pub(super) fn relieve_if_wanted(&mut self) {
        let wants = self.relief.broker.wants();
        if wants != self.relief.wants {
            self.relief.wants = wants;
            self.relieve();
        }
    }

    #[cold]
    fn relieve(&mut self) {
        let tick = self.relief.tick;
        let (mut seen, mut places) = (Vec::new(), Vec::new());
        let mut place = 0;
        self.each_memo(|memo| {
            let used_at = memo.used_at(tick);
            if let Some(vhost) = memo.vhost() {
                seen.push(Seen { vhost: vhost.clone(), bytes: memo.bytes(), used_at });
                places.push(place);
            }
            place += 1;
        });
        let deeds = self.relief.choose(&seen);
        let deeds: HashMap<usize, Deed, foldhash::fast::RandomState> =
            deeds.into_iter().filter_map(|(nth, deed)| Some((*places.get(nth)?, deed))).collect();
        place = 0;
        self.each_memo(|memo| {
            match deeds.get(&place) {
                Some(Deed::GiveUp) => memo.give_up(),
                Some(Deed::Shrink) => memo.shrink(),
                None => {}
            }
            place += 1;
        });
    }

    /// All memos of this worker, each time in the same order while nothing else happens.
    fn each_memo(&mut self, mut call: impl FnMut(&mut dyn Shrink)) {
        for entry in self.entries.by_place.values_mut() {
            call(entry);
            if let Some(canary) = entry.beside.as_mut().and_then(|beside| beside.canary.as_mut()) {
                call(&mut **canary);
            }
        }
        self.interceptors.each_memo(&mut call);
    }
}

/// The answers of an exchange with the sets that they lead to.
impl Shrink for Entry {
    fn bytes(&self) -> usize {
        self.memo.bytes()
    }

    fn vhost(&self) -> Option<&Arc<VhostRoom>> {
        self.memo.vhost()
    }

    fn used_at(&mut self, now: u64) -> u64 {
        self.memo.used_at(now)
    }

    fn shrink(&mut self) {
        self.memo.shrink();
    }

    fn give_up(&mut self) {
        self.memo.give_up();
        self.sets.forget();
    }
}
