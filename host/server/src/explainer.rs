//! Answers "where would this message go, and why", on a thread of its own with a plugin worker of its
//! own: a plugin that takes its time holds up neither a worker nor the HTTP API.
//!
//! *In and out:* a virtual host and a message ([`Question`]) go in, an [`Explanation`] comes back.
//!
//! *Invariants:* questions are answered one after the other; more than [`WAITING_MAX`] at a time are
//! refused. The thread ends when the [`Explainer`] is dropped.

use leveret_broker::{Explanation, Vhost};
use leveret_model::OwnedMessage;
use leveret_plugin::Host;
use std::{
    io,
    sync::{Arc, mpsc},
};
use tokio::sync::oneshot;

/// The most questions that wait.
pub const WAITING_MAX: usize = 16;
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

/// The way to the thread.
#[derive(Debug)]
pub struct Explainer(mpsc::SyncSender<(Question, oneshot::Sender<Explanation>)>);

/// Too many questions wait, or the thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Explainer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(plugins: Arc<Host>) -> io::Result<Self> {
        let (sender, questions) = mpsc::sync_channel::<(Question, oneshot::Sender<Explanation>)>(WAITING_MAX);
        std::thread::Builder::new().name("explainer".to_owned()).stack_size(STACK_BYTES).spawn(
            move || {
                let mut router = plugins.worker(INDEX);
                for (Question { vhost, message, mandatory }, answer) in questions {
                    // Whoever asked may be gone.
                    let _ = answer.send(vhost.explain(&mut router, &message.view(), mandatory));
                }
            },
        )?;
        Ok(Self(sender))
    }

    /// Asks.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn ask(&self, question: Question) -> Result<Explanation, Busy> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send((question, answer)).map_err(|_| Busy)?;
        answered.await.map_err(|_| Busy)
    }
}
