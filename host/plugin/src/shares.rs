//! Whose instances are built next: the CPU time of building beside the workers, divided by virtual host.
//!
//! Whoever builds an instance (for a channel that waits, for a new version before its swap) does so in a
//! turn, of which there are few at a time. A turn is looked at between calls of the guest
//! ([`between_calls`]): when it has taken its slice and somebody else waits, it goes to the virtual host
//! that has used least. So a build waits for a slice and a call of each other virtual host's at most, however
//! many bindings that one's exchanges have and however long its plugin takes for each.

use crate::guest::thread_cpu_time;
use hashbrown::HashMap;
use leveret_model::Name;
use parking_lot::{Condvar, Mutex};
use std::{cell::RefCell, sync::Arc, time::Duration};

/// How long a turn lasts while others wait, in CPU time.
pub(crate) const SLICE: Duration = Duration::from_millis(10);

/// The turns of all who build.
#[derive(Default)]
pub(crate) struct Shares {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many have a turn.
    running: usize,
    /// At most so many; 0 for one.
    turns: usize,
    /// The number of the next who waits.
    next: u64,
    waiting: Vec<Waiting>,
    /// What virtual hosts that build have used, as far as it counts, and how many of their builds there are.
    used: HashMap<Name, Used, foldhash::fast::RandomState>,
    /// Who begins is not owed more than who has used this.
    clock: Duration,
}

struct Waiting {
    number: u64,
    vhost: Name,
}

#[derive(Clone, Copy, Default)]
struct Used {
    time: Duration,
    builds: usize,
    /// Of its builds, those that have a turn.
    running: usize,
}

thread_local! {
    static BUILD: RefCell<Option<Build>> = const { RefCell::new(None) };
}

/// The build that this thread does.
struct Build {
    shares: Arc<Shares>,
    vhost: Name,
    /// The thread's CPU time at the beginning of the turn.
    began: Duration,
}

/// Ends the build of this thread when it is dropped.
#[must_use]
pub(crate) struct Building {
    /// It is part of another one of the same thread.
    within: bool,
    /// Only the thread that began it may end it.
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

impl Shares {
    /// As many build at a time as leave half of the machine to others.
    pub(crate) fn of_machine() -> Arc<Self> {
        Self::new(std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1))
    }

    /// So many build at a time.
    pub(crate) fn new(turns: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { turns, ..State::default() }), ..Self::default() })
    }

    /// Begins a build for a virtual host on this thread, when it is its turn.
    pub(crate) fn build(self: &Arc<Self>, vhost: &Name) -> Building {
        let within = BUILD.with_borrow(Option::is_some);
        if !within {
            let mut state = self.state.lock();
            let clock = state.clock;
            let used = state.used.entry(vhost.clone()).or_default();
            if used.builds == 0 {
                used.time = used.time.max(clock);
            }
            used.builds += 1;
            self.wait(state, vhost);
            let build = Build { shares: self.clone(), vhost: vhost.clone(), began: thread_cpu_time() };
            BUILD.set(Some(build));
        }
        Building { within, _of_this_thread: std::marker::PhantomData }
    }

    fn wait(&self, mut state: parking_lot::MutexGuard<'_, State>, vhost: &Name) {
        let number = state.next;
        state.next += 1;
        state.waiting.push(Waiting { number, vhost: vhost.clone() });
        self.freed.wait_while(&mut state, |state| !state.may_run(number));
        state.waiting.retain(|waiting| waiting.number != number);
        state.running += 1;
        if let Some(used) = state.used.get_mut(vhost) {
            used.running += 1;
            let time = used.time;
            state.clock = state.clock.max(time);
        }
        drop(state);
        // There may be a turn for the next one too.
        self.freed.notify_all();
    }

    fn leave(&self, state: &mut State, vhost: &Name, took: Duration) {
        state.running -= 1;
        if let Some(used) = state.used.get_mut(vhost) {
            used.running -= 1;
            used.time += took;
        }
        self.freed.notify_all();
    }

    fn end(&self, vhost: &Name, took: Duration) {
        let mut state = self.state.lock();
        self.leave(&mut state, vhost, took);
        let clock = state.clock;
        if let Some(used) = state.used.get_mut(vhost) {
            used.builds -= 1;
            // What it used stays known as long as it is more than others had.
            if used.builds == 0 && used.time <= clock {
                state.used.remove(vhost);
            }
        }
        let others: usize = state.used.values().map(|used| used.builds).sum();
        if others == 0 {
            // Nobody is owed anything.
            state.used.clear();
            state.clock = Duration::ZERO;
        }
    }

    /// The turn goes on, or to somebody else and comes back.
    fn pass(&self, build: &mut Build) {
        let took = thread_cpu_time().saturating_sub(build.began);
        if took < SLICE {
            return;
        }
        let mut state = self.state.lock();
        if state.waiting.iter().all(|waiting| waiting.vhost == build.vhost) {
            // The time counts, though nobody else wants it now.
            if let Some(used) = state.used.get_mut(&build.vhost) {
                used.time += took;
            }
            build.began = thread_cpu_time();
            return;
        }
        self.leave(&mut state, &build.vhost, took);
        self.wait(state, &build.vhost);
        build.began = thread_cpu_time();
    }
}

