//! Ctrl-C, or a request to end: a load ends early, takes away what it made, and says what it measured so far.

use anyhow::Context;
use parking_lot::{Condvar, Mutex};
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

/// Whether somebody wants the load to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_set: AtomicBool,
    /// Held by whoever looks and by whoever says that there is something to see, so that nothing is missed in between.
    looking: Mutex<()>,
    look: Condvar,
}

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
        let to_note = noted.clone();
        let wait = move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    if to_note.0.is_set.swap(true, Ordering::Relaxed) {
                        std::process::exit(EXIT_INTERRUPTED.into());
                    }
                    to_note.look_again();
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
        self.0.is_set.load(Ordering::Relaxed)
    }

    /// # Errors
    /// If it was.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.is_set() { Err(Interrupted) } else { Ok(()) }
    }

    /// As a signal does.
    #[cfg(test)]
    pub(super) fn set(&self) {
        self.0.is_set.store(true, Ordering::Relaxed);
        self.look_again();
    }

    /// Has those who sleep look again whether that is over ([`Self::sleep_unless`]).
    pub(super) fn look_again(&self) {
        drop(self.0.looking.lock());
        self.0.look.notify_all();
    }

    /// Sleeps so long, or until it is set or `is_over`; whether that came before. Whoever makes it over says so by
    /// [`Self::look_again`].
    pub(super) fn sleep_unless(&self, pause: Duration, is_over: impl Fn() -> bool) -> bool {
        let end = Instant::now() + pause;
        let mut looking = self.0.looking.lock();
        loop {
            if self.is_set() || is_over() {
                return true;
            }
            if self.0.look.wait_until(&mut looking, end).timed_out() {
                return self.is_set() || is_over();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Longer than any test may run.
    const ENDLESS: Duration = Duration::from_secs(100_000);

    #[test]
    fn who_sleeps_is_woken_by_what_is_over_and_by_the_interrupt() {
        let interrupt = Interrupt::default();
        let over = AtomicBool::new(false);
        assert!(!interrupt.sleep_unless(Duration::ZERO, || over.load(Ordering::Relaxed)));
        for is_it in [&over, &interrupt.0.is_set] {
            thread::scope(|scope| {
                let sleeper =
                    scope.spawn(|| interrupt.sleep_unless(ENDLESS, || over.load(Ordering::Relaxed)));
                // Nothing to see: it sleeps on.
                interrupt.look_again();
                is_it.store(true, Ordering::Relaxed);
                interrupt.look_again();
                assert!(sleeper.join().unwrap());
            });
            over.store(false, Ordering::Relaxed);
        }
        assert_eq!(interrupt.check(), Err(Interrupted));
        assert!(interrupt.sleep_unless(ENDLESS, || false), "it is set already");
    }
}
