//! The broker as a program: configuration, listeners, connections, HTTP API, plugin watcher, command
//! line.
//!
//! *Not here:* what a byte of AMQP means (`leveret-amqp091`, `leveret-amqp10`), where a message goes
//! (`leveret-broker`), how a plugin is run (`leveret-plugin`). This room wires them, and is the
//! only one that knows sockets, files, threads and the time.
//!
//! *In and out:* a [`config::Config`] goes in; a running broker comes out ([`wiring::start`]).
//!
//! *Invariants:* a connection stays on the worker thread that got it; nothing on a message's path
//! is shared by all workers, but numbers that are added up once for a batch; no borrowed read buffer outlives one turn of a connection.
//!
//! Read [`wiring`] first, then [`connection`], then [`amqp091`] or [`amqp10`]; [`http`] stands apart.

mod acting;
pub mod amqp091;
pub mod amqp10;
pub mod bench;
pub mod cli;
pub mod config;
pub mod connection;
mod conversion;
pub mod data_folder;
pub mod decisions;
pub mod explainer;
pub mod global;
pub mod housekeeper;
pub mod http;
pub mod live;
pub mod policies;
pub mod quorum;
mod replace;
pub mod store;
pub mod tls;
mod told;
pub mod traffic;
pub mod users;
pub mod vhosts;
pub mod watch;
pub mod wiring;
pub mod worker;
