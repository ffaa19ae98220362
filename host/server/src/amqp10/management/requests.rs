//! What requests to the management node come to: which permission each needs, what the broker does for it, and what its
//! response tells. What there is to ask for is listed in `leveret_amqp10::management`.
//!
//! Where a permission is missing the session ends.

use super::Done;
use crate::{acting::Acting, wiring::Shared};
use leveret_access::{Operation, Rights};
use leveret_amqp10::{
    management::{
        Binding, BindingInfo, Call, Destination, ExchangeDeclaration, QueueDeclaration, QueueInfo, Refused,
        Request, Response, Status, arguments_key,
    },
    messaging::MessageId,
    refusal::{Extent, extent},
};
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec, Now, QueueSpec, Receipt, Vhost, exchange, queue::Queue,
    store::StoreFailure,
};
use leveret_model::{Name, Refusal, Table, Value, refusal::Resource};
use leveret_plugin::Worker as PluginWorker;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The argument by which a queue has its type.
const TYPE: &[u8] = b"x-queue-type";

/// Who asks, and where.
pub(super) struct Context {
    pub(super) vhost: Arc<Vhost>,
    pub(super) shared: Arc<Shared>,
    pub(super) rights: Rights,
    pub(super) by: ConnectionId,
    /// The connection is over, as it is before its exclusive queues are deleted.
    pub(super) gone: Arc<AtomicBool>,
}

/// What a request is answered once that is safe.
pub(super) struct Answer {
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Answer {
    /// The message of the response, by what the store says.
    pub(super) fn message(self, outcome: Result<(), StoreFailure>) -> Vec<u8> {
        let Err(failure) = outcome else { return self.response };
        // It was read before.
        let id = Call::read(&self.request, "").ok().and_then(|call| call.id);
        message_of(&Response::Refused(&Refused::new(Status::Unavailable, failure.to_string())), id)
    }
}

fn message_of(response: &Response<'_>, id: Option<MessageId<'_>>) -> Vec<u8> {
    let mut message = Vec::new();
    response.encode(id, &mut message);
    message
}

/// What was done.
enum Did {
    Queue {
        is_new: bool,
        queue: Arc<Queue>,
    },
    Messages(u64),
    Bindings {
        destination: Destination,
        found: Vec<Bound>,
    },
    /// There is nothing to say.
    Nothing,
}

/// A binding, and the exchange that it begins at.
type Bound = (Arc<exchange::Exchange>, Arc<exchange::Binding>);
type Outcome = Result<(Did, Receipt), Refusal>;

fn bind_to(destination: &Destination) -> BindTo<'_> {
    match destination {
        Destination::Queue(queue) => BindTo::Queue(queue),
        Destination::Exchange(exchange) => BindTo::Exchange(exchange),
    }
}

impl Context {
    /// Does what a message asks; its answer is to be told when what the receipt stands for is safe. Otherwise what it
    /// comes to at once.
    pub(super) fn perform(
        &mut self,
        message: Vec<u8>,
        worker: &mut PluginWorker,
    ) -> Result<(Answer, Receipt), Done> {
        let vhost = self.vhost.name().to_text();
        let call = Call::read(&message, &vhost).map_err(|error| Done::Malformed(error.to_string()))?;
        let (response, receipt) = match &call.request {
            Err(refused) => (message_of(&Response::Refused(refused), call.id), Receipt::default()),
            // Nobody's login runs out, as with the other protocol's update-secret.
            Ok(Request::RenewToken(_)) => return Err(Done::Renewed(message_of(&Response::Done, call.id))),
            Ok(request) => match self.act(request, worker) {
                Ok((did, receipt)) => (self.told(&did, call.id), receipt),
                Err(refusal) if extent(&refusal) == Extent::Session => return Err(Done::Denied(refusal)),
                Err(refusal) => {
                    let refused = Refused::of(&refusal, request);
                    (message_of(&Response::Refused(&refused), call.id), Receipt::default())
                }
            },
        };
        Ok((Answer { request: message, response }, receipt))
    }

