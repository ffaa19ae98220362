//! One instance of a plugin: its store, its limits, and the calls of the contract as functions
//! that take and give the vocabulary of the broker.
//!
//! Nothing that comes out of a guest is trusted: answers are checked in [`answer`], time is
//! watched in [`deadline`], memory in [`memory`].

mod answer;
mod deadline;
mod description;
mod exports;
mod instance;
pub(crate) mod lift;
mod lower;
mod memory;
mod narrow;
mod state;
#[cfg(test)]
mod tests_of_any_bytes;
#[cfg(test)]
mod tests_of_hostile;
mod told;
mod verdict;

pub use answer::REJECT_REASON_BYTES_MAX;
pub(crate) use answer::{Decision, Decisions, DecisionsLeft, shown};
pub(crate) use deadline::{Deadline, thread_cpu_time};
pub use description::AttachmentPoint;
pub(crate) use description::{ArgumentDescription, InterceptorDescription, Stage, TypeDescription};
pub(crate) use description::{Description, InnerType, Opened, check_arguments};
pub(crate) use exports::{Attaching, Exports, Indices, Opening};
pub use instance::GuestFailure;
pub(crate) use instance::{Instance, Refused};
pub(crate) use narrow::narrow;
pub(crate) use state::GuestState;
pub(crate) use verdict::{Verdict, Verdicts};
