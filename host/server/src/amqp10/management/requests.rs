//! What the management node does.
//!
//! ```text
//! GET    /queues/:q              200 what it is            404
//! PUT    /queues/:q              201 made, 200 was there   409 with something that differs, 400, 403
//! DELETE /queues/:q              200 how many messages went, also where there is none
//! DELETE /queues/:q/messages     200 how many went         404
//! PUT    /exchanges/:x           204                       409, 400, 403
//! DELETE /exchanges/:x           204                       403
//! POST   /bindings               204                       404, 400
//! GET    /bindings?src=&dstq=&key=   (or dste) 200 what there are
//! DELETE /bindings/src=;dstq=;key=;args=   204, also where there is none
//! ```
//! Where a permission is missing the session ends.

use super::values::{self, Fields, name_of};
use crate::{acting::Acting, wiring::Shared};
use leveret_access::{Operation, Rights};
use leveret_amqp10::types::{Value, write};
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec, Now, QueueSpec, Receipt, Vhost,
    exchange::{Binding, Destination, Exchange},
};
use leveret_model::{Name, Refusal, refusal::Resource};
use leveret_plugin::Worker as PluginWorker;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// A request.
pub(super) struct Request {
    /// Its message-id, encoded.
    pub(super) id: Vec<u8>,
    pub(super) method: String,
    pub(super) path: String,
    /// The value of its body, encoded.
    pub(super) body: Vec<u8>,
}

/// A response.
pub(super) struct Response {
    /// Of HTTP.
    pub(super) status: u16,
    /// The value of its body, encoded.
    pub(super) body: Vec<u8>,
}

impl Response {
    fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, body }
    }

    /// 204, with nothing to say.
    fn done() -> Self {
        let mut body = Vec::new();
        write::put(&mut body, Value::Null);
        Self { status: 204, body }
    }

    pub(super) fn error(status: u16, text: &str) -> Self {
        let mut body = Vec::new();
        write::put(&mut body, text);
        Self { status, body }
    }

    /// Of what the broker refuses.
    pub(super) fn of_refusal(refusal: &Refusal) -> Self {
        let status = match refusal {
            Refusal::NotFound { .. } => 404,
            Refusal::Inequivalent { .. } | Refusal::InUse { .. } | Refusal::NotEmpty { .. } => 409,
            Refusal::ReservedName { .. }
            | Refusal::Protected { .. }
            | Refusal::NotBindable
            | Refusal::QueueLimit { .. } => 403,
            Refusal::NotKept { .. } => 503,
            _ => 400,
        };
        Self::error(status, &refusal.to_string())
    }
}

/// Why a request is not done.
pub(super) enum Failure {
    Refused(Refusal),
    /// With a status of HTTP.
    Status(u16, String),
}

impl Failure {
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::Status(400, text.into())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

type Answer = Result<(Response, Receipt), Failure>;

/// Who asks, and where.
pub(super) struct Context {
    pub(super) vhost: Arc<Vhost>,
    pub(super) shared: Arc<Shared>,
    pub(super) rights: Rights,
    pub(super) by: ConnectionId,
}

/// A binding that is spoken of.
struct Spoken {
    source: Name,
    is_queue: bool,
    destination: Name,
    key: Name,
}

impl Spoken {
    fn to(&self) -> BindTo<'_> {
        if self.is_queue { BindTo::Queue(&self.destination) } else { BindTo::Exchange(&self.destination) }
    }
}

fn decoded(text: &str) -> Result<Name, Failure> {
    name_of(&percent_decode_str(text).collect::<Vec<u8>>())
}

impl Context {
    /// Does what is asked. A refusal is what no response tells.
    pub(super) fn perform(
        &mut self,
        request: &Request,
        worker: &mut PluginWorker,
    ) -> Result<(Response, Receipt), Refusal> {
        match self.answer(request, worker) {
            Ok(answer) => Ok(answer),
            Err(Failure::Status(status, text)) => Ok((Response::error(status, &text), Receipt::default())),
            Err(Failure::Refused(refusal)) => Err(refusal),
        }
    }

