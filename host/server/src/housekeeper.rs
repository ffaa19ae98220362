//! The housekeeper of a virtual host: a task of one worker that lets held messages go on, fires
//! timers and publishes what exchange types emit, when it is time.
//!
//! It sleeps until the next thing is due or the broker wakes it, and does a bounded piece of work
//! before it lets the worker's connections have their turns. The router is borrowed only inside
//! such a piece. Timers, and what types are to be told of that is gone, may take as long as the types do:
//! that is done in the slow lane, one piece at a time. What was lost goes into the log, at most once a second.

use leveret_broker::{
    Vhost,
    later::{Housekeeping, Loss},
    port::{Router, Wake},
};
use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
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

/// Something to do in the slow lane.
pub type Errand = Box<dyn FnOnce(&mut dyn Router) + Send>;

/// Keeps the house of `vhost`. Never ends; drop it when the worker ends. `beside` has something done in the
/// slow lane.
pub async fn keep(vhost: Arc<Vhost>, router: &RefCell<impl Router>, beside: impl Fn(Errand)) {
    let wake = Arc::new(HousekeeperWake::default());
    vhost.set_housekeeper(wake.clone());
    let mut hand = Housekeeping::default();
    let mut losses = Losses::default();
    let is_out = Arc::new(AtomicBool::new(false));
    loop {
        let ran = vhost.run_later(&mut *router.borrow_mut(), &mut hand);
        losses.add(ran.losses);
        losses.tell(&vhost);
        let now_ms = router.borrow().now_ms();
        let was_out = is_out.load(Ordering::Acquire);
        if !was_out && vhost.errands_due(now_ms) {
            is_out.store(true, Ordering::Release);
            beside(errand(&vhost, &is_out, &wake));
        }
        if ran.more {
            tokio::task::yield_now().await;
            continue;
        }
        // While an errand is out its end wakes.
        let due_ms = match is_out.load(Ordering::Acquire) {
            true => vhost.next_message_ms(),
            false => vhost.next_due_ms(),
        };
        let due = due_ms.into_iter().chain(ran.again_ms).min().map(|due_ms| {
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

fn errand(vhost: &Arc<Vhost>, is_out: &Arc<AtomicBool>, wake: &Arc<HousekeeperWake>) -> Errand {
    let (vhost, is_out, wake) = (vhost.clone(), is_out.clone(), wake.clone());
    Box::new(move |router| {
        vhost.run_errands(router);
        is_out.store(false, Ordering::Release);
        wake.wake();
    })
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
