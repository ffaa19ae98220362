//! The node `/management`: queues, exchanges and bindings by requests and responses, as RabbitMQ 4 has it (HTTP over AMQP,
//! and link pairs).
//!
//! A client attaches two links of one name in a session, one to the node and one from it. A request says in `subject`
//! what is to be done and in `to` with what; its response has the request's message-id as correlation-id, and in
//! `subject` a status of HTTP. What they say is read and written by `leveret_amqp10::management`; what they come to is in
//! `requests`.
//!
//! *Order.* Requests of a connection are done one after the other, in the slow lane, since types may be asked, and are
//! answered when what they changed is safe. A response waits for credit.

mod requests;

use super::{Connection, links::Refused};
use crate::connection::ConnectionWake;
use leveret_amqp10::{
    Condition,
    composite::Fields,
    connection::{Attached, Delivery, NotSent, Outgoing},
    management::PAIRED,
    messaging::{Accepted, MESSAGE_FORMAT},
    performatives::{Attach, DeliveryTag, Disposition, Role, SenderSettleMode},
    refusal::condition,
    types::{MapBuilder, Value},
};
use leveret_broker::{
    Receipt,
    port::Wake,
    store::{StoreFailure, Written},
};
use leveret_model::Refusal;
use leveret_plugin::{Worker as PluginWorker, lane::Errand};
use parking_lot::Mutex;
use requests::{Answer, Context};
use std::{collections::VecDeque, sync::Arc};

pub(super) use leveret_amqp10::management::ADDRESS;

/// How many requests a client may send that are not answered.
pub(super) const CREDIT: u32 = 8;

/// What a request comes to.
enum Done {
    /// The message of its response.
    Answered(Vec<u8>),
    /// The session ends, as in RabbitMQ where a permission is missing.
    Denied(Refusal),
    /// It is no message; why not. The session ends.
    Malformed(String),
}

/// Requests of a connection.
#[derive(Default)]
pub(super) struct Management {
    /// Those that are not begun.
    waiting: VecDeque<Asked>,
    running: Option<Running>,
    /// Responses without credit: the session, the link, the message.
    unsent: VecDeque<(u16, u32, Vec<u8>)>,
    last_tag: u32,
}

/// A request, and the link for its response.
struct Asked {
    channel: u16,
    handle: u32,
    message: Vec<u8>,
}

struct Running {
    channel: u16,
    handle: u32,
    mailbox: Arc<Mailbox>,
    /// The lane had no room for it yet.
    to_do: Option<Errand>,
}

/// Where it is left what a request came to.
struct Mailbox {
    done: Mutex<Option<Done>>,
    wake: Arc<ConnectionWake>,
}

impl Mailbox {
    fn put(&self, done: Done) {
        *self.done.lock() = Some(done);
        self.wake.wake();
    }
}

/// A response that waits until what it tells of is safe.
struct WhenSafe {
    answer: Mutex<Option<Answer>>,
    mailbox: Arc<Mailbox>,
}

impl Written for WhenSafe {
    fn written(&self, _token: u64, outcome: Result<(), StoreFailure>) {
        let Some(answer) = self.answer.lock().take() else { return };
        self.mailbox.put(Done::Answered(answer.message(outcome)));
    }
}

/// Links to the node and from it, in a session.
#[derive(Default)]
pub(super) struct Pairs {
    /// Those on which requests come, by handle and name.
    requests: Vec<(u32, String)>,
    responses: Vec<(u32, String)>,
}

impl Pairs {
    /// Whether requests come on a link.
    pub(super) fn takes(&self, handle: u32) -> bool {
        self.requests.iter().any(|(known, _)| *known == handle)
    }

    fn response_to(&self, handle: u32) -> Option<u32> {
        let (_, name) = self.requests.iter().find(|(known, _)| *known == handle)?;
        self.responses.iter().find(|(_, other)| other == name).map(|(handle, _)| *handle)
    }

    /// A link is gone.
    pub(super) fn forget(&mut self, handle: u32) {
        self.requests.retain(|(known, _)| *known != handle);
        self.responses.retain(|(known, _)| *known != handle);
    }
}

impl Connection {
    /// Attaches a link to the node or from it. Both of a pair say that they are of one.
    pub(super) fn attach_to_management(&mut self, channel: u16, attach: &Attach<'_>) -> Result<(), Refused> {
        let is_paired =
            |properties: Fields<'_>| properties.get(PAIRED.as_str()) == Some(Value::Boolean(true));
        if !attach.properties.is_some_and(is_paired) {
            return Err(Refused::new(
                Condition::InvalidField,
                "a link of the management node has the property 'paired'",
            ));
        }
        if attach.role == Role::Receiver && attach.snd_settle_mode == SenderSettleMode::Unsettled {
            return Err(Refused::new(Condition::InvalidField, "responses are settled when they are sent"));
        }
        let Some(session) = self.session(channel) else { return Ok(()) };
        let link = (attach.handle, attach.name.to_owned());
        match attach.role {
            Role::Sender => session.pairs.requests.push(link),
            Role::Receiver => session.pairs.responses.push(link),
        }
        let mut paired = MapBuilder::new();
        paired.push(PAIRED, true);
        let answer = Attached {
            snd_settle_mode: SenderSettleMode::Settled,
            properties: Fields::new(paired.view()),
            ..Attached::as_asked(attach)
        };
        self.protocol.attached(channel, attach.handle, &answer);
        self.protocol.grant(channel, attach.handle, CREDIT);
        Ok(())
    }

