//! Slab segments that are free, kept by each thread for the next queue that wants one.

use alloc::vec::Vec;
use core::cell::RefCell;

/// The smallest segment, in bytes: what a queue with a few messages costs.
pub(super) const SEGMENT_BYTES_MIN: usize = 4 * 1024;
/// The largest segment, in bytes, unless a single record is larger.
pub(super) const SEGMENT_BYTES_MAX: usize = 1024 * 1024;
/// How many bytes of free segments one thread keeps.
const POOL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Segments come in powers of two from the smallest to the largest.
const CLASSES: usize = (SEGMENT_BYTES_MAX / SEGMENT_BYTES_MIN).trailing_zeros() as usize + 1;

struct Pool {
    bytes: usize,
    classes: [Vec<Vec<u8>>; CLASSES],
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: 0, classes: [const { Vec::new() }; CLASSES] }) };
}

/// The class of exactly this capacity.
fn class_of(capacity: usize) -> Option<usize> {
    let fits = capacity.is_power_of_two() && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&capacity);
    fits.then(|| (capacity / SEGMENT_BYTES_MIN).trailing_zeros() as usize)
}

/// An empty segment of at least `capacity` bytes.
pub(super) fn take(capacity: usize) -> Vec<u8> {
    let Some(class) = class_of(capacity) else {
        return Vec::with_capacity(capacity);
    };
    let free = POOL.try_with(|pool| {
        let pool = &mut *pool.borrow_mut();
        let segment = pool.classes.get_mut(class)?.pop()?;
        pool.bytes -= segment.capacity();
        Some(segment)
    });
    free.ok().flatten().unwrap_or_else(|| Vec::with_capacity(capacity))
}

/// Gives a segment back; what is beyond the bound is freed.
pub(super) fn give(mut segment: Vec<u8>) {
    let Some(class) = class_of(segment.capacity()) else {
        return;
    };
    segment.clear();
    // While a thread ends its pool may be gone already; then the segment is simply freed.
    let _ = POOL.try_with(|pool| {
        let pool = &mut *pool.borrow_mut();
        if pool.bytes + segment.capacity() <= POOL_BYTES_MAX
            && let Some(free) = pool.classes.get_mut(class)
        {
            pool.bytes += segment.capacity();
            free.push(segment);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_no_more_than_its_bound() {
        for _ in 0..10 {
            give(Vec::with_capacity(SEGMENT_BYTES_MAX));
        }
        let kept = POOL.with(|pool| pool.borrow().bytes);
        assert_eq!(kept, POOL_BYTES_MAX);
        let segment = take(SEGMENT_BYTES_MAX);
        assert_eq!((segment.len(), segment.capacity()), (0, SEGMENT_BYTES_MAX));
        assert_eq!(POOL.with(|pool| pool.borrow().bytes), POOL_BYTES_MAX - SEGMENT_BYTES_MAX);
    }

    #[test]
    fn odd_sizes_are_not_kept() {
        give(Vec::with_capacity(SEGMENT_BYTES_MAX * 2));
        give(Vec::with_capacity(100));
        assert_eq!(POOL.with(|pool| pool.borrow().bytes), 0);
    }
}
