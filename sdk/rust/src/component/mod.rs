//! The inside: an instance of a plugin, and the functions by which the broker calls it.
//!
//! [`export!`](crate::export) and [`export_interceptors!`](crate::export_interceptors) need this to be
//! public; an author does not.
//!
//! A component has one instance of each kind that it exports, which holds the open exchanges or the
//! attachments. The broker prefers `route-batch` and `intercept-batch`, whose exports are written by hand:
//! the answer stays in a buffer of the instance that the next call reuses, so there is nothing to free
//! after the broker has read it.

pub mod exchange_type;
pub mod interceptor;

pub use exchange_type::{Plugin, Registration, route_batch};
pub use interceptor::{Interceptors, intercept_batch};

/// A buffer for answers that has grown above this many bytes is not kept for the next call.
const ANSWER_BYTES_KEPT_MAX: usize = 1 << 20;

fn clear<T>(answer: &mut Vec<T>) {
    if answer.capacity().saturating_mul(size_of::<T>()) > ANSWER_BYTES_KEPT_MAX {
        *answer = Vec::new();
    }
    answer.clear();
}

/// Takes over the bytes that the broker passed to an export that is written by hand.
///
/// # Safety
/// `bytes` is `length_bytes` bytes long and was allocated for this call by `cabi_realloc` with
/// alignment 1: the component model's promise for a list of bytes.
unsafe fn take_over(bytes: *mut u8, length_bytes: usize) -> Vec<u8> {
    // SAFETY: `cabi_realloc` is the global allocator's; for no bytes its pointer is dangling and
    // aligned, which is what an empty vector has.
    unsafe { Vec::from_raw_parts(bytes, length_bytes, length_bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_answer_is_not_kept() {
        let mut words = Vec::<u64>::with_capacity(ANSWER_BYTES_KEPT_MAX / 8 + 1);
        clear(&mut words);
        assert_eq!(words.capacity(), 0);
    }
}
