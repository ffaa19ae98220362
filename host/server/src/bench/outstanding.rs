//! What was sent, or due, and had not come when the measuring ended.
//!
//! It has no latency yet, and would have the longest ones: left out, a broker that stands still at the end looks as
//! fast as it was before (coordinated omission). So it counts with the time that it waited till then. Messages are not
//! told apart: how many were sent in each millisecond, less how many of those came, is how many are outstanding.

use hdrhistogram::Histogram;

const NANOSECONDS: u64 = 1_000_000;

/// How many messages have a time, for each millisecond of the clock that all threads look at.
#[derive(Debug, Default)]
pub(super) struct Stamps(Vec<u64>);

impl Stamps {
    /// So many have that time, in nanoseconds.
    pub(super) fn add(&mut self, stamp: u64, count: u64) {
        let place = (stamp / NANOSECONDS) as usize;
        if place >= self.0.len() {
            self.0.resize(place + 1, 0);
        }
        self.0[place] += count;
    }

    /// All of another.
    pub(super) fn add_all(&mut self, other: &Self) {
        if other.0.len() > self.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(count, more)| *count += more);
    }

    /// Of what was sent, each message in so many `copies`, that which has not come at `end`: recorded with how long it
    /// has waited at least. Gives how many there are.
    pub(super) fn record_outstanding(
        &self,
        came: &Self,
        copies: u64,
        end: u64,
        latencies: &mut Histogram<u64>,
    ) -> u64 {
        let mut all = 0;
        for (place, sent) in self.0.iter().enumerate() {
            let latest = (place as u64 + 1) * NANOSECONDS;
            let Some(waited) = end.checked_sub(latest) else { break };
            let outstanding = (sent * copies).saturating_sub(came.0.get(place).copied().unwrap_or(0));
            // None at all would count for the slowest.
            if outstanding > 0 {
                latencies.saturating_record_n(waited.max(1), outstanding);
                all += outstanding;
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = NANOSECONDS;

    #[test]
    fn what_did_not_come_counts_with_the_time_it_waited() {
        let (mut sent, mut came) = (Stamps::default(), Stamps::default());
        sent.add(10 * MS, 50);
        sent.add(10 * MS + 5, 50);
        sent.add(900 * MS, 10);
        // Too late to tell.
        sent.add(1000 * MS, 7);
        came.add(10 * MS + 3, 190);
        let mut latencies = super::super::latency_histogram().unwrap();
        latencies.record_n(MS, 190).unwrap();
        assert_eq!(sent.record_outstanding(&came, 2, 1000 * MS, &mut latencies), 30);
        assert_eq!(latencies.len(), 220);
        assert!(latencies.equivalent(latencies.max(), 989 * MS), "{}", latencies.max());
        assert!(latencies.equivalent(latencies.value_at_quantile(0.9), 99 * MS));
    }

    #[test]
    fn threads_are_added_up() {
        let (mut one, mut other) = (Stamps::default(), Stamps::default());
        one.add(MS, 1);
        other.add(MS, 2);
        other.add(5 * MS, 3);
        one.add_all(&other);
        let mut latencies = super::super::latency_histogram().unwrap();
        assert_eq!(one.record_outstanding(&Stamps::default(), 1, 100 * MS, &mut latencies), 6);
        assert_eq!(one.record_outstanding(&one, 1, 100 * MS, &mut latencies), 0);
    }
}
