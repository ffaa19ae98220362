//! AMQP 1.0 as a state machine: bytes in, events out, answers in, bytes out; and the layers it stands on.
//!
//! *Not here:* sockets, clocks, queues, routing. The crate is `no_std` and knows no broker: it checks what the protocol
//! says, answers what concerns the connection alone, and hands the rest to its caller. Which deliveries are not settled
//! the caller knows; signs of life are sent when the caller's clock says so.
//!
//! *In and out:* [`connection::Connection::next`] takes what a socket gave and yields [`connection::Event`]s, borrowed
//! from those bytes where they can be; the caller answers, and drains [`connection::Connection::output`]. Below it,
//! [`frame::split`] finds a frame; [`Performative::from_body`] reads it, borrowing all that has a size;
//! [`frame::put_performative`] and its like write. [`message`] finds the sections of a message and splices others around
//! its bare message; [`sasl`] leads through a login, whose claims and proofs its caller verifies. Beside it, [`filter`]
//! compiles what a receiver wants, [`management`] reads requests for queues and their like, and [`coordinator`] knows what
//! belongs to which transaction. Every error is typed, and knows the condition by which the specification names it.
//!
//! *Invariants:* events and answers do not depend on how the stream is cut into chunks; nothing is sent beyond the
//! client's windows, credits and frame size; what is read was checked to its last byte, so that what lies in it is
//! iterated without errors; the smallest encoding is written, and what was borrowed as it came; no bytes of a peer can
//! make it panic, nest deeper than [`leveret_model::limits::VALUE_DEPTH_MAX`], or give more values than they have bytes,
//! but for [`types::FREE_ELEMENTS_MAX`].
//!
//! *Read first:* [`connection`], then [`performatives`] (a table), then [`types`] and [`message`]. What the
//! specification says is tested in `src/tests`, in its order.
#![no_std]
extern crate alloc;

pub mod composite;
pub mod condition;
pub mod connection;
pub mod coordinator;
pub mod descriptor;
pub mod filter;
pub mod form;
pub mod frame;
pub mod management;
pub mod message;
pub mod messaging;
pub mod performatives;
pub mod refusal;
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
