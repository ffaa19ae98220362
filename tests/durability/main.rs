//! What a confirm promises, and what else outlives the process: the built broker with real files, and lapin as a
//! client that knows nothing of Leveret.
//!
//! - `crash`: a broker under load is killed (SIGKILL) and started again, over and over. [`model`] knows every
//!   confirm, every "ok" and every ack that was sent, and judges all that is there after each start.
//! - `clean_stop`: nothing is marked that was not delivered, and nothing is lost, after SIGTERM.
//! - `damage`: files that are damaged, cut, missing, or of a later version.
//! - `slow`: a disk that does not keep up.
//! - `syncs`: what was asked of the system before a confirm, and what is done when it cannot.
//! - `long`: transactions that are longer than what segments of the journal are shared by.
//! - `gone`: what was deleted, and whoever deletes it once more.
//! - `full`: a disk without room, and many who publish.
//! - `poison`: a message at which the broker ends each time.
//! - `parked`: a start without the plugin of an exchange, and its state once the plugin is back.
//!
//! A failing run of `crash` prints its seed. `LEVERET_DURABILITY_SEED=<number>` makes the same choices again; the
//! moments of the kills are counted in events, so they come again as far as the system's scheduling allows.
//! `LEVERET_DURABILITY_SECONDS=<number>` is the long version: it goes on for so many seconds instead of
//! [`crash::KILLS`] kills.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod clean_stop;
mod crash;
mod damage;
mod full;
mod gone;
mod load;
mod long;
mod model;
mod parked;
mod poison;
#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;
mod simple;
mod slow;
mod syncs;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
