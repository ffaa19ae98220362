//! How fast numbers go up: they are looked at every five seconds, as RabbitMQ does it, and a rate is what was added in
//! the last such time.
//!
//! Done by the HTTP thread, so nobody else pays for it: who counts only counts. What was never used is not
//! remembered here, so a hundred thousand idle queues take no room.

use super::{Api, stats};
use leveret_broker::{exchange::ExchangeId, queue::QueueId};
use leveret_model::Name;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long it is from one look to the next.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// What has numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Of {
    /// The whole broker.
    All,
    /// What comes and goes in it.
    Churn,
    Vhost(Name),
    Queue(QueueId),
    Exchange(ExchangeId),
    Connection(u64),
    Channel(u64, u16),
}

/// Numbers with their names in RabbitMQ's API.
pub(super) type Numbers = Vec<(&'static str, u64)>;

/// What was seen last.
#[derive(Debug)]
pub(super) struct Rates(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    at: Instant,
    of: HashMap<Of, Sample>,
}

#[derive(Debug)]
struct Sample {
    numbers: Vec<u64>,
    /// What each had more than the time before, a second.
    rates: Vec<f64>,
}

impl Rates {
    /// Nothing was counted before `since`.
    pub(super) fn new(since: Instant) -> Self {
        Self(Mutex::new(Seen { at: since, of: HashMap::new() }))
    }

    /// Looks at all numbers. What is not among them any more is forgotten.
    fn look(&self, now: Instant, all: impl Iterator<Item = (Of, Numbers)>) {
        let mut seen = self.0.lock();
        let seconds = now.saturating_duration_since(seen.at).as_secs_f64();
        let mut of = HashMap::with_capacity(seen.of.len());
        for (which, numbers) in all.filter(|(_, numbers)| numbers.iter().any(|(_, number)| *number > 0)) {
            let before = seen.of.remove(&which).map(|sample| sample.numbers).unwrap_or_default();
            let numbers: Vec<u64> = numbers.into_iter().map(|(_, number)| number).collect();
            let rate = |(at, number): (usize, &u64)| {
                let more = *number as f64 - before.get(at).copied().unwrap_or(0) as f64;
                if seconds > 0.0 { more / seconds } else { 0.0 }
            };
            let rates = numbers.iter().enumerate().map(rate).collect();
            of.insert(which, Sample { numbers, rates });
        }
        *seen = Seen { at: now, of };
    }

    /// Numbers and their rates as RabbitMQ's API has them: `publish`, and `publish_details` with the rate.
    pub(super) fn told(&self, which: &Of, numbers: Numbers) -> Map<String, Value> {
        self.told_together([which], numbers)
    }

    /// The same of several that these are the numbers of together.
    pub(super) fn told_together<'a>(
        &self,
        which: impl IntoIterator<Item = &'a Of>,
        numbers: Numbers,
    ) -> Map<String, Value> {
        let seen = self.0.lock();
        let mut rates = vec![0.0; numbers.len()];
        for sample in which.into_iter().filter_map(|which| seen.of.get(which)) {
            rates.iter_mut().zip(&sample.rates).for_each(|(sum, rate)| *sum += rate);
        }
        let mut told = Map::new();
        for ((name, number), rate) in numbers.into_iter().zip(rates) {
            told.insert(name.to_owned(), number.into());
            told.insert(format!("{name}_details"), json!({ "rate": rate }));
        }
        told
    }

    /// The same, nothing where nothing was ever counted, as in RabbitMQ.
    pub(super) fn told_if_any(&self, which: &Of, numbers: Numbers) -> Option<Map<String, Value>> {
        let any = numbers.iter().any(|(_, number)| *number > 0);
        any.then(|| self.told(which, numbers))
    }
}

/// Looks at everything again and again. Never returns.
pub(super) async fn keep_looking(api: &Api) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await.into_std();
        api.rates.look(now, stats::all(api));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rates: &Rates, which: &Of, name: &str) -> f64 {
        let told = rates.told(which, vec![("publish", 0), ("messages", 0)]);
        told[&format!("{name}_details")]["rate"].as_f64().unwrap()
    }

    #[test]
    fn a_rate_is_what_was_added_in_the_last_interval() {
        let since = Instant::now();
        let rates = Rates::new(since);
        let queue = || Of::Queue(QueueId(1));
        assert_eq!(rate(&rates, &queue(), "publish"), 0.0);
        let look = |seconds, publish, messages| {
            let at = since + Duration::from_secs(seconds);
            let numbers = vec![("publish", publish), ("messages", messages)];
            rates.look(at, [(queue(), numbers), (Of::All, vec![("publish", 0)])].into_iter());
        };
        look(5, 50, 50);
        assert_eq!((rate(&rates, &queue(), "publish"), rate(&rates, &queue(), "messages")), (10.0, 10.0));
        look(10, 60, 20);
        assert_eq!((rate(&rates, &queue(), "publish"), rate(&rates, &queue(), "messages")), (2.0, -6.0));
        look(15, 60, 20);
        assert_eq!(rate(&rates, &queue(), "publish"), 0.0);
        assert_eq!(rates.0.lock().of.len(), 1, "what was never used takes no room");
        rates.look(since + Duration::from_secs(20), std::iter::empty());
        assert_eq!(rates.0.lock().of.len(), 0, "what is gone does not either");
    }

    #[test]
    fn rates_of_several_are_added_up() {
        let since = Instant::now();
        let rates = Rates::new(since);
        let all = [1, 2, 3].map(Of::Connection);
        let numbers =
            all.clone().into_iter().zip([10, 20, 40]).map(|(which, n)| (which, vec![("recv_oct", n)]));
        rates.look(since + Duration::from_secs(5), numbers);
        let told = rates.told_together(&all[..2], vec![("recv_oct", 30)]);
        assert_eq!(Value::Object(told), json!({ "recv_oct": 30, "recv_oct_details": { "rate": 6.0 } }));
    }

    #[test]
    fn numbers_of_what_was_not_seen_yet_have_the_rate_0() {
        let rates = Rates::new(Instant::now());
        let told = rates.told_if_any(&Of::Connection(1), vec![("recv_oct", 7)]).unwrap();
        assert_eq!(Value::Object(told), json!({ "recv_oct": 7, "recv_oct_details": { "rate": 0.0 } }));
        assert_eq!(rates.told_if_any(&Of::Connection(1), vec![("recv_oct", 0)]), None);
    }
}
