//! How often plugins dropped messages or did not accept them, by the reasons they gave.

use crate::{exchange::Exchange, port::Layer, vhost::Vhost, walk::Decider};
use alloc::{sync::Arc, vec::Vec};
use hashbrown::HashMap;
use leveret_model::Name;
use parking_lot::Mutex;

/// How many reasons are told apart: those that were given last. The others are one reason.
const REASONS_MAX: usize = 64;
const OTHER_REASONS: &str = "other reasons";

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Reasons by exchange, and by which of its types gave them.
#[derive(Default)]
pub(crate) struct Reasons(Mutex<Map<Name, Map<Layer, ReasonCounts>>>);

/// For how many messages which reason was given. The latest 64 reasons are told apart.
#[derive(Debug, Default)]
pub struct ReasonCounts {
    by_reason: Map<Arc<str>, Given>,
    /// How many messages, for all reasons.
    messages: u64,
    /// Messages whose reasons are not told apart any more.
    others: u64,
}

#[derive(Debug)]
struct Given {
    messages: u64,
    /// How many messages there were by the last time, this one included.
    last: u64,
}

impl ReasonCounts {
    /// It was given for one more message.
    pub fn count(&mut self, reason: Arc<str>) {
        self.messages += 1;
        let last = self.messages;
        if let Some(given) = self.by_reason.get_mut(&reason) {
            *given = Given { messages: given.messages + 1, last };
            return;
        }
        if self.by_reason.len() >= REASONS_MAX {
            let oldest = self.by_reason.iter().min_by_key(|(_, given)| given.last);
            let oldest = oldest.map(|(reason, _)| reason.clone());
            let gone = oldest.and_then(|oldest| self.by_reason.remove(&oldest));
            self.others += gone.map_or(0, |given| given.messages);
        }
        self.by_reason.insert(reason, Given { messages: 1, last });
    }

    /// The reasons, the one given last first, and for how many messages; then what is not told apart.
    #[must_use]
    pub fn read(&self) -> Vec<(Arc<str>, u64)> {
        let mut reasons: Vec<_> = self.by_reason.iter().collect();
        reasons.sort_unstable_by_key(|(_, given)| core::cmp::Reverse(given.last));
        let told_apart = reasons.into_iter().map(|(reason, given)| (reason.clone(), given.messages));
        let others = (self.others > 0).then(|| (Arc::from(OTHER_REASONS), self.others));
        told_apart.chain(others).collect()
    }
}

impl Reasons {
    pub(crate) fn count(&self, given: impl Iterator<Item = (Decider, Arc<str>)>) {
        let mut exchanges = self.0.lock();
        for ((exchange, by), reason) in given.filter(|((exchange, _), _)| !exchange.is_deleted()) {
            exchanges.entry(exchange.spec.name.clone()).or_default().entry(by).or_default().count(reason);
        }
    }

    /// Forgets an exchange that is marked as deleted.
    pub(crate) fn forget(&self, exchange: &Exchange) {
        self.0.lock().remove(&exchange.spec.name);
    }

    fn of(&self, exchange: &[u8], layer: Layer) -> Vec<(Arc<str>, u64)> {
        let exchanges = self.0.lock();
        exchanges
            .get(exchange)
            .and_then(|types| types.get(&layer))
            .map(ReasonCounts::read)
            .unwrap_or_default()
    }
}

impl Vhost {
    /// The reasons for which the type at that layer of an exchange dropped messages that were accepted, and how
    /// many; the one given last first.
    #[must_use]
    pub fn drops(&self, exchange: &[u8], layer: Layer) -> Vec<(Arc<str>, u64)> {
        self.drops.of(exchange, layer)
    }

    /// The reasons for which the type at that layer of an exchange did not accept messages, and how many; the
    /// one given last first.
    #[must_use]
    pub fn rejections(&self, exchange: &[u8], layer: Layer) -> Vec<(Arc<str>, u64)> {
        self.rejections.of(exchange, layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_reasons_are_told_apart_and_nothing_is_lost() {
        let mut of = ReasonCounts::default();
        for n in 0..REASONS_MAX + 3 {
            of.count(alloc::format!("{n}").into());
            of.count("again and again".into());
        }
        assert_eq!(of.by_reason.len(), REASONS_MAX);
        assert_eq!(
            of.by_reason.get("again and again").map(|given| given.messages),
            Some(REASONS_MAX as u64 + 3)
        );
        assert!(!of.by_reason.contains_key("0") && of.by_reason.contains_key("66"));
        let told = of.read();
        assert_eq!(told.first().map(|(reason, _)| &**reason), Some("again and again"));
        assert_eq!(told.last().map(|(reason, messages)| (&**reason, *messages)), Some((OTHER_REASONS, 4)));
        assert_eq!(told.iter().map(|(_, messages)| messages).sum::<u64>(), 2 * (REASONS_MAX as u64 + 3));
    }
}
