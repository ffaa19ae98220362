//! Virtual hosts, exchanges, bindings, the routing walk, queues, consumers, confirms.
//!
//! *Not here:* sockets, clocks, wire formats, WebAssembly. Exchange types are asked through a
//! port ([`port::Router`]); a consumer's connection is woken through another ([`port::Wake`]).
//!
//! Read [`port`] first, then [`exchange`].

extern crate alloc;

pub mod exchange;
pub mod port;
pub mod queue;