    fn acting(&mut self) -> Acting<'_> {
        Acting { vhost: &self.vhost, rights: Some(&mut self.rights) }
    }

    fn answer(&mut self, request: &Request, worker: &mut PluginWorker) -> Answer {
        let (method, path) = (request.method.as_str(), request.path.as_str());
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut parts = path.strip_prefix('/').unwrap_or(path).splitn(3, '/');
        match (method, parts.next(), parts.next(), parts.next()) {
            ("GET", Some("queues"), Some(queue), None) => self.read_queue(&decoded(queue)?),
            ("PUT", Some("queues"), Some(queue), None) => self.declare_queue(decoded(queue)?, &request.body),
            ("DELETE", Some("queues"), Some(queue), None) => self.delete_queue(&decoded(queue)?, worker),
            ("DELETE", Some("queues"), Some(queue), Some("messages")) => self.purge_queue(&decoded(queue)?),
            ("PUT", Some("exchanges"), Some(exchange), None) => {
                self.declare_exchange(decoded(exchange)?, &request.body, worker)
            }
            ("DELETE", Some("exchanges"), Some(exchange), None) => {
                self.delete_exchange(&decoded(exchange)?, worker)
            }
            ("POST", Some("bindings"), None, None) => self.bind(&request.body, worker),
            ("GET", Some("bindings"), None, None) => self.read_bindings(query),
            ("DELETE", Some("bindings"), Some(binding), None) => self.unbind(binding, worker),
            _ => Err(Failure::Status(404, format!("there is nothing to {method} at {}", request.path))),
        }
    }

    fn read_queue(&mut self, name: &Name) -> Answer {
        self.acting().demand_any(Resource::Queue, name)?;
        self.vhost.check_queue(name, self.by)?;
        let queue = self.vhost.queue(name).ok_or_else(|| self.no_queue(name))?;
        let node = &self.shared.session.cluster_name;
        Ok((Response::new(200, values::queue(&queue, node)), Receipt::default()))
    }

    fn no_queue(&self, name: &Name) -> Refusal {
        Refusal::NotFound { resource: Resource::Queue, name: name.clone(), vhost: self.vhost.name().clone() }
    }

    fn declare_queue(&mut self, name: Name, body: &[u8]) -> Answer {
        let mut fields = Fields::of(body)?;
        let spec = QueueSpec {
            name: name.clone(),
            durable: fields.boolean("durable", true)?,
            exclusive: fields.boolean("exclusive", false)?,
            auto_delete: fields.boolean("auto_delete", false)?,
            arguments: fields.arguments()?,
        };
        fields.end()?;
        if name.is_empty() {
            return Err(Failure::bad("a queue has a name"));
        }
        let is_new = self.vhost.queue(&name).is_none();
        let (shared, by) = (self.shared.clone(), self.by);
        let (_, receipt) = self.acting().declare_queue(&shared, spec, by)?;
        let queue = self.vhost.queue(&name).ok_or_else(|| self.no_queue(&name))?;
        let body = values::queue(&queue, &shared.session.cluster_name);
        Ok((Response::new(if is_new { 201 } else { 200 }, body), receipt))
    }

    fn delete_queue(&mut self, name: &Name, worker: &mut PluginWorker) -> Answer {
        self.acting().demand(Operation::Configure, Resource::Queue, name)?;
        let now = self.vhost.delete_queue_now(worker, name, false, false, self.by)?;
        let messages = now.value().copied().unwrap_or(0);
        Ok((Response::new(200, values::message_count(messages)), self.end(now, worker)))
    }

    fn purge_queue(&mut self, name: &Name) -> Answer {
        self.acting().demand_read(name)?;
        let (messages, receipt) = self.vhost.purge_queue_kept(name, self.by)?;
        Ok((Response::new(200, values::message_count(messages)), receipt))
    }

    fn declare_exchange(&mut self, name: Name, body: &[u8], worker: &mut PluginWorker) -> Answer {
        let mut fields = Fields::of(body)?;
        let direct = || Name::from_static("direct");
        let spec = ExchangeSpec {
            name,
            type_name: fields.name("type")?.unwrap_or_else(direct),
            durable: fields.boolean("durable", true)?,
            auto_delete: fields.boolean("auto_delete", false)?,
            internal: fields.boolean("internal", false)?,
            arguments: fields.arguments()?,
        };
        fields.end()?;
        self.acting().demand_exchange_declare(&spec, worker)?;
        let receipt = self.vhost.declare_exchange(worker, spec)?;
        Ok((Response::done(), receipt))
    }

    fn delete_exchange(&mut self, name: &Name, worker: &mut PluginWorker) -> Answer {
        self.acting().demand_exchange_delete(name)?;
        let now = self.vhost.delete_exchange_now(worker, name, false)?;
        Ok((Response::done(), self.end(now, worker)))
    }

    fn bind(&mut self, body: &[u8], worker: &mut PluginWorker) -> Answer {
        let mut fields = Fields::of(body)?;
        let source = fields.name("source")?.ok_or_else(|| Failure::bad("a binding has a source"))?;
        let to = (fields.name("destination_queue")?, fields.name("destination_exchange")?);
        let key = fields.name("binding_key")?.unwrap_or_default();
        let arguments = fields.arguments()?;
        fields.end()?;
        let (is_queue, destination) = match to {
            (Some(queue), None) => (true, queue),
            (None, Some(exchange)) => (false, exchange),
            _ => return Err(Failure::bad("a binding has one destination")),
        };
        let spoken = Spoken { source, is_queue, destination, key };
        self.acting().demand_bind(spoken.to(), &spoken.source, &spoken.key)?;
        let (source, by) = (&spoken.source, self.by);
        let receipt = self.vhost.bind(worker, source, spoken.to(), &spoken.key, arguments, by)?;
        Ok((Response::done(), receipt))
    }

    /// Those between two with a key.
    fn between(&self, spoken: &Spoken) -> Vec<(Arc<Exchange>, Arc<Binding>)> {
        let destination = match spoken.is_queue {
            true => self.vhost.queue(&spoken.destination).map(Destination::Queue),
            false => self.vhost.exchange(&spoken.destination).map(Destination::Exchange),
        };
        let mut found = destination.map_or_else(Vec::new, |to| self.vhost.bindings_to(&to));
        found.retain(|(from, binding)| from.spec.name == spoken.source && binding.routing_key == spoken.key);
        found
    }

    fn read_bindings(&mut self, query: &str) -> Answer {
        let (spoken, _) = spoken_of(query, '&')?;
        let resource = if spoken.is_queue { Resource::Queue } else { Resource::Exchange };
        self.acting().demand_any(resource, &spoken.destination)?;
        let body = values::bindings(&self.between(&spoken), spoken.is_queue);
        Ok((Response::new(200, body), Receipt::default()))
    }

    fn unbind(&mut self, binding: &str, worker: &mut PluginWorker) -> Answer {
        let (spoken, digest) = spoken_of(binding, ';')?;
        self.acting().demand_bind(spoken.to(), &spoken.source, &spoken.key)?;
        let found = self.between(&spoken);
        let meant = found.iter().find(|(_, binding)| values::digest(&binding.arguments) == digest);
        let Some((_, meant)) = meant else { return Ok((Response::done(), Receipt::default())) };
        let arguments = meant.arguments.clone();
        let (source, by) = (&spoken.source, self.by);
        let now = self.vhost.unbind_now(worker, source, spoken.to(), &spoken.key, arguments, by)?;
        Ok((Response::done(), self.end(now, worker)))
    }

    /// Types are told of what is gone.
    fn end<T>(&self, now: Now<T>, worker: &mut PluginWorker) -> Receipt {
        match now {
            Now::Done(_, receipt) => receipt,
            Now::Tell(_, receipt) => {
                self.vhost.tell_types(worker);
                receipt
            }
            Now::Ask => Receipt::default(),
        }
    }
}

/// A binding from `src=…`, `dstq=…` or `dste=…`, `key=…`, and what `args=…` says.
fn spoken_of(text: &str, separator: char) -> Result<(Spoken, String), Failure> {
    let (mut source, mut to, mut key, mut digest) = (None, None, Name::EMPTY, String::new());
    for part in text.split(separator) {
        match part.split_once('=') {
            Some(("src", value)) => source = Some(decoded(value)?),
            Some(("dstq", value)) => to = Some((true, decoded(value)?)),
            Some(("dste", value)) => to = Some((false, decoded(value)?)),
            Some(("key", value)) => key = decoded(value)?,
            Some(("args", value)) => digest = value.to_owned(),
            _ => return Err(Failure::bad(format!("'{part}' says nothing of a binding"))),
        }
    }
    let (Some(source), Some((is_queue, destination))) = (source, to) else {
        return Err(Failure::bad("a binding has a source and a destination"));
    };
    Ok((Spoken { source, is_queue, destination, key }, digest))
}
