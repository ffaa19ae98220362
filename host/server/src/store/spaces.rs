//! Which spaces the store's values are in.
//!
//! ```text
//! 1 exchanges   key: virtual host, name
//! 2 queues      key: virtual host, u64 BE the queue's number
//! 3 bindings    key: virtual host, source, u8 1 if it leads to a queue, destination, routing key, and where it has
//!               arguments 32 bytes of SHA-256 of them (topology.rs)
//! 4 others      "h", virtual host: u8 version, u64 the number of what the virtual host holds
//!               "n": u64, below which all numbers may be in use
//!               "s": 32 bytes, of which the salts are made of users that are not there
//!               "p", u64 BE: u8 "s" a space or "q" a queue that is being filled and is not in use yet, or is a page
//!               (pages.rs): the next start clears it
//! 5 holders     key: virtual host, exchange, u8 type, u64 BE the exchange's number if it has one: u8 version, u64
//!               space or 0, u64 queue of messages or 0; version 2: u8 how many versions left something that is
//!               kept, for each 32 bytes of SHA-256, u64 space, u64 queue or 0, the latest last
//! 6 timers      key: virtual host, exchange, u8 type, u64 BE the exchange's number or 0, the timer's name: u64 when it
//!               is due, in milliseconds since 1970
//! 7 users       key: name (users.rs)
//! 8 vhosts      key: name of a virtual host that there was at some time: u8 version, table (vhosts.rs)
//! 9 policies    key: virtual host, u8 0 a user's or 1 an operator's, name: u8 version, table (policies.rs)
//! 10 added      key: u64 BE a queue's or a lane's number, u64 BE a message's: what consumers added to it (added.rs)
//! 11 globals    key: name of a global parameter: u8 version, JSON (globals.rs)
//! 64 and above  what a type of an exchange keeps (state.rs)
//! ```
//!
//! Names are u8 length, bytes. What the values are is in `codec.rs`.

use leveret_store::Space;

pub(super) const EXCHANGES: Space = Space(1);
pub(super) const QUEUES: Space = Space(2);
pub(super) const BINDINGS: Space = Space(3);
pub(super) const OTHERS: Space = Space(4);
pub(super) const HOLDERS: Space = Space(5);
pub(super) const TIMERS: Space = Space(6);
pub(super) const USERS: Space = Space(7);
pub(super) const VHOSTS: Space = Space(8);
pub(super) const POLICIES: Space = Space(9);
pub(super) const ADDED: Space = Space(10);
pub(super) const GLOBALS: Space = Space(11);

/// The key of the number below which all may be in use.
pub(super) const NEXT_ID: &[u8] = b"n";
/// The key of what salts of users are made of that are not there.
pub(super) const SALT_KEY: &[u8] = b"s";
/// Begins the key of what a virtual host holds.
pub(super) const HOLDS: u8 = b'h';
/// Begins the key of a space that is being filled.
pub(super) const PENDING: u8 = b'p';
