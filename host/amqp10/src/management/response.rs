//! Responses: what became of a request.

use super::{arguments, request::Destination};
use crate::{
    composite::Composite,
    descriptor,
    form::address::put_encoded,
    messaging::{MessageId, Properties},
    types::{
        ListBuilder, MapBuilder, Value,
        write::{put, put_array, put_descriptor},
    },
};
use alloc::{format, string::String, vec::Vec};
use leveret_model::{Name, Table};

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What became of a request, by the codes of HTTP.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Status {
            $( $(#[$doc])* $name, )*
        }

        impl Status {
            /// The code, as it stands in a response.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$name => $code, )*
                }
            }
        }
    };
}

statuses! {
    /// It is as it was asked for, and was before.
    Ok = "200",
    /// It was made.
    Created = "201",
    /// It is done, and there is nothing to say.
    NoContent = "204",
    /// The request makes no sense.
    BadRequest = "400",
    /// It is not allowed to whoever asked, or to nobody.
    Forbidden = "403",
    /// There is nothing of that name.
    NotFound = "404",
    /// That cannot be done there.
    MethodNotAllowed = "405",
    /// There is something else of that name.
    Conflict = "409",
    /// Something went wrong inside.
    InternalError = "500",
    /// It cannot be done now.
    Unavailable = "503",
}

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
}

impl Kind {
    /// As texts say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Exchange => "exchange",
        }
    }

    /// Whether a name is one of those that only the broker gives.
    #[must_use]
    pub fn is_reserved(name: &Name) -> bool {
        name.starts_with(b"amq.")
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub status: Status,
    /// Why, for people to read; clients look for some of RabbitMQ's words in it.
    pub reason: String,
}

impl Refused {
    /// With a code and a reason.
    #[must_use]
    pub fn new(status: Status, reason: String) -> Self {
        Self { status, reason }
    }

    pub(super) fn bad(reason: impl Into<String>) -> Self {
        Self::new(Status::BadRequest, reason.into())
    }

    /// There is nothing of that name, which is 404.
    #[must_use]
    pub fn not_found(kind: Kind, name: &Name, virtual_host: &str) -> Self {
        Self::named(Status::NotFound, kind, name, virtual_host, "not found")
    }

    /// Only the broker gives such names, which is 403.
    #[must_use]
    pub fn reserved(kind: Kind, name: &Name, virtual_host: &str) -> Self {
        Self::named(Status::Forbidden, kind, name, virtual_host, "starts with reserved prefix 'amq.'")
    }

    fn named(status: Status, kind: Kind, name: &Name, virtual_host: &str, what: &str) -> Self {
        let (kind, name) = (kind.as_str(), name.to_text());
        Self::new(status, format!("{kind} '{name}' in vhost '{virtual_host}' {what}"))
    }
}

/// The response to a request.
#[derive(Clone, Debug)]
pub enum Response<'r> {
    /// 200 or 201: a queue.
    Queue {
        /// Whether it was made for this request.
        is_new: bool,
        /// What it is like.
        queue: QueueInfo<'r>,
    },
    /// 200: how many messages went.
    Messages(u64),
    /// 200: bindings.
    Bindings(&'r [BindingInfo<'r>]),
    /// 204.
    Done,
    /// Any of the others.
    Refused(&'r Refused),
}

/// What a queue is like.
#[derive(Clone, Copy, Debug)]
pub struct QueueInfo<'r> {
    /// Its name.
    pub name: &'r str,
    /// Its virtual host.
    pub virtual_host: &'r str,
    /// Whether it outlives the process.
    pub durable: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// Whether it is of one connection alone.
    pub exclusive: bool,
    /// `classic`, `quorum` or `stream`.
    pub queue_type: &'r str,
    /// Its arguments. RabbitMQ's always have `x-queue-type`.
    pub arguments: &'r Table,
    /// How many messages are ready.
    pub message_count: u64,
    /// How many consumers it has.
    pub consumer_count: u32,
    /// The node that it is on, if it is on one.
    pub leader: Option<&'r str>,
    /// All nodes that have a copy of it.
    pub replicas: &'r [&'r str],
}

