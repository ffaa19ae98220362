//! What a plugin may do.

mod capability;
mod limits;

pub use capability::{Capability, Grants, UnknownCapability};
pub use limits::{
    ANSWER_IDS_MAX, CPU_PER_CALL, CPU_PER_ITEM, CPU_START, HELD_BYTES_MAX, HELD_MESSAGES_MAX, LOG_LINES_MAX,
    Limit, Limits, MEMORY_BYTES_MAX, METRICS_MAX, STATE_BYTES_MAX, STATE_ENTRIES_MAX,
};
