//! What the integration tests stand on: it starts the built broker, builds the guests, sets up the
//! foreign clients and speaks raw AMQP.
//!
//! Not here: assertions about the broker's behaviour (they are in the suites beside this crate), and
//! any code of the broker. [`wire`] in particular encodes frames by itself, so that an error in
//! `host/amqp091` is not mirrored by the tests.
//!
//! In: the path of the broker's binary, the names of guests and languages. Out: a running
//! [`Broker`], paths of components, commands that run a client program, connections.
//!
//! What always holds:
//! - Nothing waits by sleeping. A wait is for an event (a log line, a frame, an exit) and has a
//!   limit; when the limit is reached, the test fails and says what it waited for.
//! - A process that was started here does not outlive the value that stands for it.
//! - Set-up that tests share happens once, under a lock on a file, whatever number of test
//!   processes asks for it at the same time.
//!
//! A set-up that fails is a failed test, so the functions here panic rather than return errors.
//!
//! Read [`broker`] first, then [`wire`].

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed set-up is a failed test")]

pub mod broker;
pub mod disk;
pub mod guests;
pub mod languages;
pub mod log_lines;
pub mod process;
pub mod relay;
pub mod scratch;
pub mod wire;

pub use broker::Broker;
pub use disk::WatchedDisk;
pub use relay::Relay;
pub use scratch::ScratchDirectory;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a test waits for an event that a healthy broker brings within milliseconds.
///
/// Long, because a loaded machine is no failure: a plugin is compiled at the lowest priority, which gets next
/// to nothing beside a build. Reached only when the event never comes.
pub const EVENT_WAIT_MAX: Duration = Duration::from_secs(300);

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let kit = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    kit.ancestors().nth(2).expect("the kit is two levels below the root").to_path_buf()
}

/// The directory that cargo builds into, seen from the test that is running.
#[must_use]
pub fn target_directory() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    // <target>/<profile>/deps/<test>
    test.ancestors().nth(3).expect("a test runs below the target directory").to_path_buf()
}

/// A name for a queue or an exchange that no other test and no other run uses, so that the tests
/// can share a broker.
#[must_use]
pub fn unique_name(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let started = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64 & 0xffff_ffff);
    format!("{stem}-{}-{started:x}-{number}", std::process::id())
}