impl State {
    /// Whether it is the turn of who has this number: of the virtual host that has used least, and of its
    /// builds the one that waits longest. No virtual host has two turns while another waits.
    fn may_run(&self, number: u64) -> bool {
        if self.running >= self.turns.max(1) {
            return false;
        }
        let used = |vhost: &Name| self.used.get(vhost).copied().unwrap_or_default();
        let key = |waiting: &&Waiting| {
            let used = used(&waiting.vhost);
            (used.running > 0, used.time, waiting.number)
        };
        self.waiting.iter().min_by_key(key).is_some_and(|next| next.number == number)
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if self.within {
            return;
        }
        if let Some(build) = BUILD.take() {
            let took = thread_cpu_time().saturating_sub(build.began);
            build.shares.end(&build.vhost, took);
        }
    }
}

/// Between two calls of a guest: where this thread builds an instance, somebody else may be next.
pub(crate) fn between_calls() {
    // Not borrowed while it waits: whatever runs on this thread meanwhile is this very call.
    let Some(mut build) = BUILD.take() else { return };
    let shares = build.shares.clone();
    shares.pass(&mut build);
    BUILD.set(Some(build));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread};

    /// Uses that much CPU time of this thread.
    fn work(time: Duration) {
        let began = thread_cpu_time();
        while thread_cpu_time().saturating_sub(began) < time {
            std::hint::black_box((0..1_000_u64).sum::<u64>());
        }
    }

    #[test]
    fn a_build_waits_for_a_slice_of_another_vhosts_and_not_for_its_end() {
        let shares = Shares::new(1);
        let (long, short) = (Name::from_static("long"), Name::from_static("short"));
        let (began, has_begun) = mpsc::channel();
        let (served, is_served) = mpsc::channel();
        let long_build = {
            let shares = shares.clone();
            thread::spawn(move || {
                let _building = shares.build(&long);
                began.send(()).unwrap();
                let mut slices = 0_u64;
                // It ends by the other one's end alone.
                while is_served.try_recv().is_err() {
                    work(SLICE / 10);
                    between_calls();
                    slices += 1;
                }
                slices
            })
        };
        has_begun.recv().unwrap();
        {
            let _building = shares.build(&short);
            served.send(()).unwrap();
        }
        assert!(long_build.join().unwrap() > 0);
        let state = shares.state.lock();
        assert_eq!((state.running, state.waiting.len(), state.used.len()), (0, 0, 0));
    }

    #[test]
    fn who_has_used_least_is_next_and_one_vhost_does_not_have_all_turns() {
        let mut state = State { turns: 2, ..State::default() };
        let names = ["a", "b", "c"].map(Name::from_static);
        for (number, (vhost, ms)) in (0..).zip([(0, 5), (0, 5), (1, 9), (2, 7)]) {
            let vhost = names[vhost].clone();
            state.used.entry(vhost.clone()).or_default().time = Duration::from_millis(ms);
            state.waiting.push(Waiting { number, vhost });
        }
        assert!(state.may_run(0) && !state.may_run(1) && !state.may_run(2));
        state.waiting.remove(0);
        (state.running, state.used.get_mut("a".as_bytes()).unwrap().running) = (1, 1);
        assert!(state.may_run(3), "a has a turn already");
        state.running = 2;
        assert!((1..4).all(|number| !state.may_run(number)), "no turn is left");
    }

    #[test]
    fn what_is_part_of_a_build_takes_no_turn_of_its_own() {
        let shares = Shares::new(1);
        let outer = shares.build(&Name::from_static("a"));
        drop(shares.build(&Name::from_static("b")));
        assert_eq!(shares.state.lock().running, 1);
        drop(outer);
        assert_eq!(shares.state.lock().running, 0);
        // Where nothing is built there is nothing to pass on.
        between_calls();
    }
}