/// A binding that there is.
#[derive(Clone, Debug)]
pub struct BindingInfo<'r> {
    /// The exchange that it begins at.
    pub source: &'r Name,
    /// Where it leads.
    pub destination: &'r Destination,
    /// Its key.
    pub key: &'r Name,
    /// Its arguments.
    pub arguments: &'r Table,
}

impl Response<'_> {
    /// The code.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Queue { is_new: true, .. } => Status::Created,
            Self::Queue { is_new: false, .. } | Self::Messages(_) | Self::Bindings(_) => Status::Ok,
            Self::Done => Status::NoContent,
            Self::Refused(refused) => refused.status,
        }
    }

    /// Appends the message of the response to the request with that identifier.
    pub fn encode(&self, id: Option<MessageId<'_>>, out: &mut Vec<u8>) {
        Properties { subject: Some(self.status().as_str()), correlation_id: id, ..Properties::default() }
            .encode(out);
        put_descriptor(out, descriptor::APPLICATION_PROPERTIES);
        put(out, MapBuilder::new().push("http:response", "1.1").view());
        put_descriptor(out, descriptor::AMQP_VALUE);
        match self {
            Self::Queue { queue, .. } => put(out, queue.map().view()),
            Self::Messages(count) => put(out, MapBuilder::new().push("message_count", *count).view()),
            Self::Bindings(bindings) => {
                let mut list = ListBuilder::new();
                for binding in *bindings {
                    list.push(binding.map().view());
                }
                put(out, list.view());
            }
            Self::Done => put(out, Value::Null),
            Self::Refused(refused) => put(out, refused.reason.as_str()),
        }
    }
}

impl QueueInfo<'_> {
    fn map(&self) -> MapBuilder {
        let mut map = MapBuilder::new();
        map.push("message_count", self.message_count).push("consumer_count", self.consumer_count);
        map.push("name", self.name).push("vhost", self.virtual_host);
        map.push("durable", self.durable).push("auto_delete", self.auto_delete);
        map.push("exclusive", self.exclusive).push("type", self.queue_type);
        map.push("arguments", arguments::map(self.arguments).view());
        let mut replicas = Vec::new();
        put(&mut replicas, "replicas");
        // Strings are of one type.
        let _ = put_array(&mut replicas, self.replicas.iter().map(|node| Value::String(node)));
        map.push_encoded(&replicas);
        if let Some(leader) = self.leader {
            map.push("leader", leader);
        }
        map
    }
}

impl BindingInfo<'_> {
    /// The path by which a client unbinds it.
    #[must_use]
    pub fn location(&self) -> String {
        let (letter, destination) = match self.destination {
            Destination::Queue(queue) => ('q', queue),
            Destination::Exchange(exchange) => ('e', exchange),
        };
        let mut location = String::from("/bindings/src=");
        put_encoded(&mut location, self.source);
        location.push_str(";dst");
        location.push(letter);
        location.push('=');
        put_encoded(&mut location, destination);
        location.push_str(";key=");
        put_encoded(&mut location, self.key);
        location.push_str(";args=");
        location.push_str(&arguments::arguments_key(self.arguments));
        location
    }

    fn map(&self) -> MapBuilder {
        let (field, destination) = match self.destination {
            Destination::Queue(queue) => ("destination_queue", queue),
            Destination::Exchange(exchange) => ("destination_exchange", exchange),
        };
        let mut map = MapBuilder::new();
        map.push("source", self.source.to_text().as_str()).push(field, destination.to_text().as_str());
        map.push("binding_key", self.key.to_text().as_str());
        map.push("arguments", arguments::map(self.arguments).view());
        map.push("location", self.location().as_str());
        map
    }
}
