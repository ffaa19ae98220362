//! Requests that are not answered at once: types are asked or told of something that may take long, which is done in
//! the slow lane, or what was changed is durable and on its way to the disk. The channel waits as it does for the answer
//! to a publish (`held.rs`).
//!
//! *Order:* what the channel sends meanwhile comes behind. If the channel or the connection ends, what was
//! begun is finished, and nobody is told.

use super::{Connection, held::ChannelWake, queue::count_of};
use leveret_amqp091::Method;
use leveret_broker::{
    QueueStatus, Receipt,
    port::Wake,
    store::{StoreFailure, Written},
};
use leveret_model::{Name, Refusal};
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

/// What is sent where all went well.
pub(super) enum Reply {
    Method(Method<'static>),
    /// queue.declare-ok.
    Queue(QueueStatus),
}

/// What is done in the lane.
pub(super) type Work = Box<dyn FnOnce(&mut PluginWorker) -> Result<Receipt, Refusal> + Send>;

/// A request whose answer is waited for.
pub(super) struct Change {
    /// The lane had no room for it yet.
    to_do: Option<Errand>,
    outcome: Arc<Outcome>,
    reply: Option<Reply>,
    ids: (u16, u16),
}

/// What came of a request, once that is known. Wakes its channel then.
struct Outcome {
    known: Mutex<Option<Result<(), Refusal>>>,
    vhost: Name,
    wake: Arc<ChannelWake>,
}

impl Outcome {
    fn set(&self, outcome: Result<(), Refusal>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.wake.wake();
    }

    fn take(&self) -> Option<Result<(), Refusal>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Written for Outcome {
    fn written(&self, _token: u64, outcome: Result<(), StoreFailure>) {
        self.set(outcome.map_err(|failure| {
            let (what, vhost) = (String::from("what was changed"), self.vhost.clone());
            Refusal::NotKept { what, vhost, why: failure.to_string() }
        }));
    }
}

impl Connection {
    /// Answers for what was changed: at once, or when it is safe.
    pub(super) fn answer_when_safe(
        &mut self,
        asked: Asked,
        receipt: &Receipt,
        ok: Method<'static>,
    ) -> Answer {
        if asked.nowait || receipt.is_safe() {
            return Ok(asked.reply(ok));
        }
        self.wait_until_safe(asked, receipt, Reply::Method(ok))
    }

    /// Answers for a queue that was declared: at once, or when it is safe.
    pub(super) fn answer_declared(&mut self, asked: Asked, receipt: &Receipt, status: QueueStatus) -> Answer {
        if asked.nowait {
            return Ok(None);
        }
        if receipt.is_safe() {
            self.send(asked.channel, Reply::Queue(status));
            return Ok(None);
        }
        self.wait_until_safe(asked, receipt, Reply::Queue(status))
    }

    fn wait_until_safe(&mut self, asked: Asked, receipt: &Receipt, ok: Reply) -> Answer {
        let Some(outcome) = self.outcome(asked)? else { return Ok(None) };
        let (waiter, wake): (Arc<dyn Written>, _) = (outcome.clone(), outcome.wake.clone());
        receipt.when_safe(&waiter, 0);
        let change = Change { to_do: None, outcome, reply: Some(ok), ids: asked.ids };
        self.held.add_change(asked.channel, &wake, change);
        Ok(None)
    }

    /// Has work done in the lane; the channel waits, and is answered with `ok` then.
    pub(super) fn do_beside(&mut self, asked: Asked, ok: Method<'static>, work: Work) -> Answer {
        let Some(outcome) = self.outcome(asked)? else { return Ok(None) };
        let (told, wake) = (outcome.clone(), outcome.wake.clone());
        let errand: Errand = Box::new(move |worker| match work(worker) {
            Ok(receipt) if !asked.nowait => {
                let waiter: Arc<dyn Written> = told;
                receipt.when_safe(&waiter, 0);
            }
            done => told.set(done.map(drop)),
        });
        let to_do = self.begin(errand, &wake);
        let change = Change { to_do, outcome, reply: asked.reply(ok).map(Reply::Method), ids: asked.ids };
        self.held.add_change(asked.channel, &wake, change);
        Ok(None)
    }

    /// For what a request comes to; none if its channel is gone.
    fn outcome(&mut self, asked: Asked) -> Result<Option<Arc<Outcome>>, Refusal> {
        let open = self.open()?;
        let vhost = open.vhost.name().clone();
        let Some(channel) = open.channel(asked.channel) else { return Ok(None) };
        let wake = channel.wake.clone();
        Ok(Some(Arc::new(Outcome { known: Mutex::default(), vhost, wake })))
    }

    fn send(&mut self, number: u16, ok: Reply) {
        match ok {
            Reply::Method(method) => self.session.reply(number, method),
            Reply::Queue(status) => {
                let (message_count, consumer_count) = (count_of(status.messages), count_of(status.consumers));
                let queue = &status.name;
                let declared = Method::QueueDeclareOk { queue, message_count, consumer_count };
                self.session.reply(number, declared);
            }
        }
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
        match change.outcome.take() {
            None => self.held.add_change(number, &wake, change),
            Some(Ok(())) => {
                if let Some(reply) = change.reply {
                    self.send(number, reply);
                }
            }
            Some(Err(refusal)) => self.session.refuse(number, &refusal, change.ids),
        }
    }
}
