//! Requests that are answered when types were asked or told of something that may take long: that is done
//! in the slow lane, while the channel waits as it does for the answer to a publish (`held.rs`).
//!
//! *Order:* what the channel sends meanwhile comes behind. If the channel or the connection ends, what was
//! begun is finished, and nobody is told.

use super::{Connection, held::ChannelWake};
use leveret_amqp091::Method;
use leveret_broker::port::Wake;
use leveret_model::Refusal;
use leveret_plugin::{Worker as PluginWorker, lane::Errand};
use std::sync::{Arc, Mutex, PoisonError};

/// What a request comes to; nothing is sent for `None`.
pub(super) type Answer = Result<Option<Method<'static>>, Refusal>;

/// A request that is being answered.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// The channel that it came on.
    pub(super) channel: u16,
    /// Its class and method, as close methods name it.
    pub(super) ids: (u16, u16),
    /// Only a refusal is told.
    pub(super) nowait: bool,
}

impl Asked {
    /// The answer where all went well.
    pub(super) fn reply(self, ok: Method<'static>) -> Option<Method<'static>> {
        (!self.nowait).then_some(ok)
    }
}

/// What is done in the lane.
pub(super) type Work = Box<dyn FnOnce(&mut PluginWorker) -> Result<(), Refusal> + Send>;

/// A request whose answer is waited for.
pub(super) struct Change {
    /// The lane had no room for it yet.
    to_do: Option<Errand>,
    outcome: Arc<Mutex<Option<Result<(), Refusal>>>>,
    reply: Option<Method<'static>>,
    ids: (u16, u16),
}

impl Change {
    fn outcome(&self) -> Option<Result<(), Refusal>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Connection {
    /// Has work done in the lane; the channel waits, and is answered with `ok` then.
    pub(super) fn do_beside(&mut self, asked: Asked, ok: Method<'static>, work: Work) -> Answer {
        let Some(channel) = self.open()?.channel(asked.channel) else { return Ok(None) };
        let wake = channel.wake.clone();
        let outcome = Arc::new(Mutex::new(None));
        let (told, waker) = (outcome.clone(), wake.clone());
        let errand: Errand = Box::new(move |worker| {
            let outcome = work(worker);
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            waker.wake();
        });
        let to_do = self.begin(errand, &wake);
        let change = Change { to_do, outcome, reply: asked.reply(ok), ids: asked.ids };
        self.held.add_change(asked.channel, &wake, change);
        Ok(None)
    }

    /// Puts an errand into the lane; gives it back if there is no room, and the channel is woken later.
    fn begin(&mut self, errand: Errand, wake: &Arc<ChannelWake>) -> Option<Errand> {
        let waker: Arc<dyn Wake> = wake.clone();
        let vhost = &self.open.as_ref()?.vhost;
        self.shared.plugins.run_beside(vhost.name(), errand, Some(&waker)).err()
    }

    /// Answers the request that a channel waits for, if that is done.
    pub(super) fn finish_change(&mut self, number: u16) {
        let Some((mut change, wake)) = self.held.take_change(number) else { return };
        if let Some(errand) = change.to_do.take() {
            change.to_do = self.begin(errand, &wake);
        }
        match change.outcome() {
            None => self.held.add_change(number, &wake, change),
            Some(Ok(())) => {
                if let Some(reply) = change.reply {
                    self.session.reply(number, reply);
                }
            }
            Some(Err(refusal)) => self.session.refuse(number, &refusal, change.ids),
        }
    }
}
