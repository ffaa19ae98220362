//! Asks candidates that are in shadow what they would have answered.
//!
//! Workers hand in copies of messages with the answers that were used ([`Glance`]); a thread beside them
//! asks an instance of the candidate and compares.
//!
//! *Invariants:* workers never wait for this thread: what there is no room for is not asked, and counted.
//! An answer is compared only where the bindings are those that the used one followed from. What an
//! instance does here takes place in the candidate's own state at most; nothing is emitted, held, or put
//! into queues. The thread runs at a lower priority than the workers.

use super::{Candidate, Given};
use crate::{
    builder::Place,
    capability::{Draft, Outcome},
    engine::{CallSlot, Engines},
    guest::{Decision, Refused},
    replica::{About, Replica},
    worker::Failures,
};
use hashbrown::HashMap;
use leveret_broker::{
    exchange::{Exchange, Generation},
    port::{Fate, Layer},
};
use leveret_model::{MessageView, Name, OwnedMessage, PublisherIdentity};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// So many messages wait to be asked about; more are left out.
const WAITING_MAX: usize = 1024;
/// And so many bytes of them.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// So many messages of a batch are asked about; more are left out, spread over the batch.
pub(crate) const PER_BATCH_MAX: usize = 64;
/// How often instances of candidates that are gone are looked for when nothing is asked.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How much nicer the thread is than the workers.
const NICE: i32 = 10;

/// A message and what was answered for it.
pub(crate) struct Glance {
    pub(crate) candidate: Arc<Candidate>,
    pub(crate) exchange: Arc<Exchange>,
    /// Which of its types was asked.
    pub(crate) layer: Layer,
    /// The generation that the answer belongs to.
    pub(crate) generation: Generation,
    pub(crate) message: OwnedMessage,
    /// Who published it, where the candidate may know.
    pub(crate) publisher: Option<PublisherIdentity>,
    pub(crate) used: Given,
}

/// The way to the thread. It ends when this is dropped.
pub(crate) struct Shadow {
    glances: mpsc::SyncSender<Job>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

enum Job {
    Look(Box<Glance>),
    /// Says when it comes to this: all before is compared then.
    #[cfg(test)]
    Reach(mpsc::Sender<()>),
}

impl Shadow {
    /// Starts the thread.
    pub(crate) fn start(engines: &Engines) -> io::Result<Self> {
        // Workers may take the last places at the same time; the channel is where the limit holds.
        let (glances, jobs) = mpsc::sync_channel(WAITING_MAX);
        let waiting = Arc::new(Waiting::default());
        let bench = Bench { slot: engines.ticker().slot(), seats: HashMap::new(), waiting: waiting.clone() };
        thread::Builder::new().name("leveret-shadow".into()).spawn(move || bench.run(&jobs))?;
        Ok(Self { glances, waiting })
    }

    /// For how many messages there is room.
    pub(crate) fn room(&self) -> usize {
        if self.waiting.bytes.load(Ordering::Relaxed) >= WAITING_BYTES_MAX {
            return 0;
        }
        WAITING_MAX.saturating_sub(self.waiting.messages.load(Ordering::Relaxed))
    }

    /// Asks about a message some time. False if there is no room for it.
    pub(crate) fn look(&self, glance: Glance) -> bool {
        let bytes = glance.message.len_bytes();
        self.waiting.messages.fetch_add(1, Ordering::Relaxed);
        self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        let taken = self.glances.try_send(Job::Look(Box::new(glance))).is_ok();
        if !taken {
            self.waiting.done(bytes);
        }
        taken
    }

