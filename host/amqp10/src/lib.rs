//! AMQP 1.0 without sockets: its types, frames, performatives and messages, in bytes and out of them, and the login.
//!
//! *Not here:* sockets, clocks, queues, routing. The crate is `no_std` and knows no broker. Connections, sessions and
//! links as state machines are not there yet: these are the layers that they stand on.
//!
//! *In and out:* [`frame::split`] finds a frame in what a socket gave; [`Performative::from_body`] and
//! [`SaslFrame::from_body`] read it, borrowing all that has a size; [`frame::put_performative`] and its like write.
//! [`message`] finds the sections of a message and splices others around its bare message; [`sasl`] leads through a
//! login, whose claims and proofs its caller verifies. Every error is typed, and knows the condition by which the
//! specification names it.
//!
//! *Invariants:* what is read was checked to its last byte, so that what lies in it is iterated without errors; the
//! smallest encoding is written, and what was borrowed as it came; nothing is allocated when reading; no bytes of a
//! peer can make it panic, nest deeper than [`leveret_model::limits::VALUE_DEPTH_MAX`], or give more values than
//! they have bytes, but for [`types::FREE_ELEMENTS_MAX`].
//!
//! *Read first:* [`types`], then [`composite`], then [`performatives`] (a table), then [`frame`] and [`message`]. What
//! the specification says is tested in `src/tests`, in its order.
#![no_std]
extern crate alloc;

pub mod composite;
pub mod condition;
pub mod descriptor;
pub mod frame;
pub mod message;
pub mod messaging;
pub mod performatives;
pub mod sasl;
pub mod security;
pub mod transactions;
pub mod types;

pub use condition::Condition;
pub use performatives::Performative;
pub use security::SaslFrame;
pub use types::{DecodeError, Value};

#[cfg(test)]
mod tests;
