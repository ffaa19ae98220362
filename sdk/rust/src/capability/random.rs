//! Chance. Grant: `random`; the operator may set a seed, for tests.

use super::imports::random as host;

/// The most bytes that [`bytes`] gives.
pub const BYTES_MAX: u32 = 1024;

/// An unpredictable number, or with a seed the next of a fixed series.
#[must_use]
pub fn next() -> u64 {
    host::next()
}

/// A number from 0 up to and without `end`, each as likely as the others to within 2^-64 of `end`; 0
/// where `end` is.
#[must_use]
pub fn below(end: u64) -> u64 {
    // The high half of the product; it fits.
    ((u128::from(host::next()) * u128::from(end)) >> 64) as u64
}

/// So many such bytes, at most [`BYTES_MAX`].
#[must_use]
pub fn bytes(count: u32) -> Vec<u8> {
    host::bytes(count.min(BYTES_MAX))
}