    /// Waits until all that was handed in is compared.
    #[cfg(test)]
    pub(crate) fn wait(&self) {
        let (sender, reached) = mpsc::channel();
        self.glances.send(Job::Reach(sender)).unwrap();
        reached.recv().unwrap();
    }
}

impl Waiting {
    fn done(&self, bytes: usize) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The thread's side.
struct Bench {
    slot: CallSlot,
    seats: HashMap<Place, Seat>,
    waiting: Arc<Waiting>,
}

/// An instance of a candidate for a virtual host.
struct Seat {
    candidate: Arc<Candidate>,
    replica: Option<Replica>,
    failures: Failures,
    question: Vec<u8>,
}

/// Why there is no answer to compare.
enum NoAnswer {
    /// Bindings changed, or it is not asked for a while after failures.
    NotAsked,
    /// It refused or failed.
    Failed(String),
}

impl From<Refused> for NoAnswer {
    fn from(refused: Refused) -> Self {
        Self::Failed(match refused {
            Refused::ByPlugin(text) => format!("it refuses: {text}"),
            Refused::Failed(failure) => failure.to_string(),
        })
    }
}

impl Bench {
    fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::debug!(target: "leveret::plugin", "shadows are asked at the workers' priority: {error}");
        }
        loop {
            match jobs.recv_timeout(IDLE_MAX) {
                Ok(Job::Look(glance)) => {
                    let bytes = glance.message.len_bytes();
                    self.look(&glance);
                    self.waiting.done(bytes);
                }
                #[cfg(test)]
                Ok(Job::Reach(sender)) => sender.send(()).unwrap(),
                Err(mpsc::RecvTimeoutError::Timeout) => self.let_go(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn let_go(&mut self) {
        self.seats.retain(|_, seat| !seat.candidate.is_gone());
    }

    fn look(&mut self, glance: &Glance) {
        let Glance { candidate, exchange, .. } = glance;
        if candidate.is_gone() {
            return self.let_go();
        }
        let Some(spec) = exchange.types().get(usize::from(glance.layer.0)).filter(|_| !exchange.is_deleted())
        else {
            return;
        };
        let place = Place::of(&candidate.version, &exchange.vhost);
        let seat = self.seats.entry(place).or_insert_with(|| Seat {
            candidate: candidate.clone(),
            replica: None,
            failures: Failures::default(),
            question: Vec::new(),
        });
        match seat.answer(glance, &spec.type_name, &self.slot) {
            Ok(answer) => {
                seat.failures.succeeded();
                let about = (&**exchange, &spec.type_name, &glance.message.routing_key);
                candidate.compared(about, &glance.used, &answer);
            }
            Err(NoAnswer::NotAsked) => candidate.count_not_asked(1),
            Err(NoAnswer::Failed(what)) => {
                let took = seat.replica.take().map(|replica| replica.cpu_used()).unwrap_or_default();
                seat.failures.failed(what.clone(), took);
                candidate.shadow_failed(&what);
            }
        }
    }
}

impl Seat {
    fn answer(&mut self, glance: &Glance, type_name: &Name, slot: &CallSlot) -> Result<Given, NoAnswer> {
        if self.failures.set_aside().is_some() {
            return Err(NoAnswer::NotAsked);
        }
        let Glance { exchange, layer, message, .. } = glance;
        let version = &self.candidate.version;
        let replica = match &mut self.replica {
            Some(replica) => replica,
            none => {
                let services = &self.candidate.services;
                let started = Replica::start(version, &exchange.vhost, services, slot.clone());
                none.insert(started.map_err(Refused::Failed)?)
            }
        };
        replica.serve(exchange, *layer)?;
        let Some((generation, reads)) = replica.knows(exchange.id, *layer) else {
            return Err(NoAnswer::NotAsked);
        };
        if generation != glance.generation {
            return Err(NoAnswer::NotAsked);
        }
        let view = MessageView { publisher: glance.publisher.as_ref(), ..message.view() };
        if reads.rejects_body(view.readable_bytes()) {
            return Ok(Given::from(&crate::worker::too_long((type_name, *layer), reads, &view)));
        }
        self.question.clear();
        self.question.extend_from_slice(&[0; LENGTH_BYTES]);
        view.project(reads, &mut self.question);
        let length = u32::try_from(self.question.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
        if let Some(place) = self.question.get_mut(..LENGTH_BYTES) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        let on_hand = version.code.takes_messages().then(|| Arc::new(message.clone()));
        let may_hold = replica.may_hold(exchange.id, *layer);
        let about = About { exchange, layer: *layer, on_hand: on_hand.as_ref() };
        let (decisions, outcome) = replica.route(about, &self.question, 1, None).map_err(Refused::Failed)?;
        let Outcome { draft, in_doubt: None, .. } = outcome else {
            return Err(NoAnswer::NotAsked);
        };
        let decision = decisions.iter().next().ok_or(NoAnswer::NotAsked)?;
        let given = given(exchange, *layer, decision, may_hold)?;
        settle(draft, &given);
        Ok(given)
    }
}

/// The length before a projection.
const LENGTH_BYTES: usize = 4;

fn given(
    exchange: &Exchange,
    layer: Layer,
    decision: Decision<'_>,
    may_hold: bool,
) -> Result<Given, NoAnswer> {
    let failed = |what: &str| NoAnswer::Failed(String::from(what));
    let behind = || crate::worker::behind(exchange, layer).map_err(failed);
    Ok(match decision {
        Decision::Deliver(ids) => Given::deliver(&exchange.resolve(&mut ids.iter().copied()).0),
        Decision::Drop(reason) => Given::Drop(reason),
        Decision::Reject(reason) => Given::Reject(reason),
        Decision::Delegate => Given::Hold(0, behind()?),
        Decision::Hold(_) if !may_hold => return Err(failed("it needs the grant 'hold'")),
        Decision::Hold(delay_ms) => Given::Hold(delay_ms, behind()?),
    })
}

/// What the instance wrote lasts in the candidate's own state, as if its answer had been used. What it
/// wants of the broker is dropped.
fn settle(draft: Option<Box<Draft>>, given: &Given) {
    let fate = match given {
        Given::Deliver { queues, exchanges } if queues.is_empty() && exchanges.is_empty() => Fate::Unroutable,
        Given::Deliver { .. } | Given::Hold(..) => Fate::Routed,
        Given::Drop(_) => Fate::Dropped,
        Given::Reject(_) | Given::Failed(_) => return,
    };
    if let Some(draft) = draft {
        draft.settle(fate, &mut Vec::new());
    }
}
