//! Answers operators' questions that plugins have to be asked for ("where would this message go, and
//! why"), on a thread of its own with a plugin worker of its own: a plugin that takes its time holds up
//! neither a worker nor the HTTP API.
//!
//! *In and out:* a virtual host and a message ([`Question`]) go in, an [`Explanation`] comes back, and of
//! each answer in it how many workers remember it ([`Recalled`]): that plugin worker remembers nothing
//! itself, for nothing is published through it. Or whatever is asked of that plugin worker
//! ([`Explainer::with_worker`]).
//!
//! *Invariants:* questions are answered one after the other; more than [`WAITING_MAX`] at a time are
//! refused. Workers look up what they remember and nothing else; one that is busy for longer than
//! [`RECALL_WAIT_MAX`] is left out. The thread ends when the [`Explainer`] is dropped.

use crate::worker::Order;
use leveret_broker::{Explanation, Vhost};
use leveret_model::OwnedMessage;
use leveret_plugin::{Host, Worker as PluginWorker};
use std::{
    io,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

/// The most questions that wait.
pub const WAITING_MAX: usize = 16;
/// How long workers are waited for that are to tell what they remember.
pub const RECALL_WAIT_MAX: Duration = Duration::from_millis(500);
/// The stack of the thread, in bytes: as a worker's, for a guest uses it.
const STACK_BYTES: usize = 4 * 1024 * 1024;
/// The plugin worker's index: beyond those of the workers, so that no instance made for them is taken.
const INDEX: usize = usize::MAX;

/// What is asked.
#[derive(Debug)]
pub struct Question {
    /// Where.
    pub vhost: Arc<Vhost>,
    /// Of which message; its exchange is the one that it would be published to.
    pub message: OwnedMessage,
    /// Its publisher wants it back if there is no queue for it.
    pub mandatory: bool,
}

/// What is told, and who remembers it.
#[derive(Debug)]
pub struct Told {
    /// What is told.
    pub explanation: Arc<Explanation>,
    /// Who remembers its answers.
    pub recalled: Recalled,
}

/// How many workers remember the answers of an explanation.
#[derive(Debug, Default)]
pub struct Recalled {
    /// How many workers said.
    pub workers: usize,
    /// Of each question of each step, how many remember its answer.
    pub by: Vec<Vec<usize>>,
}

/// Asks a worker which answers of an explanation it remembers.
#[derive(Debug)]
pub struct Recall {
    vhost: Arc<Vhost>,
    explanation: Arc<Explanation>,
    message: Arc<OwnedMessage>,
    answer: mpsc::Sender<Vec<Vec<bool>>>,
}

impl Recall {
    /// Answers for a worker.
    pub fn answer(self, router: &PluginWorker) {
        let message = self.message.view();
        let steps = self.explanation.steps.iter().map(|step| {
            let exchange = self.vhost.exchange(&step.exchange);
            let remembers = |asked| exchange.as_ref().is_some_and(|it| router.remembers(it, asked, &message));
            step.asked.iter().map(remembers).collect()
        });
        // Whoever asked may have stopped waiting.
        let _ = self.answer.send(steps.collect());
    }
}

/// The way to the thread.
#[derive(Debug)]
pub struct Explainer {
    jobs: mpsc::SyncSender<Job>,
    /// Those that may remember answers.
    workers: Arc<[UnboundedSender<Order>]>,
}

type Job = Box<dyn FnOnce(&mut PluginWorker) + Send>;

/// Too many questions wait, or the thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Explainer {
    /// Starts the thread. `workers` are those that may remember answers.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(plugins: Arc<Host>, workers: Vec<UnboundedSender<Order>>) -> io::Result<Self> {
        let (jobs, questions) = mpsc::sync_channel::<Job>(WAITING_MAX);
        std::thread::Builder::new().name("explainer".to_owned()).stack_size(STACK_BYTES).spawn(
            move || {
                let mut router = plugins.worker(INDEX);
                questions.into_iter().for_each(|job| job(&mut router));
            },
        )?;
        Ok(Self { jobs, workers: workers.into() })
    }

    /// Asks.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn ask(&self, question: Question) -> Result<Told, Busy> {
        let workers = self.workers.clone();
        self.with_worker(move |router| {
            let Question { vhost, message, mandatory } = question;
            let explanation = Arc::new(vhost.explain(router, &message.view(), mandatory));
            let recalled = recall(&workers, &vhost, &explanation, message);
            Told { explanation, recalled }
        })
        .await
    }

    /// Asks the plugin worker something.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn with_worker<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut PluginWorker) -> R + Send + 'static,
    ) -> Result<R, Busy> {
        let (answer, answered) = oneshot::channel();
        let job = move |router: &mut PluginWorker| {
            // Whoever asked may be gone.
            let _ = answer.send(question(router));
        };
        self.jobs.try_send(Box::new(job)).map_err(|_| Busy)?;
        answered.await.map_err(|_| Busy)
    }
}

/// Asks the workers which answers they remember.
fn recall(
    workers: &[UnboundedSender<Order>],
    vhost: &Arc<Vhost>,
    explanation: &Arc<Explanation>,
    message: OwnedMessage,
) -> Recalled {
    let by: Vec<Vec<usize>> = explanation.steps.iter().map(|step| vec![0; step.asked.len()]).collect();
    let mut recalled = Recalled { workers: 0, by };
    let (answer, answers) = mpsc::channel();
    let message = Arc::new(explanation.went_on_as.clone().unwrap_or(message));
    for worker in workers {
        let (vhost, explanation) = (vhost.clone(), explanation.clone());
        let recall = Recall { vhost, explanation, message: message.clone(), answer: answer.clone() };
        // A worker that has ended remembers nothing.
        let _ = worker.send(Order::Recall(Box::new(recall)));
    }
    drop(answer);
    let until = Instant::now() + RECALL_WAIT_MAX;
    while let Ok(steps) = answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
        recalled.workers += 1;
        for (sums, step) in recalled.by.iter_mut().zip(steps) {
            sums.iter_mut().zip(step).for_each(|(sum, remembers)| *sum += usize::from(remembers));
        }
    }
    recalled
}
