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
//!
//! *Bounds.* A link's credit is renewed as its requests are answered. With more than [`WAITING_MAX`] requests of a
//! connection, or [`WAITING_BYTES_MAX`] of them, that are not begun, nothing more that it sends is handled; with more than
//! [`UNSENT_BYTES_MAX`] of responses that their client takes none of, the session ends.

mod requests;

use super::{
    Connection,
    links::Refused,
    terms::{granted_source, granted_target},
};
use crate::connection::ConnectionWake;
use leveret_amqp10::{
    Condition,
    composite::Fields,
    connection::{Attached, Delivery, NotSent, Outgoing},
    management::PAIRED,
    messaging::{Accepted, MESSAGE_FORMAT},
    performatives::{Attach, DeliveryTag, Disposition, Role, SenderSettleMode},
    refusal::condition,
    transactions::AnyTarget,
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
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

pub(super) use leveret_amqp10::management::ADDRESS;

/// How many requests a client may send on a link that are not answered.
pub(super) const CREDIT: u32 = 8;
/// How many requests of a connection wait until it is kept waiting itself.
const WAITING_MAX: usize = 128;
/// How many bytes of them.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// How many bytes of responses wait for a client to take them.
const UNSENT_BYTES_MAX: usize = 1024 * 1024;

/// What a request comes to.
enum Done {
    /// The message of its response.
    Answered(Vec<u8>),
    /// The same, and what the user may do is looked at anew.
    Renewed(Vec<u8>),
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
    waiting_bytes: usize,
    running: Option<Running>,
    /// Responses without credit.
    unsent: VecDeque<(By, Vec<u8>)>,
    last_tag: u32,
}

/// On which links a request came and is answered.
#[derive(Clone, Copy)]
struct By {
    channel: u16,
    request: u32,
    /// `None` once that link is gone.
    response: Option<u32>,
}

/// A request.
struct Asked {
    /// `None` once the session is over.
    by: Option<By>,
    message: Vec<u8>,
}

struct Running {
    by: Option<By>,
    mailbox: Arc<Mailbox>,
    /// The lane had no room for it yet.
    to_do: Option<Errand>,
}

impl Management {
    /// Whether so much waits that nothing more is to come.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() > WAITING_MAX || self.waiting_bytes > WAITING_BYTES_MAX
    }

    /// A link is gone, and with it whoever waits for responses on it.
    pub(super) fn forget_link(&mut self, channel: u16, handle: u32) {
        let is_gone = |by: &&mut By| by.channel == channel && by.response == Some(handle);
        let unsent = self.unsent.iter_mut().map(|(by, _)| by).filter(is_gone);
        unsent.for_each(|by| by.response = None);
        let unanswered = self.unanswered().filter_map(Option::as_mut).filter(is_gone);
        unanswered.for_each(|by| by.response = None);
    }

    /// A session is over. What was asked for in it is done all the same.
    pub(super) fn forget_session(&mut self, channel: u16) {
        self.unsent.retain(|(by, _)| by.channel != channel);
        for by in self.unanswered() {
            *by = by.filter(|by| by.channel != channel);
        }
    }

    /// On which links requests came that are not done.
    fn unanswered(&mut self) -> impl Iterator<Item = &mut Option<By>> {
        let waiting = self.waiting.iter_mut().map(|asked| &mut asked.by);
        waiting.chain(self.running.iter_mut().map(|running| &mut running.by))
    }
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

/// Whether a connection is there, for what is done for it elsewhere.
#[derive(Default)]
pub(super) struct Presence(Arc<AtomicBool>);

impl Presence {
    /// What says that it is over, from before its exclusive queues are deleted.
    fn gone(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }

    /// It is over.
    pub(super) fn end(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.end();
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
    /// Those on which requests come.
    requests: Vec<Requests>,
    /// Those for responses, by handle and name.
    responses: Vec<(u32, String)>,
}

/// A link on which requests come.
struct Requests {
    handle: u32,
    name: String,
    /// How many are not answered.
    open: u32,
}

impl Pairs {
    /// Whether requests come on a link.
    pub(super) fn takes(&self, handle: u32) -> bool {
        self.requests.iter().any(|link| link.handle == handle)
    }

    /// A request came; the link for its response.
    fn begin(&mut self, handle: u32) -> Option<u32> {
        let link = self.requests.iter_mut().find(|link| link.handle == handle)?;
        link.open += 1;
        self.responses.iter().find(|(_, other)| *other == link.name).map(|(handle, _)| *handle)
    }

    /// A request was aborted. It is one that is answered.
    pub(super) fn abort(&mut self, handle: u32) {
        self.begin(handle);
    }

    /// A request was answered; how many more may come on its link.
    fn end(&mut self, handle: u32) -> Option<u32> {
        let link = self.requests.iter_mut().find(|link| link.handle == handle)?;
        link.open = link.open.saturating_sub(1);
        Some(CREDIT.saturating_sub(link.open))
    }

    /// A link is gone.
    pub(super) fn forget(&mut self, handle: u32) {
        self.requests.retain(|link| link.handle != handle);
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
        let (handle, name) = (attach.handle, attach.name.to_owned());
        match attach.role {
            Role::Sender => session.pairs.requests.push(Requests { handle, name, open: 0 }),
            Role::Receiver => session.pairs.responses.push((handle, name)),
        }
        let mut paired = MapBuilder::new();
        paired.push(PAIRED, true);
        let mut answer = Attached {
            snd_settle_mode: SenderSettleMode::Settled,
            properties: Fields::new(paired.view()),
            ..Attached::as_asked(attach)
        };
        // Nothing of it is kept longer than it is attached.
        match (attach.role, answer.target) {
            (Role::Receiver, _) => {
                answer.source = answer.source.map(|source| granted_source(source, None, false));
            }
            (Role::Sender, Some(AnyTarget::Node(target))) => {
                answer.target = Some(granted_target(target, None, false).into());
            }
            (Role::Sender, _) => {}
        }
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
        let response = self.session(channel).and_then(|session| session.pairs.begin(handle));
        let Some(response) = response else {
            let text = "a request without a link for its response";
            return self.protocol.end_session(channel, Condition::PreconditionFailed, text);
        };
        let by = Some(By { channel, request: handle, response: Some(response) });
        let message = delivery.message.to_vec();
        self.management.waiting_bytes += message.len();
        self.management.waiting.push_back(Asked { by, message });
        self.go_on_managing();
    }

    /// A request on a link was answered, or never came whole: another one may come.
    pub(super) fn renew_requests(&mut self, channel: u16, handle: u32) {
        let may_come = self.session(channel).and_then(|session| session.pairs.end(handle));
        if let Some(credit) = may_come
            && self.protocol.credit(channel, handle) <= CREDIT / 2
        {
            self.protocol.grant(channel, handle, credit);
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
                self.answer_request(running.by, done);
            }
            let Some(Asked { by, message }) = self.management.waiting.pop_front() else {
                return;
            };
            self.management.waiting_bytes -= message.len();
            let (Some(open), Some(identity)) = (&self.open, &self.identity) else { return };
            let vhost = open.vhost.clone();
            let rights = identity.rights(&self.shared.access, vhost.name());
            let gone = open.presence.gone();
            let mut context = Context { vhost, shared: self.shared.clone(), rights, by: self.id, gone };
            let mailbox = Arc::new(Mailbox { done: Mutex::new(None), wake: self.wake.clone() });
            let told = mailbox.clone();
            let errand: Errand =
                Box::new(move |worker: &mut PluginWorker| match context.perform(message, worker) {
                    Ok((answer, receipt)) => answer_when_safe(told, answer, &receipt),
                    Err(done) => told.put(done),
                });
            let to_do = self.begin(errand);
            self.management.running = Some(Running { by, mailbox, to_do });
        }
    }

    /// Puts an errand into the lane; gives it back if there is no room, and the connection is woken later.
    fn begin(&mut self, errand: Errand) -> Option<Errand> {
        let waker: Arc<dyn Wake> = self.wake.clone();
        let vhost = &self.open.as_ref()?.vhost;
        self.shared.plugins.run_beside(vhost.name(), errand, Some(&waker)).err()
    }

    fn answer_request(&mut self, by: Option<By>, done: Done) {
        let Some(by) = by else { return };
        let channel = by.channel;
        match done {
            Done::Answered(message) => self.respond(by, message),
            Done::Renewed(message) => {
                self.respond(by, message);
                self.end_denied_sessions();
            }
            Done::Denied(refusal) => {
                self.protocol.end_session(channel, condition(&refusal), &refusal.to_string());
            }
            Done::Malformed(text) => self.protocol.end_session(channel, Condition::InvalidField, &text),
        }
    }

    fn respond(&mut self, by: By, message: Vec<u8>) {
        self.management.unsent.push_back((by, message));
        self.send_responses();
        let unsent = self.management.unsent.iter().map(|(_, message)| message.len());
        if unsent.sum::<usize>() > UNSENT_BYTES_MAX {
            let text = "no responses are taken on the link from the management node";
            self.protocol.end_session(by.channel, Condition::PreconditionFailed, text);
        }
    }

    /// Sends responses that have credit.
    pub(super) fn send_responses(&mut self) {
        for (by, message) in std::mem::take(&mut self.management.unsent) {
            self.management.last_tag = self.management.last_tag.wrapping_add(1);
            let tag = self.management.last_tag.to_be_bytes();
            let outgoing = Outgoing {
                tag: DeliveryTag::new(&tag).unwrap_or_default(),
                message_format: MESSAGE_FORMAT,
                settled: true,
                message: &[&message],
            };
            let sent = match by.response {
                Some(response) => self.protocol.deliver(by.channel, response, &outgoing),
                None => Err(NotSent::NoLink),
            };
            match sent {
                Err(NotSent::NoCredit | NotSent::NoWindow) => {
                    self.management.unsent.push_back((by, message));
                    continue;
                }
                Err(why) => tracing::debug!("{}: a response is not sent: {why}", self.peer),
                Ok(_) => {}
            }
            self.renew_requests(by.channel, by.request);
        }
    }
}

fn answer_when_safe(mailbox: Arc<Mailbox>, answer: Answer, receipt: &Receipt) {
    let waiter: Arc<dyn Written> = Arc::new(WhenSafe { answer: Mutex::new(Some(answer)), mailbox });
    receipt.when_safe(&waiter, 0);
}