    /// A request came.
    pub(super) fn on_management_request(&mut self, delivery: &Delivery<'_>) {
        let (channel, handle) = (delivery.channel, delivery.handle);
        if !delivery.settled {
            let accepted = Disposition {
                role: Role::Receiver,
                first: delivery.delivery_id,
                settled: true,
                state: Some(Accepted {}.into()),
                ..Disposition::default()
            };
            self.protocol.dispose(channel, &accepted);
        }
        let to = self.session(channel).and_then(|session| session.pairs.response_to(handle));
        let Some(to) = to else {
            let text = "a request without a link for its response";
            return self.protocol.end_session(channel, Condition::PreconditionFailed, text);
        };
        let message = delivery.message.to_vec();
        self.management.waiting.push_back(Asked { channel, handle: to, message });
        self.go_on_managing();
        if self.protocol.credit(channel, handle) <= CREDIT / 2 {
            self.protocol.grant(channel, handle, CREDIT);
        }
    }

    /// Answers what is done, and begins what is next.
    pub(super) fn go_on_managing(&mut self) {
        loop {
            if let Some(mut running) = self.management.running.take() {
                if let Some(errand) = running.to_do.take() {
                    running.to_do = self.begin(errand);
                }
                let done = running.mailbox.done.lock().take();
                let Some(done) = done else {
                    self.management.running = Some(running);
                    return;
                };
                self.answer_request(&running, done);
            }
            let Some(Asked { channel, handle, message }) = self.management.waiting.pop_front() else {
                return;
            };
            let (Some(open), Some(identity)) = (&self.open, &self.identity) else { return };
            let vhost = open.vhost.clone();
            let rights = identity.rights(&self.shared.access, vhost.name());
            let mut context = Context { vhost, shared: self.shared.clone(), rights, by: self.id };
            let mailbox = Arc::new(Mailbox { done: Mutex::new(None), wake: self.wake.clone() });
            let told = mailbox.clone();
            let errand: Errand =
                Box::new(move |worker: &mut PluginWorker| match context.perform(message, worker) {
                    Ok((answer, receipt)) => answer_when_safe(told, answer, &receipt),
                    Err(done) => told.put(done),
                });
            let to_do = self.begin(errand);
            self.management.running = Some(Running { channel, handle, mailbox, to_do });
        }
    }

    /// Puts an errand into the lane; gives it back if there is no room, and the connection is woken later.
    fn begin(&mut self, errand: Errand) -> Option<Errand> {
        let waker: Arc<dyn Wake> = self.wake.clone();
        let vhost = &self.open.as_ref()?.vhost;
        self.shared.plugins.run_beside(vhost.name(), errand, Some(&waker)).err()
    }

    fn answer_request(&mut self, running: &Running, done: Done) {
        let Running { channel, handle, .. } = *running;
        if self.session(channel).is_none() {
            return;
        }
        match done {
            Done::Answered(message) => {
                self.management.unsent.push_back((channel, handle, message));
                self.send_responses();
            }
            Done::Denied(refusal) => {
                self.protocol.end_session(channel, condition(&refusal), &refusal.to_string());
            }
            Done::Malformed(text) => self.protocol.end_session(channel, Condition::InvalidField, &text),
        }
    }

    /// Sends responses that have credit.
    pub(super) fn send_responses(&mut self) {
        for (channel, handle, message) in std::mem::take(&mut self.management.unsent) {
            self.management.last_tag = self.management.last_tag.wrapping_add(1);
            let tag = self.management.last_tag.to_be_bytes();
            let outgoing = Outgoing {
                tag: DeliveryTag::new(&tag).unwrap_or_default(),
                message_format: MESSAGE_FORMAT,
                settled: true,
                message: &[&message],
            };
            match self.protocol.deliver(channel, handle, &outgoing) {
                Err(NotSent::NoCredit | NotSent::NoWindow) => {
                    self.management.unsent.push_back((channel, handle, message));
                }
                Err(why) => tracing::debug!("{}: a response is not sent: {why}", self.peer),
                Ok(_) => {}
            }
        }
    }
}

fn answer_when_safe(mailbox: Arc<Mailbox>, answer: Answer, receipt: &Receipt) {
    let waiter: Arc<dyn Written> = Arc::new(WhenSafe { answer: Mutex::new(Some(answer)), mailbox });
    receipt.when_safe(&waiter, 0);
}
