//! `log`: lines in the broker's log, a limited number a second.
//!
//! The text is a stranger's: it is one field of one event, with control characters escaped.

use super::Context;
use crate::bindings::v0_2::leveret::routing::log::{Host, Level};
use std::time::{Duration, Instant};

/// Longer lines are cut here.
const LINE_BYTES_MAX: usize = 1_024;
const WINDOW: Duration = Duration::from_secs(1);

/// How many lines may still come.
#[derive(Debug)]
pub(crate) struct Limit {
    lines_max: u32,
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Limit {
    pub(crate) fn new(lines_max: u32) -> Self {
        Self { lines_max, since: None, lines: 0, left_out: 0 }
    }

    /// Whether a line may go to the log now, and how many were left out before it.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines >= self.lines_max {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Host for Context {
    fn write(&mut self, level: Level, text: String) -> wasmtime::Result<()> {
        let Some(left_out) = self.log.pass(Instant::now()) else {
            self.account.count_log_line_left_out();
            return Ok(());
        };
        let plugin = self.account.plugin();
        if left_out > 0 {
            tracing::warn!(target: "leveret::plugin::log", plugin, "{left_out} lines before were left out");
        }
        let text = text.get(..text.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or_default().escape_debug();
        match level {
            Level::Debug => tracing::debug!(target: "leveret::plugin::log", plugin, "{text}"),
            Level::Info => tracing::info!(target: "leveret::plugin::log", plugin, "{text}"),
            Level::Warning => tracing::warn!(target: "leveret::plugin::log", plugin, "{text}"),
            Level::Error => tracing::error!(target: "leveret::plugin::log", plugin, "{text}"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_limited_by_the_second_and_those_left_out_are_counted() {
        let (mut limit, now) = (Limit::new(2), Instant::now());
        assert_eq!(limit.pass(now), Some(0));
        assert_eq!(limit.pass(now), Some(0));
        assert_eq!(limit.pass(now), None);
        assert_eq!(limit.pass(now + WINDOW / 2), None);
        assert_eq!(limit.pass(now + WINDOW), Some(2));
        assert_eq!(limit.pass(now + WINDOW), Some(0));
    }
}
