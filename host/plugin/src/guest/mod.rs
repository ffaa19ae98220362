//! One instance of a plugin: its store, its limits, and the calls of the contract as functions
//! that take and give the vocabulary of the broker.
//!
//! Nothing that comes out of a guest is trusted: answers are checked in [`answer`], time is
//! watched in [`deadline`], memory in [`memory`].

mod answer;
mod deadline;
mod instance;
mod lower;
mod memory;
mod state;
mod told;

pub use answer::REJECT_REASON_BYTES_MAX;
pub(crate) use answer::{Decision, Decisions};
pub use instance::GuestFailure;
pub(crate) use instance::{Description, Instance, Refused, TypeDescription};
pub(crate) use state::GuestState;
