//! AMQP 0-9-1 as a state machine: bytes in, requests and events out, replies in, bytes out.
//!
//! *Not here:* sockets, clocks, queues, routing. The crate is `no_std` and knows no broker: it
//! checks what the protocol says, answers what concerns the connection alone, and hands the rest
//! to its caller. Heartbeats are sent when the caller's clock says so.
//!
//! *In and out:* [`Session::next`] takes what a socket gave and yields [`Event`]s, borrowed from
//! those bytes wherever a message lies whole in them; the caller answers with [`Session::reply`],
//! [`Session::refuse`], [`Session::deliver`] and their like, and drains [`Session::output`].
//! A client needs the same bytes from the other side: [`client`].
//!
//! *Invariants:* the events do not depend on how the stream is cut into chunks; the properties
//! of a [`Publish`] were checked and may be read by [`form::FORM`]; nothing is written to a channel that is
//! not open; nothing but close and close-ok leaves after a close; no bytes of a peer can make it
//! panic or nest deeper than [`leveret_model::limits::VALUE_DEPTH_MAX`].
//!
//! *Read first:* [`session`], then [`methods`] (all methods as one table), then [`frame`].
#![no_std]
extern crate alloc;

pub mod channels;
pub mod client;
pub mod close;
mod content;
pub mod delivery;
mod expiration;
pub mod form;
pub mod frame;
pub mod methods;
pub mod more_keys;
pub mod patch;
pub mod properties;
pub mod session;
pub mod wire;

pub use form::FORM;
pub use methods::Method;
pub use session::{
    ClientProperties, Event, FrameAhead, Login, Matter, Mechanism, Publish, Session, SessionConfig,
    frame_bytes, matter_of,
};
