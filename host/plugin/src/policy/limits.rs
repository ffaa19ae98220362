//! How much of each resource a plugin may use in a virtual host.

use std::{fmt, ops::RangeInclusive, time::Duration};

/// The memory of an instance, in bytes.
pub const MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The CPU time of a call with nothing in it.
pub const CPU_PER_CALL: Duration = Duration::from_millis(10);
/// The CPU time that each message or binding in a call adds.
pub const CPU_PER_ITEM: Duration = Duration::from_micros(100);
/// The CPU time in which an instance must have started.
pub const CPU_START: Duration = Duration::from_millis(50);
/// The most binding ids in a decision.
pub const ANSWER_IDS_MAX: usize = 65_536;
/// Keys, values and stored messages of a plugin in a virtual host, in bytes.
pub const STATE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How many keys and stored messages a plugin has in a virtual host.
pub const STATE_ENTRIES_MAX: u64 = 100_000;
/// How many messages a plugin holds back in a virtual host.
pub const HELD_MESSAGES_MAX: u64 = 100_000;
/// The messages that a plugin holds back in a virtual host, in bytes.
pub const HELD_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many lines an instance logs in a second.
pub const LOG_LINES_MAX: u32 = 20;
/// How many metrics a plugin has in a virtual host.
pub const METRICS_MAX: usize = 64;

const MIB: u64 = 1024 * 1024;

/// The name of a limit. [`Limits::get`] and [`Limits::set`] count in the unit of its [`Limit::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// [`Limits::memory_bytes_max`], in MiB.
    Memory,
    /// [`Limits::cpu_per_call`], in milliseconds.
    CpuPerCall,
    /// [`Limits::cpu_per_item`], in microseconds.
    CpuPerItem,
    /// [`Limits::cpu_start`], in milliseconds.
    CpuStart,
    /// [`Limits::answer_ids_max`].
    AnswerIds,
    /// [`Limits::state_bytes_max`], in MiB.
    State,
    /// [`Limits::state_entries_max`].
    StateEntries,
    /// [`Limits::held_messages_max`].
    HeldMessages,
    /// [`Limits::held_bytes_max`], in MiB.
    Held,
    /// [`Limits::log_lines_per_second_max`].
    LogLines,
    /// [`Limits::metrics_max`].
    Metrics,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 11] = [
        Self::Memory,
        Self::CpuPerCall,
        Self::CpuPerItem,
        Self::CpuStart,
        Self::AnswerIds,
        Self::State,
        Self::StateEntries,
        Self::HeldMessages,
        Self::Held,
        Self::LogLines,
        Self::Metrics,
    ];

    /// Its key in the configuration; the unit is in the name.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Memory => "memory-mib",
            Self::CpuPerCall => "cpu-per-call-ms",
            Self::CpuPerItem => "cpu-per-item-us",
            Self::CpuStart => "cpu-start-ms",
            Self::AnswerIds => "answer-ids",
            Self::State => "state-mib",
            Self::StateEntries => "state-entries",
            Self::HeldMessages => "held-messages",
            Self::Held => "held-mib",
            Self::LogLines => "log-lines-per-second",
            Self::Metrics => "metrics",
        }
    }

    /// The limit of that key.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.key() == key)
    }

    /// The values that make sense, in the unit of [`Self::key`].
    #[must_use]
    pub const fn range(self) -> RangeInclusive<u64> {
        match self {
            // All that a 32-bit memory can have.
            Self::Memory => 1..=4_096,
            // A worker serves nobody else meanwhile.
            Self::CpuPerCall => 1..=1_000,
            Self::CpuPerItem => 1..=10_000,
            Self::CpuStart => 1..=10_000,
            // Half of what is copied out of a guest in one call.
            Self::AnswerIds => 1..=1_000_000,
            Self::State | Self::Held => 0..=1_000_000,
            Self::StateEntries | Self::HeldMessages => 0..=1_000_000_000,
            Self::LogLines => 0..=10_000,
            Self::Metrics => 0..=10_000,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// How much of each resource a plugin may use in a virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes; there is an instance for each worker, and while a
    /// version is replaced one of the older version too.
    pub memory_bytes_max: usize,
    /// CPU time of a call with nothing in it.
    pub cpu_per_call: Duration,
    /// CPU time that each message or binding in a call adds.
    pub cpu_per_item: Duration,
    /// CPU time in which an instance must have started, and described itself.
    pub cpu_start: Duration,
    /// Binding ids in a decision.
    pub answer_ids_max: usize,
    /// Keys, values and stored messages, in bytes, over all instances.
    pub state_bytes_max: u64,
    /// Keys and stored messages, over all instances.
    pub state_entries_max: u64,
    /// Messages held back, over all instances.
    pub held_messages_max: u64,
    /// Messages held back, in bytes, over all instances.
    pub held_bytes_max: u64,
    /// Lines of one instance in the log, in a second.
    pub log_lines_per_second_max: u32,
    /// Metrics, over all instances.
    pub metrics_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes_max: MEMORY_BYTES_MAX,
            cpu_per_call: CPU_PER_CALL,
            cpu_per_item: CPU_PER_ITEM,
            cpu_start: CPU_START,
            answer_ids_max: ANSWER_IDS_MAX,
            state_bytes_max: STATE_BYTES_MAX,
            state_entries_max: STATE_ENTRIES_MAX,
            held_messages_max: HELD_MESSAGES_MAX,
            held_bytes_max: HELD_BYTES_MAX,
            log_lines_per_second_max: LOG_LINES_MAX,
            metrics_max: METRICS_MAX,
        }
    }
}

