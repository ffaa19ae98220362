//! The node `/management`: queues, exchanges and bindings by requests and responses, as RabbitMQ 4 has it (HTTP over AMQP,
//! and link pairs).
//!
//! A client attaches two links of one name in a session, one to the node and one from it. A request says in `subject`
//! what is to be done and in `to` with what; its response has the request's message-id as correlation-id, and in
//! `subject` a status of HTTP. What there is to do is in `requests`.
//!
//! *Order.* Requests of a connection are done one after the other, in the slow lane, since types may be asked, and are
//! answered when what they changed is safe. A response waits for credit.

mod requests;
mod values;

use super::{Connection, links::Refused};
use crate::connection::ConnectionWake;
use leveret_amqp10::{
    Condition,
    composite::{Composite as _, Field as _, Fields},
    connection::{Attached, Delivery, NotSent, Outgoing},
    descriptor,
    messaging::{Accepted, MESSAGE_FORMAT, MessageId, Properties},
    performatives::{Attach, DeliveryTag, Disposition, Role, SenderSettleMode},
    refusal::{Extent, condition, extent},
    types::{MapBuilder, Reader, Symbol, Value, write},
};
use leveret_broker::{
    Receipt,
    port::Wake,
    store::{StoreFailure, Written},
};
use leveret_model::Refusal;
use leveret_plugin::{Worker as PluginWorker, lane::Errand};
use parking_lot::Mutex;
use requests::{Context, Request, Response};
use std::{collections::VecDeque, sync::Arc};

/// The address of the node.
pub(super) const ADDRESS: &str = "/management";
/// How many requests a client may send that are not answered.
pub(super) const CREDIT: u32 = 8;

/// What a request comes to.
enum Done {
    Answered(Response),
    /// The session ends, as in RabbitMQ.
    Denied(Refusal),
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
    request: Request,
}

struct Running {
    channel: u16,
    handle: u32,
    /// Encoded, for the response.
    correlation_id: Vec<u8>,
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
    response: Mutex<Option<Response>>,
    mailbox: Arc<Mailbox>,
}

impl Written for WhenSafe {
    fn written(&self, _token: u64, outcome: Result<(), StoreFailure>) {
        let Some(response) = self.response.lock().take() else { return };
        let failed = |failure: StoreFailure| Response::error(503, &failure.to_string());
        self.mailbox.put(Done::Answered(outcome.map_or_else(failed, |()| response)));
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
        let is_paired = |properties: Fields<'_>| properties.get("paired") == Some(Value::Boolean(true));
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
        paired.push(Symbol::from_static("paired"), true);
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
        match request_of(&delivery.message) {
            Ok(request) => {
                self.management.waiting.push_back(Asked { channel, handle: to, request });
                self.go_on_managing();
            }
            Err(text) => self.protocol.end_session(channel, Condition::InvalidField, &text),
        }
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
            let Some(Asked { channel, handle, request }) = self.management.waiting.pop_front() else {
                return;
            };
            let (Some(open), Some(identity)) = (&self.open, &self.identity) else { return };
            let vhost = open.vhost.clone();
            let rights = identity.rights(&self.shared.access, vhost.name());
            let mut context = Context { vhost, shared: self.shared.clone(), rights, by: self.id };
            let mailbox = Arc::new(Mailbox { done: Mutex::new(None), wake: self.wake.clone() });
            let (told, correlation_id) = (mailbox.clone(), request.id.clone());
            let errand: Errand =
                Box::new(move |worker: &mut PluginWorker| match context.perform(&request, worker) {
                    Ok((response, receipt)) => answer_when_safe(told, response, &receipt),
                    Err(refusal) => told.put(Done::Denied(refusal)),
                });
            let to_do = self.begin(errand);
            self.management.running = Some(Running { channel, handle, correlation_id, mailbox, to_do });
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
            Done::Answered(response) => {
                let message = message_of(&response, &running.correlation_id);
                self.management.unsent.push_back((channel, handle, message));
                self.send_responses();
            }
            Done::Denied(refusal) if extent(&refusal) == Extent::Session => {
                self.protocol.end_session(channel, condition(&refusal), &refusal.to_string());
            }
            Done::Denied(refusal) => {
                let response = Response::of_refusal(&refusal);
                self.answer_request(running, Done::Answered(response));
            }
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

fn answer_when_safe(mailbox: Arc<Mailbox>, response: Response, receipt: &Receipt) {
    let waiter: Arc<dyn Written> = Arc::new(WhenSafe { response: Mutex::new(Some(response)), mailbox });
    receipt.when_safe(&waiter, 0);
}

/// What a message asks. Its sections may come in any order: some clients put an empty body in front.
fn request_of(message: &[u8]) -> Result<Request, String> {
    let mut reader = Reader::new(message);
    let (mut properties, mut body) = (Properties::default(), Vec::new());
    while !reader.is_empty() {
        let value = reader.value().map_err(|error| error.to_string())?;
        let Value::Described(section) = value else { return Err(String::from("a request is no message")) };
        match section.descriptor_code() {
            Some(descriptor::PROPERTIES) => {
                let wrong = |_| String::from("the properties make no sense");
                properties = Properties::from_value(value).map_err(wrong)?;
            }
            Some(descriptor::AMQP_VALUE) => write::put(&mut body, section.value()),
            Some(descriptor::DATA | descriptor::AMQP_SEQUENCE) => {
                return Err(String::from("the body of a request is an amqp-value"));
            }
            _ => {}
        }
    }
    let missing = |what: &str| format!("a request without {what}");
    let id = properties.message_id.ok_or_else(|| missing("message-id"))?;
    let path = properties.to.ok_or_else(|| missing("to"))?.to_owned();
    let method = properties.subject.ok_or_else(|| missing("subject"))?.to_owned();
    let mut encoded = Vec::new();
    match id {
        MessageId::Ulong(number) => write::put(&mut encoded, number),
        MessageId::Uuid(uuid) => write::put(&mut encoded, uuid),
        MessageId::Binary(bytes) => write::put(&mut encoded, bytes),
        MessageId::String(text) => write::put(&mut encoded, text),
    }
    Ok(Request { id: encoded, method, path, body })
}

/// A response as a message.
fn message_of(response: &Response, correlation_id: &[u8]) -> Vec<u8> {
    let subject = response.status.to_string();
    let id = Reader::new(correlation_id).value().ok();
    let correlation_id = id.and_then(|id| match id {
        Value::Ulong(number) => Some(MessageId::Ulong(number)),
        Value::Uuid(uuid) => Some(MessageId::Uuid(uuid)),
        Value::Binary(bytes) => Some(MessageId::Binary(bytes)),
        Value::String(text) => Some(MessageId::String(text)),
        _ => None,
    });
    let mut message = Vec::new();
    Properties { correlation_id, subject: Some(&subject), ..Properties::default() }.encode(&mut message);
    let mut http = MapBuilder::new();
    http.push("http:response", "1.1");
    write::put_descriptor(&mut message, descriptor::APPLICATION_PROPERTIES);
    write::put(&mut message, http.view());
    write::put_descriptor(&mut message, descriptor::AMQP_VALUE);
    message.extend_from_slice(&response.body);
    message
}
