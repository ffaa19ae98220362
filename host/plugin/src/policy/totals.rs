//! How much the plugins of a virtual host may have together.

use std::ops::RangeInclusive;

const MIB: u64 = 1024 * 1024;

/// The memory of all instances of plugins in a virtual host, in bytes: sixteen times what one instance may
/// have by default, so that no plugin takes all of it by itself on a machine of usual size.
pub const VHOST_MEMORY_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// The remembered answers of a virtual host, in bytes: as much as eight exchanges may have on a worker. An
/// exchange with a thousand keys has a hundredth of that.
pub const VHOST_REMEMBERED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The remembered answers of all virtual hosts, in bytes: as much as four of them may have. It is little beside
/// the messages that a broker holds, and answers that are forgotten cost a call each.
pub const REMEMBERED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How much the plugins of a virtual host may have together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Linear memories and tables of all instances, on workers and beside them, of every version that is
    /// there, in bytes. Those of the core types are not counted: their memory follows the bindings.
    pub memory_bytes_max: usize,
    /// Remembered answers and verdicts, on all workers, in bytes. Those of the core types are counted.
    pub remembered_bytes_max: usize,
}

impl Default for Totals {
    fn default() -> Self {
        Self { memory_bytes_max: VHOST_MEMORY_BYTES_MAX, remembered_bytes_max: VHOST_REMEMBERED_BYTES_MAX }
    }
}

/// The name of a total of a virtual host. All are in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// [`Totals::memory_bytes_max`]
    Memory,
    /// [`Totals::remembered_bytes_max`]
    Remembered,
}

impl Total {
    /// Its key in the configuration.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Memory => "memory-mib",
            Self::Remembered => "remembered-mib",
        }
    }

    /// The values that make sense, in MiB.
    #[must_use]
    pub const fn range(self) -> RangeInclusive<u64> {
        match self {
            Self::Memory => 1..=1_000_000,
            // Without any, every message is asked about.
            Self::Remembered => 0..=1_000_000,
        }
    }
}

/// What an operator says of the totals of a virtual host, in MiB. What is unset is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TotalRules {
    /// [`Total::Memory`]
    pub memory_mib: Option<u64>,
    /// [`Total::Remembered`]
    pub remembered_mib: Option<u64>,
}

impl TotalRules {
    /// A total that is set to what no total can be.
    pub(super) fn out_of_range(&self) -> Option<(Total, u64)> {
        let all = [(Total::Memory, self.memory_mib), (Total::Remembered, self.remembered_mib)];
        let mut set = all.into_iter().filter_map(|(total, value)| Some((total, value?)));
        set.find(|(total, value)| !total.range().contains(value))
    }

    /// The totals.
    pub(super) fn totals(&self) -> Totals {
        let default = Totals::default();
        Totals {
            memory_bytes_max: self.memory_mib.map_or(default.memory_bytes_max, bytes),
            remembered_bytes_max: self.remembered_mib.map_or(default.remembered_bytes_max, bytes),
        }
    }
}

/// So many MiB in bytes.
pub(super) fn bytes(mib: u64) -> usize {
    usize::try_from(mib.saturating_mul(MIB)).unwrap_or(usize::MAX)
}
