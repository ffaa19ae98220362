//! When messages are due.

use std::time::Duration;

/// The longest sleep: then it is looked whether the run is over.
const SLEEP_MAX: Duration = Duration::from_millis(250);

/// As fast as it goes, or so many messages a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) rate_per_second: Option<u64>,
}

/// What a publisher does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It sends so many.
    Send(u64),
    /// Something is due and there is no room for it: it waits for what the broker says.
    Hear,
    /// Nothing is due for so long.
    Sleep(Duration),
}

impl Pace {
    /// What comes next after that time, when so many were sent and there is room for so many.
    pub(super) fn next(self, elapsed: Duration, sent: u64, room: u64) -> Next {
        let due = self.rate_per_second.map_or(u64::MAX, |rate| due_by(elapsed, rate)).saturating_sub(sent);
        if due == 0 {
            let next = self.rate_per_second.map_or(Duration::MAX, |rate| due_at(sent, rate));
            Next::Sleep(next.saturating_sub(elapsed).min(SLEEP_MAX))
        } else if room == 0 {
            Next::Hear
        } else {
            Next::Send(due.min(room))
        }
    }
}

/// How much later than the first publisher one begins, in nanoseconds: together they publish at an even pace.
pub(super) fn offset(rate: u64, index: usize, publishers: usize) -> u64 {
    (index as u64 * 1_000_000_000).checked_div(rate.saturating_mul(publishers as u64)).unwrap_or(0)
}

/// How many messages are due after that time: a burst each millisecond.
pub(super) fn due_by(elapsed: Duration, rate: u64) -> u64 {
    (elapsed.as_millis() * u128::from(rate) / 1000) as u64
}

/// When a message is due, counted from 0.
pub(super) fn due_at(message: u64, rate: u64) -> Duration {
    Duration::from_millis(((message + 1) * 1000).div_ceil(rate))
}

/// The messages from one up to another, burst by burst: when each is due, and how many messages it has.
pub(super) fn bursts(first: u64, end: u64, rate: u64) -> impl Iterator<Item = (Duration, u64)> {
    let mut next = first;
    std::iter::from_fn(move || {
        let due = (next < end).then(|| due_at(next, rate))?;
        let count = due_by(due, rate).min(end) - next;
        next += count;
        Some((due, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_with_the_burst_that_it_goes_with() {
        for rate in [1, 3, 999, 1000, 1001, 250_000] {
            for message in [0, 1, 2, 998, 999, 1000, 123_456] {
                let due = due_at(message, rate);
                assert!(due_by(due, rate) > message, "{message} at {rate}");
                assert!(due_by(due - Duration::from_millis(1), rate) <= message, "{message} at {rate}");
            }
        }
    }

    #[test]
    fn bursts_have_all_messages_at_their_time() {
        for rate in [1, 3, 999, 1000, 1001, 250_000] {
            for (first, end) in [(0, 0), (0, 1), (5, 7), (123, 4567)] {
                let each = (first..end).map(|message| due_at(message, rate));
                let together = bursts(first, end, rate)
                    .flat_map(|(due, count)| std::iter::repeat_n(due, count as usize));
                assert!(together.eq(each), "{first} to {end} at {rate}");
            }
        }
        // What is due while a broker stands still for hours is gone through in no time.
        assert_eq!(
            bursts(0, 100_000_000_000, 100_000_000).map(|(_, count)| count).sum::<u64>(),
            100_000_000_000
        );
    }

    #[test]
    fn a_full_window_is_waited_for_and_not_slept_over() {
        let pace = Pace { rate_per_second: Some(2000) };
        let elapsed = Duration::from_micros(10_300);
        assert_eq!(pace.next(elapsed, 15, 3), Next::Send(3));
        assert_eq!(pace.next(elapsed, 15, 100), Next::Send(5));
        assert_eq!(pace.next(elapsed, 18, 0), Next::Hear);
        assert_eq!(pace.next(elapsed, 20, 0), Next::Sleep(Duration::from_micros(700)));
        assert_eq!(pace.next(elapsed, 20, 5), Next::Sleep(Duration::from_micros(700)));
    }

    #[test]
    fn a_slow_publisher_sleeps_until_something_is_due() {
        let pace = Pace { rate_per_second: Some(40) };
        let elapsed = Duration::from_micros(25_300);
        assert_eq!(pace.next(elapsed, 0, 1), Next::Send(1));
        assert_eq!(pace.next(elapsed, 1, 1), Next::Sleep(Duration::from_micros(24_700)));
        let pace = Pace { rate_per_second: Some(1) };
        assert_eq!(pace.next(elapsed, 0, 1), Next::Sleep(SLEEP_MAX));
    }

    #[test]
    fn publishers_take_turns() {
        let offsets: Vec<u64> = (0..4).map(|index| offset(2, index, 4)).collect();
        assert_eq!(offsets, [0, 125_000_000, 250_000_000, 375_000_000]);
    }

    #[test]
    fn without_a_rate_all_is_due() {
        let pace = Pace { rate_per_second: None };
        assert_eq!(pace.next(Duration::ZERO, 0, 7), Next::Send(7));
        assert_eq!(pace.next(Duration::ZERO, 7, 0), Next::Hear);
    }
}
