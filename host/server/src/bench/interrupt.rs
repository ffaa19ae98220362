//! Ctrl-C, or a request to end: a load ends early, takes away what it made, and says what it measured so far.

use anyhow::Context;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of a program that was interrupted, as shells have it (128 and SIGINT).
pub const EXIT_INTERRUPTED: u8 = 130;
/// How often it is looked at.
const EACH: Duration = Duration::from_millis(100);

/// Whether somebody wants the load to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

/// The error of what was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

impl Interrupt {
    /// From now on SIGINT and SIGTERM are noted instead of ending the process; a second one ends it.
    ///
    /// # Errors
    /// If the system gives no thread or no signals.
    pub fn listen() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (mut terminate, mut interrupt) = {
            let _entered = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let noted = Self::default();
        let flag = noted.clone();
        let wait = move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    if flag.0.swap(true, Ordering::Relaxed) {
                        std::process::exit(EXIT_INTERRUPTED.into());
                    }
                }
            });
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(wait)
            .context("a thread that waits for signals")?;
        Ok(noted)
    }

    /// Whether it was.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// If it was.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.is_set() { Err(Interrupted) } else { Ok(()) }
    }

    /// Sleeps so long, or until it is set or `is_over`; whether that came before.
    pub(super) fn sleep_unless(&self, pause: Duration, is_over: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        loop {
            if self.is_set() || is_over() {
                return true;
            }
            let left = pause.saturating_sub(began.elapsed());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(EACH));
        }
    }
}
