//! The threads of the lane, and whose question is next.

use super::{ANSWER_KEPT, Asked, Progress, Question, Room, run};
use crate::{
    builder::{Builder, Mailbox},
    engine::Engines,
    guest::thread_cpu_time,
    registry::Registry,
    services::Services,
    worker::Homes,
};
use hashbrown::HashMap;
use leveret_broker::port::Wake;
use leveret_model::Name;
use parking_lot::{Condvar, Mutex};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

/// So many workers have a thread of the lane together.
const WORKERS_PER_THREAD: usize = 4;
/// The priority of the threads: a worker that wants to run gets nine tenths of a core that it shares with
/// one of them.
const NICE: i32 = 10;

/// The lane. Its threads end when it is dropped.
pub(crate) struct Lane(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is work, or an end.
    work: Condvar,
    parts: Parts,
}

/// What calls of guests take.
struct Parts {
    engines: Arc<Engines>,
    services: Arc<Services>,
    builder: Arc<Builder>,
    registry: Arc<Registry>,
}

#[derive(Default)]
struct State {
    vhosts: HashMap<Name, VhostLane, foldhash::fast::RandomState>,
    /// What was done and perhaps not taken yet, the oldest first.
    done: VecDeque<(Instant, Weak<Asked>)>,
    /// Who has used less than this is not owed more for it.
    clock: Duration,
    stop: bool,
}

/// A virtual host in the lane.
struct VhostLane {
    queue: VecDeque<Arc<Asked>>,
    /// CPU time, as far as it counts.
    used: Duration,
    /// The instances; away while a thread works for it.
    homes: Option<Homes>,
    room: Arc<Room>,
}

impl Lane {
    /// Starts the threads for so many workers.
    pub(crate) fn start(
        engines: &Arc<Engines>,
        services: &Arc<Services>,
        builder: &Arc<Builder>,
        registry: &Arc<Registry>,
        workers: usize,
    ) -> io::Result<Self> {
        let parts = Parts {
            engines: engines.clone(),
            services: services.clone(),
            builder: builder.clone(),
            registry: registry.clone(),
        };
        let shared = Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), parts });
        let lane = Self(shared.clone());
        for number in 0..workers.div_ceil(WORKERS_PER_THREAD).max(1) {
            let shared = shared.clone();
            thread::Builder::new().name(format!("leveret-lane-{number}")).spawn(move || {
                lower_priority();
                shared.work();
            })?;
        }
        Ok(lane)
    }

    /// Puts a question into the lane; `waker` is called when it is answered. `None` if the virtual host
    /// has too many there: then `waker` is called when it makes sense to try again.
    pub(crate) fn ask(&self, question: Question, waker: &Arc<dyn Wake>) -> Option<Arc<Asked>> {
        let mut state = self.0.state.lock();
        let clock = state.clock;
        let vhost = question.vhost.clone();
        let lane = state.vhosts.entry(vhost).or_insert_with(|| VhostLane {
            queue: VecDeque::new(),
            used: clock,
            homes: Some(self.0.parts.homes()),
            room: Arc::default(),
        });
        if !lane.room.enter(&question, waker) {
            return None;
        }
        if lane.queue.is_empty() {
            lane.used = lane.used.max(clock);
        }
        let (waker, progress, room) = (waker.clone(), Mutex::new(Progress::Waits), lane.room.clone());
        let asked = Arc::new(Asked { question, waker, progress, room });
        lane.queue.push_back(asked.clone());
        drop(state);
        self.0.work.notify_one();
        Some(asked)
    }

    /// How many questions of a virtual host wait.
    pub(crate) fn waiting(&self, vhost: &Name) -> usize {
        self.0.state.lock().vhosts.get(vhost).map_or(0, |lane| lane.queue.len())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.state.lock().stop = true;
        self.0.work.notify_all();
    }
}

impl Parts {
    fn homes(&self) -> Homes {
        let slot = self.engines.ticker().slot();
        Homes::new(Arc::<Mailbox>::default(), self.builder.clone(), slot, self.services.clone())
    }
}

impl Shared {
    fn work(&self) {
        let mut given_up = Vec::new();
        loop {
            let mut state = self.state.lock();
            let (vhost, asked, mut homes) = loop {
                if state.stop {
                    return;
                }
                state.take_untaken(&mut given_up);
                if let Some(next) = state.next() {
                    break next;
                }
                if !given_up.is_empty() {
                    // Undone where nobody waits for the lock.
                    drop(state);
                    given_up.clear();
                    state = self.state.lock();
                } else if state.done.is_empty() {
                    self.work.wait(&mut state);
                } else {
                    self.work.wait_for(&mut state, ANSWER_KEPT);
                }
            };
            drop(state);
            given_up.clear();
            let began = thread_cpu_time();
            // Nobody waits for what its asker dropped.
            let answered = (Arc::strong_count(&asked) > 1).then(|| run::run(&mut homes, &asked.question));
            let used = thread_cpu_time().saturating_sub(began);
            homes.give_back();
            let mut state = self.state.lock();
            let mut over = None;
            if let Some(lane) = state.vhosts.get_mut(&vhost) {
                lane.used += used;
                if lane.queue.is_empty() {
                    over = Some(homes);
                } else {
                    lane.homes = Some(homes);
                }
            }
            if answered.is_some() {
                state.done.push_back((Instant::now(), Arc::downgrade(&asked)));
            }
            drop(state);
            if let Some(answered) = answered {
                asked.finish(answered);
            }
            drop(asked);
            if let Some(mut homes) = over {
                // There is time now to let go of what serves no more.
                let registry = &self.parts.registry;
                homes.sweep(|version| registry.serves(version));
                homes.give_back();
                if let Some(lane) = self.state.lock().vhosts.get_mut(&vhost) {
                    lane.homes = Some(homes);
                }
            }
            self.work.notify_one();
        }
    }
}

impl State {
    /// The next question: of the virtual host that has used least and that no thread works for.
    fn next(&mut self) -> Option<(Name, Arc<Asked>, Homes)> {
        let ready = self.vhosts.iter_mut().filter(|(_, lane)| lane.homes.is_some() && !lane.queue.is_empty());
        let (vhost, lane) = ready.min_by_key(|(_, lane)| lane.used)?;
        let (asked, homes) = (lane.queue.pop_front()?, lane.homes.take()?);
        let used = lane.used;
        let vhost = vhost.clone();
        self.clock = self.clock.max(used);
        Some((vhost, asked, homes))
    }

    /// Takes what nobody took for too long.
    fn take_untaken(&mut self, given_up: &mut Vec<super::Answered>) {
        while let Some((since, asked)) = self.done.front() {
            match asked.upgrade() {
                Some(_) if since.elapsed() < ANSWER_KEPT => return,
                Some(asked) => given_up.extend(asked.take()),
                None => {}
            }
            self.done.pop_front();
        }
    }
}

/// Workers come first: this thread has a lower priority from now on.
pub(crate) fn lower_priority() {
    // Without it this thread works as well, and takes more from the workers.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(target: "leveret::plugin", "a thread beside the workers has their priority: {error}");
    }
}