impl Limits {
    /// A limit, in the unit of its key.
    #[must_use]
    pub fn get(&self, limit: Limit) -> u64 {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let time = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        match limit {
            Limit::Memory => number(self.memory_bytes_max) / MIB,
            Limit::CpuPerCall => time(self.cpu_per_call.as_millis()),
            Limit::CpuPerItem => time(self.cpu_per_item.as_micros()),
            Limit::CpuStart => time(self.cpu_start.as_millis()),
            Limit::AnswerIds => number(self.answer_ids_max),
            Limit::State => self.state_bytes_max / MIB,
            Limit::StateEntries => self.state_entries_max,
            Limit::HeldMessages => self.held_messages_max,
            Limit::Held => self.held_bytes_max / MIB,
            Limit::LogLines => u64::from(self.log_lines_per_second_max),
            Limit::Metrics => number(self.metrics_max),
        }
    }

    /// Sets a limit, in the unit of its key.
    pub fn set(&mut self, limit: Limit, value: u64) {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        match limit {
            Limit::Memory => self.memory_bytes_max = size(value.saturating_mul(MIB)),
            Limit::CpuPerCall => self.cpu_per_call = Duration::from_millis(value),
            Limit::CpuPerItem => self.cpu_per_item = Duration::from_micros(value),
            Limit::CpuStart => self.cpu_start = Duration::from_millis(value),
            Limit::AnswerIds => self.answer_ids_max = size(value),
            Limit::State => self.state_bytes_max = value.saturating_mul(MIB),
            Limit::StateEntries => self.state_entries_max = value,
            Limit::HeldMessages => self.held_messages_max = value,
            Limit::Held => self.held_bytes_max = value.saturating_mul(MIB),
            Limit::LogLines => self.log_lines_per_second_max = u32::try_from(value).unwrap_or(u32::MAX),
            Limit::Metrics => self.metrics_max = size(value),
        }
    }

    /// Whether the limits go together.
    ///
    /// # Errors
    /// Which two do not, for people to read.
    pub fn check(&self) -> Result<(), String> {
        let value = |limit| self.get(limit);
        if self.cpu_per_item > self.cpu_per_call {
            let (item, call) = (value(Limit::CpuPerItem), value(Limit::CpuPerCall));
            return Err(format!(
                "cpu-per-item-us = {item} is more than a whole call may take without any (cpu-per-call-ms = {call})"
            ));
        }
        if self.answer_ids_max.saturating_mul(8) > self.memory_bytes_max {
            let (ids, memory) = (value(Limit::AnswerIds), value(Limit::Memory));
            return Err(format!("answer-ids = {ids} of 8 bytes do not fit into memory-mib = {memory}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_set_by_its_key_and_no_other() {
        for limit in Limit::ALL {
            assert_eq!(Limit::of_key(limit.key()), Some(limit));
            let mut limits = Limits::default();
            let value = *limit.range().end();
            assert_ne!(limits.get(limit), value, "{limit}");
            limits.set(limit, value);
            assert_eq!(limits.get(limit), value, "{limit}");
            for other in Limit::ALL.into_iter().filter(|other| *other != limit) {
                assert_eq!(limits.get(other), Limits::default().get(other), "{limit} changes {other}");
            }
        }
        assert_eq!(Limit::of_key("memory"), None);
    }

    #[test]
    fn the_defaults_are_in_range_and_go_together() {
        let limits = Limits::default();
        limits.check().unwrap();
        for limit in Limit::ALL {
            assert!(limit.range().contains(&limits.get(limit)), "{limit}");
        }
    }

    #[test]
    fn limits_that_contradict_each_other_are_named() {
        let mut limits = Limits::default();
        limits.set(Limit::CpuPerCall, 1);
        limits.set(Limit::CpuPerItem, 2_000);
        let error = limits.check().unwrap_err();
        assert!(error.contains("cpu-per-item-us = 2000") && error.contains("cpu-per-call-ms = 1"), "{error}");
        let mut limits = Limits::default();
        limits.set(Limit::Memory, 1);
        limits.check().unwrap();
        limits.set(Limit::AnswerIds, 200_000);
        let error = limits.check().unwrap_err();
        assert!(error.contains("answer-ids = 200000") && error.contains("memory-mib = 1"), "{error}");
    }
}
