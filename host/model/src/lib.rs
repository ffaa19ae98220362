//! The vocabulary of every other room: names, values, messages, refusals, limits.
//!
//! *Not here:* wire formats, routing, time, any I/O. The crate is `no_std`, so that
//! reaching for one is a compile error.
//!
//! *In and out:* plain data. A message keeps the encoded form of the protocol it came by
//! ([`Form`]); its fields are read from there when somebody asks.
//!
//! *Invariants:* a [`Name`] has at most 255 bytes; the properties of a [`MessageView`] were
//! checked by the protocol room that made it.
//!
//! Read [`message`] first, then [`refusal`].
#![no_std]
extern crate alloc;

pub mod far;
pub mod flat;
pub mod limits;
pub mod message;
pub mod more_keys;
pub mod name;
pub mod patch;
pub mod reads;
pub mod refusal;
#[cfg(test)]
mod testing;
pub mod value;

pub use far::Stub;
pub use message::{Form, MessageView, OwnedMessage, Place, PublisherIdentity};
pub use more_keys::MoreKeys;
pub use name::Name;
pub use patch::{Change, Exact, Patch, PatchError};
pub use reads::{BodyReading, HeaderSelection, Property, Reads};
pub use refusal::Refusal;
pub use value::{Table, Value};
