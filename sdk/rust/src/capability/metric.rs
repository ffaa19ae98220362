//! Figures for operators, shown by virtual host and plugin. Grant: `metric`. At most 64 names of at most
//! 64 bytes; more are ignored and counted.

use super::imports::metric as host;

/// Adds to a counter.
pub fn count(name: &str, more: u64) {
    host::count(name, more);
}

/// Sets a gauge.
pub fn gauge(name: &str, value: f64) {
    host::gauge(name, value);
}