    fn act(&mut self, request: &Request<'_>, worker: &mut PluginWorker) -> Outcome {
        match request {
            Request::GetQueue(name) => self.read_queue(name),
            Request::DeclareQueue(declaration) => self.declare_queue(declaration, worker),
            Request::DeleteQueue(name) => self.delete_queue(name, worker),
            Request::PurgeQueue(name) => self.purge_queue(name),
            Request::DeclareExchange(declaration) => self.declare_exchange(declaration, worker),
            Request::DeleteExchange(name) => self.delete_exchange(name, worker),
            Request::Bind(binding) => self.bind(binding, worker),
            Request::Unbind { source, destination, key, arguments } => {
                self.unbind((source, destination, key), arguments, worker)
            }
            Request::GetBindings { source, destination, key } => self.read_bindings(source, destination, key),
            Request::RenewToken(_) => Ok((Did::Nothing, Receipt::default())),
        }
    }

    fn acting(&mut self) -> Acting<'_> {
        Acting { vhost: &self.vhost, rights: Some(&mut self.rights) }
    }

    /// The queue, which has to be there.
    fn queue(&self, name: &Name) -> Result<Arc<Queue>, Refusal> {
        let absent = || {
            let (resource, vhost) = (Resource::Queue, self.vhost.name().clone());
            Refusal::NotFound { resource, name: name.clone(), vhost }
        };
        self.vhost.queue(name).ok_or_else(absent)
    }

    fn read_queue(&mut self, name: &Name) -> Outcome {
        self.acting().demand_any(Resource::Queue, name)?;
        self.vhost.check_queue(name, self.by)?;
        Ok((Did::Queue { is_new: false, queue: self.queue(name)? }, Receipt::default()))
    }

    fn declare_queue(&mut self, declaration: &QueueDeclaration, worker: &mut PluginWorker) -> Outcome {
        let QueueDeclaration { name, durable, exclusive, auto_delete, arguments } = declaration.clone();
        let is_new = self.vhost.queue(&name).is_none();
        let spec = QueueSpec { name, durable, exclusive, auto_delete, arguments };
        let (shared, by) = (self.shared.clone(), self.by);
        let (_, receipt) = self.acting().declare_queue(&shared, spec, by)?;
        let queue = self.queue(&declaration.name)?;
        if exclusive && self.gone.load(Ordering::Acquire) {
            // Made after those of the connection were deleted.
            return self.delete_queue(&declaration.name, worker);
        }
        Ok((Did::Queue { is_new, queue }, receipt))
    }

    fn delete_queue(&mut self, name: &Name, worker: &mut PluginWorker) -> Outcome {
        self.acting().demand(Operation::Configure, Resource::Queue, name)?;
        let now = self.vhost.delete_queue_now(worker, name, false, false, self.by)?;
        let messages = now.value().copied().unwrap_or(0);
        Ok((Did::Messages(messages), self.end(now, worker)))
    }

    fn purge_queue(&mut self, name: &Name) -> Outcome {
        self.acting().demand_read(name)?;
        let (messages, receipt) = self.vhost.purge_queue_kept(name, self.by)?;
        Ok((Did::Messages(messages), receipt))
    }

    fn declare_exchange(&mut self, declaration: &ExchangeDeclaration, worker: &mut PluginWorker) -> Outcome {
        let ExchangeDeclaration { name, exchange_type, durable, auto_delete, internal, arguments } =
            declaration.clone();
        let spec = ExchangeSpec { name, type_name: exchange_type, durable, auto_delete, internal, arguments };
        self.acting().demand_exchange_declare(&spec, worker)?;
        Ok((Did::Nothing, self.vhost.declare_exchange(worker, spec)?))
    }

    fn delete_exchange(&mut self, name: &Name, worker: &mut PluginWorker) -> Outcome {
        self.acting().demand_exchange_delete(name)?;
        let now = self.vhost.delete_exchange_now(worker, name, false)?;
        Ok((Did::Nothing, self.end(now, worker)))
    }

    fn bind(&mut self, binding: &Binding, worker: &mut PluginWorker) -> Outcome {
        let Binding { source, destination, key, arguments } = binding;
        let to = bind_to(destination);
        self.acting().demand_bind(to, source, key)?;
        let receipt = self.vhost.bind(worker, source, to, key, arguments.clone(), self.by)?;
        Ok((Did::Nothing, receipt))
    }

    /// Those between two with a key.
    fn between(&self, source: &Name, destination: &Destination, key: &Name) -> Vec<Bound> {
        let to = match destination {
            Destination::Queue(queue) => self.vhost.queue(queue).map(exchange::Destination::Queue),
            Destination::Exchange(name) => self.vhost.exchange(name).map(exchange::Destination::Exchange),
        };
        let mut found = to.map_or_else(Vec::new, |to| self.vhost.bindings_to(&to));
        found.retain(|(from, binding)| from.spec.name == *source && binding.routing_key == *key);
        found
    }

    fn read_bindings(&mut self, source: &Name, destination: &Destination, key: &Name) -> Outcome {
        let (resource, name) = match destination {
            Destination::Queue(queue) => (Resource::Queue, queue),
            Destination::Exchange(exchange) => (Resource::Exchange, exchange),
        };
        self.acting().demand_any(resource, name)?;
        let found = self.between(source, destination, key);
        Ok((Did::Bindings { destination: destination.clone(), found }, Receipt::default()))
    }

    fn unbind(
        &mut self,
        (source, destination, key): (&Name, &Destination, &Name),
        known_by: &str,
        worker: &mut PluginWorker,
    ) -> Outcome {
        let to = bind_to(destination);
        self.acting().demand_bind(to, source, key)?;
        let found = self.between(source, destination, key);
        let meant = found.iter().find(|(_, binding)| arguments_key(&binding.arguments) == known_by);
        let Some((_, meant)) = meant else { return Ok((Did::Nothing, Receipt::default())) };
        let now = self.vhost.unbind_now(worker, source, to, key, meant.arguments.clone(), self.by)?;
        Ok((Did::Nothing, self.end(now, worker)))
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

    /// The message that tells what was done.
    fn told(&self, did: &Did, id: Option<MessageId<'_>>) -> Vec<u8> {
        match did {
            Did::Queue { is_new, queue } => self.told_of_queue(*is_new, queue, id),
            Did::Messages(messages) => message_of(&Response::Messages(*messages), id),
            Did::Bindings { destination, found } => {
                let infos = found.iter().map(|(source, binding)| BindingInfo {
                    source: &source.spec.name,
                    destination,
                    key: &binding.routing_key,
                    arguments: &binding.arguments,
                });
                message_of(&Response::Bindings(&infos.collect::<Vec<_>>()), id)
            }
            Did::Nothing => message_of(&Response::Done, id),
        }
    }

    fn told_of_queue(&self, is_new: bool, queue: &Queue, id: Option<MessageId<'_>>) -> Vec<u8> {
        let (spec, status) = (queue.spec(), queue.status());
        let node = self.shared.session.cluster_name.as_str();
        let info = QueueInfo {
            name: &spec.name.to_text(),
            virtual_host: &queue.vhost().to_text(),
            durable: spec.durable,
            auto_delete: spec.auto_delete,
            exclusive: spec.exclusive,
            queue_type: queue.kind().as_str(),
            arguments: &with_type(&spec.arguments, queue.kind().as_str()),
            message_count: status.messages,
            consumer_count: u32::try_from(status.consumers).unwrap_or(u32::MAX),
            leader: Some(node),
            replicas: &[node],
        };
        message_of(&Response::Queue { is_new, queue: info }, id)
    }
}

/// The arguments of a queue, with its type among them, as RabbitMQ tells them.
fn with_type(arguments: &Table, queue_type: &str) -> Table {
    let mut arguments = arguments.clone();
    if arguments.get(TYPE).is_none() {
        arguments.push(Name::from_static("x-queue-type"), Value::Text(queue_type.to_owned()));
    }
    arguments
}
