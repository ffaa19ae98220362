//! The housekeeper of a virtual host: a task of one worker that lets held messages go on, fires
//! timers and publishes what exchange types emit, when it is time.
//!
//! It sleeps until the next thing is due or the broker wakes it, and does a bounded piece of work
//! before it lets the worker's connections have their turns. The router is borrowed only inside
//! such a piece. What was lost goes into the log, at most once a second.

use leveret_broker::{
    Publisher, Vhost,
    later::Loss,
    port::{Router, Wake},
};
use std::{cell::RefCell, sync::Arc, time::Duration};
use tokio::{sync::Notify, time::Instant};

/// After how long to look at the clock again while something is due: it may have been set.
const CLOCK_TRUSTED_FOR: Duration = Duration::from_secs(60);
/// How often losses are told.
const LOSSES_TOLD_EVERY: Duration = Duration::from_secs(1);
/// How many different losses are told at once.
const LOSSES_TOLD_MAX: usize = 64;

/// Wakes a housekeeper from anywhere.
#[derive(Default)]
struct HousekeeperWake(Notify);

impl Wake for HousekeeperWake {
    fn wake(&self) {
        // Somebody who is not waiting yet finds it when they do.
        self.0.notify_one();
    }
}

/// Keeps the house of `vhost`. Never ends; drop it when the worker ends.
pub async fn keep(vhost: Arc<Vhost>, router: &RefCell<impl Router>) {
    let wake = Arc::new(HousekeeperWake::default());
    vhost.set_housekeeper(wake.clone());
    let mut publisher = Publisher::default();
    let mut losses = Losses::default();
    loop {
        let ran = vhost.run_later(&mut *router.borrow_mut(), &mut publisher);
        losses.add(ran.losses);
        losses.tell(&vhost);
        if ran.more {
            tokio::task::yield_now().await;
            continue;
        }
        let due = vhost.next_due_ms().map(|due_ms| {
            let wait_ms = due_ms.saturating_sub(router.borrow().now_ms());
            Instant::now() + Duration::from_millis(wait_ms).min(CLOCK_TRUSTED_FOR)
        });
        match [due, losses.due()].into_iter().flatten().min() {
            None => wake.0.notified().await,
            Some(until) => {
                tokio::select! {
                    () = wake.0.notified() => {}
                    () = tokio::time::sleep_until(until) => {}
                }
            }
        }
    }
}

/// Losses that are not told yet.
#[derive(Default)]
struct Losses {
    kept: Vec<Loss>,
    told: Option<Instant>,
}

impl Losses {
    fn add(&mut self, losses: Vec<Loss>) {
        for loss in losses {
            let full = self.kept.len() >= LOSSES_TOLD_MAX;
            let same = self.kept.iter_mut().find(|kept| kept.why == loss.why && kept.name == loss.name);
            match same {
                Some(same) => same.count += loss.count,
                None if full => {}
                None => self.kept.push(loss),
            }
        }
    }

    /// When to tell them.
    fn due(&self) -> Option<Instant> {
        let told = self.told.filter(|_| !self.kept.is_empty())?;
        Some(told + LOSSES_TOLD_EVERY)
    }

    /// Tells them if it is time.
    fn tell(&mut self, vhost: &Vhost) {
        if self.kept.is_empty() || self.due().is_some_and(|due| Instant::now() < due) {
            return;
        }
        for loss in self.kept.drain(..) {
            tracing::warn!("virtual host '{}': {loss}", vhost.name());
        }
        self.told = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests;
