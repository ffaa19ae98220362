//! Which publishes the broker has answered. Brokers confirm in any order, one by one or all up to a number.

use std::collections::BTreeSet;

/// Delivery tags that were confirmed.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// All up to this one.
    through: u64,
    /// Those behind it that came out of turn.
    beyond: BTreeSet<u64>,
}

impl Confirms {
    /// Notes that tag, or with `multiple` all up to it; gives how many are confirmed by it that were not before.
    pub(super) fn settle(&mut self, tag: u64, multiple: bool) -> u64 {
        if tag <= self.through {
            return 0;
        }
        let mut count = 1;
        if multiple {
            let after = self.beyond.split_off(&tag.saturating_add(1));
            count = tag - self.through - self.beyond.range(..=tag).count() as u64;
            (self.through, self.beyond) = (tag, after);
        } else if tag == self.through + 1 {
            self.through = tag;
        } else {
            return u64::from(self.beyond.insert(tag));
        }
        while self.beyond.first().is_some_and(|first| *first == self.through + 1) {
            self.beyond.pop_first();
            self.through += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_confirms_count_for_one_in_any_order() {
        let mut confirms = Confirms::default();
        assert_eq!(confirms.settle(3, false), 1);
        assert_eq!(confirms.settle(3, false), 0);
        assert_eq!(confirms.settle(1, false), 1);
        assert_eq!(confirms.settle(2, false), 1);
        assert_eq!(confirms.through, 3);
        assert!(confirms.beyond.is_empty());
        assert_eq!(confirms.settle(2, false), 0);
    }

    #[test]
    fn a_multiple_confirm_counts_for_what_was_not_confirmed_yet() {
        let mut confirms = Confirms::default();
        assert_eq!(confirms.settle(2, false) + confirms.settle(5, false) + confirms.settle(6, false), 3);
        assert_eq!(confirms.settle(4, true), 3);
        assert_eq!(confirms.through, 6);
        assert_eq!(confirms.settle(6, true), 0);
        assert_eq!(confirms.settle(8, false), 1);
        assert_eq!(confirms.settle(8, true), 1);
        assert_eq!(confirms.settle(u64::MAX, true), u64::MAX - 8);
    }
}
