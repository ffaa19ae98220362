//! How often exchange types dropped messages, by the reasons they gave.

use crate::{exchange::Exchange, vhost::Vhost};
use alloc::{sync::Arc, vec::Vec};
use hashbrown::HashMap;
use leveret_model::Name;
use parking_lot::Mutex;

/// How many reasons of one exchange are told apart; what comes beyond is one reason.
const REASONS_MAX: usize = 64;
const OTHER_REASONS: &str = "other reasons";

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

#[derive(Default)]
pub(crate) struct Drops(Mutex<Map<Name, Map<Arc<str>, u64>>>);

impl Drops {
    pub(crate) fn count(&self, drops: impl Iterator<Item = (Arc<Exchange>, Arc<str>)>) {
        let mut exchanges = self.0.lock();
        for (exchange, reason) in drops {
            if exchange.is_deleted() {
                continue;
            }
            let reasons = exchanges.entry(exchange.spec.name.clone()).or_default();
            let known = reasons.len() < REASONS_MAX || reasons.contains_key(&reason);
            *reasons.entry(if known { reason } else { Arc::from(OTHER_REASONS) }).or_default() += 1;
        }
    }

    /// Forgets an exchange that is marked as deleted.
    pub(crate) fn forget(&self, exchange: &Exchange) {
        self.0.lock().remove(&exchange.spec.name);
    }
}

impl Vhost {
    /// The reasons for which an exchange's type dropped messages that were accepted, and how many.
    #[must_use]
    pub fn drops(&self, exchange: &[u8]) -> Vec<(Arc<str>, u64)> {
        let exchanges = self.drops.0.lock();
        let reasons = exchanges.get(exchange).into_iter().flatten();
        let mut reasons: Vec<_> = reasons.map(|(reason, count)| (reason.clone(), *count)).collect();
        reasons.sort_unstable();
        reasons
    }
}
