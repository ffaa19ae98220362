//! What was sent, or due, and had not come when the measuring ended.
//!
//! It has no latency yet, and would have the longest ones: left out, a broker that stands still at the end looks as
//! fast as it was before (coordinated omission). So it counts with the time that it waited till then. Messages are not
//! told apart: how many were sent in each millisecond, less how many of those came, is how many are outstanding.

use super::{Latencies, Plan, copies::Copies};

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

    /// Of what is to come, that which has not at `end`: recorded with how long it has waited at least. Gives how many
    /// there are.
    pub(super) fn record_outstanding(&self, came: &Self, end: u64, latencies: &mut Latencies) -> u64 {
        let mut all = 0;
        for (place, to_come) in self.0.iter().enumerate() {
            let latest = (place as u64 + 1) * NANOSECONDS;
            let Some(waited) = end.checked_sub(latest) else { break };
            let outstanding = to_come.saturating_sub(came.at(place));
            latencies.record(waited, outstanding);
            all += outstanding;
        }
        all
    }

    fn at(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or(0)
    }
}

/// What is to come of what each publisher sent, and should have sent, in its order. Where all of it came it may be less:
/// there nothing is looked at.
///
/// # Errors
/// If the keys of a publisher cannot be had.
pub(super) fn to_come(
    plan: &Plan,
    sent: &[Stamps],
    copies: &Copies<'_>,
    came: &Stamps,
) -> anyhow::Result<Stamps> {
    let mut all = Stamps::default();
    sent.iter().for_each(|stamps| all.add_all(stamps));
    let most = copies.max();
    let is_missing: Vec<bool> =
        all.0.iter().enumerate().map(|(place, count)| count * most > came.at(place)).collect();
    all.0.fill(0);
    for (publisher, stamps) in sent.iter().enumerate() {
        let sums = copies.of_publisher(plan, publisher)?;
        let mut first = 0;
        for (place, count) in stamps.0.iter().enumerate() {
            if *count > 0 && is_missing[place] {
                all.0[place] += sums.of(first..first + count);
            }
            first += count;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::topology::{Names, tests::plan};

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
        let mut latencies = Latencies::new().unwrap();
        latencies.record(MS, 190);
        let plan = Plan { fan_out: true, ..plan(Some("direct"), 2, 2) };
        let names = Names::new(&plan).unwrap();
        let copies = Copies::new(&plan, &names).unwrap();
        let to_come = to_come(&plan, &[sent], &copies, &came).unwrap();
        assert_eq!(to_come.record_outstanding(&came, 1000 * MS, &mut latencies), 30);
        let found = latencies.percentiles().unwrap();
        let is_about = |found: f64, milliseconds: f64| (found / 1000.0 - milliseconds).abs() < 1.0;
        // 190 of 220 took 1 ms, and 20 are of the last moment but one.
        assert!(
            is_about(found.p50, 1.0) && is_about(found.p90, 99.0) && is_about(found.max, 989.0),
            "{found:?}"
        );
    }

    #[test]
    fn what_no_binding_takes_is_not_waited_for() {
        // Keys 0 to 5, and bindings of 0 and 1; each publisher begins with another.
        let plan = Plan { bindings: Some(2), publishers: 2, ..plan(Some("direct"), 1, 1) };
        let names = Names::new(&plan).unwrap();
        let copies = Copies::new(&plan, &names).unwrap();
        let (mut one, mut other, mut came) = (Stamps::default(), Stamps::default(), Stamps::default());
        // 0 1 2, and 3 4 5 0; of the other 1, and 2 3 4 5 0.
        [(MS, 3), (5 * MS, 4)].iter().for_each(|(stamp, count)| one.add(*stamp, *count));
        [(MS, 1), (5 * MS, 5)].iter().for_each(|(stamp, count)| other.add(*stamp, *count));
        came.add(MS, 2);
        let mut latencies = Latencies::new().unwrap();
        let to_come = to_come(&plan, &[one, other], &copies, &came).unwrap();
        assert_eq!(to_come.record_outstanding(&came, 10 * MS, &mut latencies), 3);
        let found = latencies.percentiles().unwrap();
        assert!(
            (7_900.0..8_100.0).contains(&found.max) && (3_900.0..4_100.0).contains(&found.p50),
            "{found:?}"
        );
    }

    #[test]
    fn threads_are_added_up() {
        let (mut one, mut other) = (Stamps::default(), Stamps::default());
        one.add(MS, 1);
        other.add(MS, 2);
        other.add(5 * MS, 3);
        one.add_all(&other);
        let mut latencies = Latencies::new().unwrap();
        assert_eq!(one.record_outstanding(&Stamps::default(), 100 * MS, &mut latencies), 6);
        assert_eq!(one.record_outstanding(&one, 100 * MS, &mut latencies), 0);
    }
}
