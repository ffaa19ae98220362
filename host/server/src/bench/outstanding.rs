//! What was sent, or due, and had not come when the measuring ended.
//!
//! It has no latency yet, and would have the longest ones: left out, a broker that stands still at the end looks as
//! fast as it was before (coordinated omission). So it counts with the time that it waited till then. Messages are not
//! told apart: how many were sent in each millisecond, less how many of those came, is how many are outstanding. Of a load of
//! more than an hour it is more than a millisecond, so that what is counted takes 32 MiB for each thread at most.

use super::{Latencies, Plan, copies::Copies};

const NANOSECONDS: u64 = 1_000_000;
/// How many counts there may be: an hour of milliseconds and a bit. Of a longer load a count is of more of them.
const PLACES_MAX: usize = 1 << 22;

/// How many messages have a time, for each millisecond of the clock that all threads look at.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    counts: Vec<u64>,
    /// A count is of two to the power of this many milliseconds.
    shift: u32,
}

impl Stamps {
    /// So many have that time, in nanoseconds.
    #[inline]
    pub(super) fn add(&mut self, stamp: u64, count: u64) {
        let place = self.place(stamp);
        match self.counts.get_mut(place) {
            Some(before) => *before += count,
            None => self.add_behind(stamp, count),
        }
    }

    /// The same behind all that there are.
    #[cold]
    fn add_behind(&mut self, stamp: u64, count: u64) {
        while self.place(stamp) >= PLACES_MAX {
            self.coarsen(self.shift + 1);
        }
        let place = self.place(stamp);
        self.counts.resize(self.counts.len().max(place + 1), 0);
        self.counts[place] += count;
    }

    #[inline]
    fn place(&self, stamp: u64) -> usize {
        ((stamp / NANOSECONDS) >> self.shift) as usize
    }

    /// All of another.
    pub(super) fn add_all(&mut self, other: &Self) {
        self.coarsen(other.shift);
        let ahead = self.shift - other.shift;
        let places = other.counts.len().div_ceil(1 << ahead);
        self.counts.resize(self.counts.len().max(places), 0);
        other.counts.iter().enumerate().for_each(|(place, count)| self.counts[place >> ahead] += count);
    }

    /// Puts counts together, until each is of as much time as that.
    fn coarsen(&mut self, shift: u32) {
        if shift <= self.shift {
            return;
        }
        let ahead = shift - self.shift;
        let places = self.counts.len().div_ceil(1 << ahead);
        for place in 0..self.counts.len() {
            let count = std::mem::take(&mut self.counts[place]);
            self.counts[place >> ahead] += count;
        }
        self.counts.truncate(places);
        self.shift = shift;
    }

    /// Of what is to come, that which has not at `end`: recorded with how long it has waited at least. Gives how many
    /// there are.
    pub(super) fn record_outstanding(&self, came: &Self, end: u64, latencies: &mut Latencies) -> u64 {
        let mut all = 0;
        for (place, to_come) in self.counts.iter().enumerate() {
            let latest = ((place as u64 + 1) << self.shift) * NANOSECONDS;
            let Some(waited) = end.checked_sub(latest) else { break };
            let outstanding = to_come.saturating_sub(came.at(place));
            latencies.record(waited, outstanding);
            all += outstanding;
        }
        all
    }

    fn at(&self, place: usize) -> u64 {
        self.counts.get(place).copied().unwrap_or(0)
    }
}

/// What is to come of what each publisher sent, and should have sent, in its order. Where all of it came it may be less:
/// there nothing is looked at.
///
/// # Errors
/// If the keys of a publisher cannot be had.
pub(super) fn to_come(
    plan: &Plan,
    sent: &mut [Stamps],
    copies: &Copies<'_>,
    came: &mut Stamps,
) -> anyhow::Result<Stamps> {
    // Counts are of the same times then.
    let shift = sent.iter().map(|stamps| stamps.shift).chain([came.shift]).max().unwrap_or(0);
    let mut all = Stamps { counts: Vec::new(), shift };
    came.coarsen(shift);
    for stamps in &mut *sent {
        stamps.coarsen(shift);
        all.add_all(stamps);
    }
    let most = copies.max();
    let is_missing: Vec<bool> =
        all.counts.iter().enumerate().map(|(place, count)| count * most > came.at(place)).collect();
    all.counts.fill(0);
    for (publisher, stamps) in sent.iter().enumerate() {
        let sums = copies.of_publisher(plan, publisher)?;
        let mut first = 0;
        for (place, count) in stamps.counts.iter().enumerate() {
            if *count > 0 && is_missing[place] {
                all.counts[place] += sums.of(first..first + count);
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
        let to_come = to_come(&plan, &mut [sent], &copies, &mut came).unwrap();
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
        let to_come = to_come(&plan, &mut [one, other], &copies, &mut came).unwrap();
        assert_eq!(to_come.record_outstanding(&came, 10 * MS, &mut latencies), 3);
        let found = latencies.percentiles().unwrap();
        assert!(
            (7_900.0..8_100.0).contains(&found.max) && (3_900.0..4_100.0).contains(&found.p50),
            "{found:?}"
        );
    }

    #[test]
    fn a_load_of_many_hours_takes_no_more_room() {
        const HOUR: u64 = 3_600_000 * MS;
        let plan = plan(None, 1, 1);
        let names = Names::new(&plan).unwrap();
        let copies = Copies::new(&plan, &names).unwrap();
        // One publisher ended early: its counts are finer.
        let (mut long, mut short, mut came) = (Stamps::default(), Stamps::default(), Stamps::default());
        [(0, 3), (9 * HOUR, 4), (10 * HOUR, 5)].iter().for_each(|(stamp, count)| long.add(*stamp, *count));
        [(MS, 1), (5 * MS, 2)].iter().for_each(|(stamp, count)| short.add(*stamp, *count));
        came.add(2 * MS, 5);
        assert!((long.counts.len(), long.shift) == (36_000_000 / 16 + 1, 4) && short.shift == 0);
        let mut latencies = Latencies::new().unwrap();
        let to_come = to_come(&plan, &mut [long, short], &copies, &mut came).unwrap();
        assert_eq!(to_come.record_outstanding(&came, 10 * HOUR, &mut latencies), 5);
        let found = latencies.percentiles().unwrap();
        let hours = |microseconds: f64| (microseconds * 1000.0 / HOUR as f64).round() as u64;
        assert_eq!((hours(found.p50), hours(found.max)), (1, 10), "{found:?}");
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
