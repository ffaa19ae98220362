//! The threads of the lane, and whose question is next.

use super::{ANSWER_KEPT, Asked, Errand, Progress, Question, Room, run};
use crate::{
    engine::Engines,
    guest::thread_cpu_time,
    worker::{Homes, Worker, WorkerParts},
};
use hashbrown::HashMap;
use leveret_broker::port::Wake;
use leveret_model::Name;
use parking_lot::{Condvar, Mutex};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Weak, atomic::AtomicU64},
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
    worker: WorkerParts,
    closed: Arc<AtomicU64>,
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
    errands: VecDeque<Errand>,
    /// The last thing that was done for it was an errand.
    did_errand: bool,
    /// CPU time, as far as it counts.
    used: Duration,
    /// The instances; away while a thread works for it.
    homes: Option<Homes>,
    room: Arc<Room>,
}

/// What is to be done next.
enum Work {
    Question(Arc<Asked>),
    Errand(Errand),
}

impl Lane {
    /// Starts the threads for so many workers. `worker` is what theirs work with.
    pub(crate) fn start(
        engines: &Arc<Engines>,
        worker: WorkerParts,
        closed: &Arc<AtomicU64>,
        workers: usize,
    ) -> io::Result<Self> {
        let parts = Parts { engines: engines.clone(), worker, closed: closed.clone() };
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
        let lane = state.lane(&question.vhost, &self.0.parts);
        if !lane.room.enter(&question, waker) {
            return None;
        }
        let (waker, progress, room) = (waker.clone(), Mutex::new(Progress::Waits), lane.room.clone());
        let asked = Arc::new(Asked { question, waker, progress, room });
        lane.queue.push_back(asked.clone());
        drop(state);
        self.0.work.notify_one();
        Some(asked)
    }

    /// Puts an errand into the lane.
    ///
    /// # Errors
    /// The errand, if the virtual host has too many there: then `waker` is called when it makes sense to try
    /// again. Without a waker it is always taken; the broker has one of a virtual host at a time.
    pub(crate) fn run(
        &self,
        vhost: &Name,
        errand: Errand,
        waker: Option<&Arc<dyn Wake>>,
    ) -> Result<(), Errand> {
        let mut state = self.0.state.lock();
        let lane = state.lane(vhost, &self.0.parts);
        if !lane.room.enter_errand(waker) {
            return Err(errand);
        }
        lane.errands.push_back(errand);
        drop(state);
        self.0.work.notify_one();
        Ok(())
    }

    /// How many questions and errands of a virtual host wait.
    pub(crate) fn waiting(&self, vhost: &Name) -> usize {
        let state = self.0.state.lock();
        state.vhosts.get(vhost).map_or(0, |lane| lane.queue.len() + lane.errands.len())
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
        self.worker.homes(self.engines.ticker().slot(), false)
    }

    /// A worker of a thread. It has the instances of a virtual host while it does an errand for it.
    fn worker(&self) -> Worker {
        Worker::new(self.worker.clone(), (self.homes(), None), self.closed.clone(), 0)
    }
}

impl Shared {
    fn work(&self) {
        let mut worker = self.parts.worker();
        let mut given_up = Vec::new();
        while let Some((vhost, work, mut homes)) = self.next(&mut given_up) {
            let began = thread_cpu_time();
            let (done, is_errand) = match work {
                Work::Errand(errand) => {
                    worker.lend(&mut homes);
                    errand(&mut worker);
                    worker.lend(&mut homes);
                    (None, true)
                }
                // Nobody waits for what its asker dropped.
                Work::Question(asked) if Arc::strong_count(&asked) == 1 => (None, false),
                Work::Question(asked) => {
                    let answered = run::run(&mut homes, &asked.question);
                    (Some((asked, answered)), false)
                }
            };
            homes.give_back();
            let used = thread_cpu_time().saturating_sub(began);
            let mut state = self.state.lock();
            let mut over = None;
            if let Some(lane) = state.vhosts.get_mut(&vhost) {
                lane.used += used;
                if is_errand {
                    lane.room.leave_errand();
                }
                if lane.is_empty() {
                    over = Some(homes);
                } else {
                    lane.homes = Some(homes);
                }
            }
            if let Some((asked, _)) = &done {
                state.done.push_back((Instant::now(), Arc::downgrade(asked)));
            }
            drop(state);
            if let Some((asked, answered)) = done {
                asked.finish(answered);
            }
            if let Some(homes) = over {
                self.tidy(&vhost, homes);
            }
            self.work.notify_one();
        }
    }

    /// Waits for something to do; `None` at the end.
    fn next(&self, given_up: &mut Vec<super::Answered>) -> Option<(Name, Work, Homes)> {
        let mut state = self.state.lock();
        let next = loop {
            if state.stop {
                return None;
            }
            state.take_untaken(given_up);
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
        Some(next)
    }

    /// There is time now to let go of what serves no more.
    fn tidy(&self, vhost: &Name, mut homes: Homes) {
        let registry = &self.parts.worker.registry;
        homes.sweep(|version| registry.serves(version));
        homes.give_back();
        if let Some(lane) = self.state.lock().vhosts.get_mut(vhost) {
            lane.homes = Some(homes);
        }
    }
}

impl VhostLane {
    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.errands.is_empty()
    }

    /// What is to be done next: questions and errands in turn.
    fn next(&mut self) -> Option<Work> {
        let errand = match self.did_errand && !self.queue.is_empty() {
            true => None,
            false => self.errands.pop_front(),
        };
        self.did_errand = errand.is_some();
        errand.map(Work::Errand).or_else(|| self.queue.pop_front().map(Work::Question))
    }
}

impl State {
    /// What there is of a virtual host, to which something is to be added.
    fn lane(&mut self, vhost: &Name, parts: &Parts) -> &mut VhostLane {
        let clock = self.clock;
        let lane = self.vhosts.entry(vhost.clone()).or_insert_with(|| VhostLane {
            queue: VecDeque::new(),
            errands: VecDeque::new(),
            did_errand: false,
            used: clock,
            homes: Some(parts.homes()),
            room: Arc::default(),
        });
        if lane.is_empty() {
            lane.used = lane.used.max(clock);
        }
        lane
    }

    /// What is next: of the virtual host that has used least and that no thread works for.
    fn next(&mut self) -> Option<(Name, Work, Homes)> {
        let ready = self.vhosts.iter_mut().filter(|(_, lane)| lane.homes.is_some() && !lane.is_empty());
        let (vhost, lane) = ready.min_by_key(|(_, lane)| lane.used)?;
        let (work, homes) = (lane.next()?, lane.homes.take()?);
        let used = lane.used;
        let vhost = vhost.clone();
        self.clock = self.clock.max(used);
        Some((vhost, work, homes))
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
