//! Why the broker refuses something: typed, with the facts that the text needs.
//!
//! `Display` gives the explanation in RabbitMQ's words; each protocol room has one file that
//! turns a refusal into its code.

use crate::Name;
use alloc::{borrow::Cow, string::String};
use core::fmt;

/// The two kinds of things with names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exchange => "exchange",
            Self::Queue => "queue",
        })
    }
}

/// The kinds of operations that permissions tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Declare and delete.
    Configure,
    /// Publish, and bind what is written to.
    Write,
    /// Consume, get, purge, and bind what is read from.
    Read,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        })
    }
}

/// A typed refusal. Whoever asked keeps everything as it was before.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// No exchange or queue of that name.
    NotFound {
        /// What was looked for.
        resource: Resource,
        /// Its name.
        name: Name,
        /// Where.
        vhost: Name,
    },
    /// `queue=""` on a channel that has declared none.
    NoLastQueue,
    /// No virtual host of that name.
    VhostNotFound {
        /// The name.
        vhost: Name,
    },
    /// The user may do nothing in the virtual host.
    VhostDenied {
        /// The virtual host.
        vhost: Name,
        /// The user.
        user: Name,
    },
    /// The virtual host has as many connections as it may have.
    VhostConnections {
        /// The virtual host.
        vhost: Name,
        /// The user.
        user: Name,
        /// How many.
        limit: u64,
    },
    /// The virtual host has as many queues as it may have.
    QueueLimit {
        /// The queue that is not declared.
        queue: Name,
        /// The virtual host.
        vhost: Name,
        /// How many.
        limit: u64,
    },
    /// The user has as many connections as it may have.
    UserConnections {
        /// The user.
        user: Name,
        /// How many.
        limit: u64,
    },
    /// The user has as many channels as it may have.
    UserChannels {
        /// The user.
        user: Name,
        /// How many.
        limit: u64,
    },
    /// The user may not do that with an exchange or a queue.
    Denied {
        /// What it wanted to do.
        operation: Operation,
        /// With what.
        resource: Resource,
        /// Its name, as permissions know it.
        name: Name,
        /// Where.
        vhost: Name,
        /// The user.
        user: Name,
    },
    /// The user may not use that routing key at a topic exchange.
    TopicDenied {
        /// What it wanted to do.
        operation: Operation,
        /// The routing key.
        routing_key: Name,
        /// The exchange.
        exchange: Name,
        /// Where.
        vhost: Name,
        /// The user.
        user: Name,
    },
    /// A message whose `user-id` is not the user that publishes it.
    ForeignUserId {
        /// The property.
        claimed: Name,
        /// The user.
        user: Name,
    },
    /// Redeclared with something that differs.
    Inequivalent {
        /// The property or argument.
        argument: String,
        /// What was redeclared.
        resource: Resource,
        /// Its name.
        name: Name,
        /// Where.
        vhost: Name,
        /// As received, in RabbitMQ's words: `'true'`, `the value '5' of type 'signedint'`, `none`.
        received: String,
        /// As it is.
        current: String,
    },
    /// An exclusive queue of another connection.
    Locked {
        /// The queue.
        queue: Name,
        /// Where.
        vhost: Name,
    },
    /// A queue that hands out messages to its single active consumer alone.
    SingleActiveConsumer {
        /// The queue.
        queue: Name,
        /// Where.
        vhost: Name,
    },
    /// A name beginning with `amq.` that is not there yet.
    ReservedName {
        /// What was to be declared.
        resource: Resource,
        /// Its name.
        name: Name,
    },
    /// Declare, delete or bind on the default exchange, or delete of a predeclared one.
    Protected {
        /// The exchange.
        exchange: Name,
        /// Where.
        vhost: Name,
    },
    /// Bind or unbind of a queue for the replies to a channel.
    NotBindable,
    /// A publish to an internal exchange.
    Internal {
        /// The exchange.
        exchange: Name,
        /// Where.
        vhost: Name,
    },
    /// A consumer is exclusive, or wants to be while there are others.
    ExclusiveUse {
        /// The queue.
        queue: Name,
        /// Where.
        vhost: Name,
    },
    /// Deleted with `if-unused` while used.
    InUse {
        /// What.
        resource: Resource,
        /// Its name.
        name: Name,
        /// Where.
        vhost: Name,
    },
    /// Deleted with `if-empty` while not empty.
    NotEmpty {
        /// The queue.
        queue: Name,
        /// Where.
        vhost: Name,
    },
    /// No exchange type of that name.
    UnknownExchangeType {
        /// The type.
        type_name: Name,
    },
    /// The plugin of an exchange type is none that the virtual host may use.
    ExchangeTypeNotAllowed {
        /// The type.
        type_name: Name,
        /// The virtual host.
        vhost: Name,
        /// The plugin's name.
        plugin: String,
    },
    /// The plugin of an exchange's type is missing or quarantined.
    Parked {
        /// The exchange.
        exchange: Name,
        /// Where.
        vhost: Name,
        /// Its type.
        type_name: Name,
        /// Why, for people to read.
        why: String,
    },
    /// A plugin refused an exchange or a binding.
    PluginRefused {
        /// The exchange.
        exchange: Name,
        /// Where.
        vhost: Name,
        /// The plugin's text.
        text: String,
    },
    /// A plugin trapped or exceeded a limit while it was asked about an exchange or a binding.
    PluginFailed {
        /// The exchange.
        exchange: Name,
        /// Where.
        vhost: Name,
        /// What happened.
        what: String,
    },
    /// A plugin is quarantined because it failed, or no instance of it can be made for an exchange: it was
    /// not asked about anything.
    PluginUnavailable {
        /// The exchange.
        exchange: Name,
        /// Where.
        vhost: Name,
        /// Why.
        why: String,
    },
    /// An argument that makes no sense.
    InvalidArgument {
        /// The whole explanation.
        text: String,
    },
    /// A delivery tag that is not outstanding.
    UnknownDelivery {
        /// The tag.
        tag: u64,
    },
    /// A consumer tag that is in use on the channel.
    ConsumerTagInUse {
        /// The tag.
        tag: Name,
    },
    /// Something that is to outlive the process, which the store does not take, or did not in the end.
    NotKept {
        /// What, for people to read: `queue 'q'`.
        what: String,
        /// Where.
        vhost: Name,
        /// Why, for people to read.
        why: String,
    },
    /// Not built yet.
    NotImplemented {
        /// What, as the explanation.
        what: Cow<'static, str>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { resource, name, vhost } => {
                write!(f, "no {resource} '{name}' in vhost '{vhost}'")
            }
            Self::NoLastQueue => f.write_str("no previously declared queue"),
            Self::VhostNotFound { vhost } => write!(f, "vhost {vhost} not found"),
            Self::VhostDenied { vhost, user } => {
                write!(f, "access to vhost '{vhost}' refused for user '{user}'")
            }
            Self::VhostConnections { vhost, user, limit } => write!(
                f,
                "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
            ),
            Self::QueueLimit { queue, vhost, limit } => write!(
                f,
                "cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached"
            ),
            Self::UserConnections { user, limit } => {
                write!(f, "connection refused for user '{user}': user connection limit ({limit}) is reached")
            }
            Self::UserChannels { user, limit } => write!(
                f,
                "number of channels opened for user '{user}' has reached the maximum allowed user limit of {limit}"
            ),
            Self::Denied { operation, resource, name, vhost, user } => write!(
                f,
                "{operation} access to {resource} '{name}' in vhost '{vhost}' refused for user '{user}'"
            ),
            Self::TopicDenied { operation, routing_key, exchange, vhost, user } => write!(
                f,
                "{operation} access to topic '{routing_key}' in exchange '{exchange}' in vhost '{vhost}' refused for \
                 user '{user}'"
            ),
            Self::ForeignUserId { claimed, user } => {
                write!(f, "user_id property set to '{claimed}' but authenticated user was '{user}'")
            }
            Self::Inequivalent { argument, resource, name, vhost, received, current } => write!(
                f,
                "inequivalent arg '{argument}' for {resource} '{name}' in vhost '{vhost}': received {received} but current is {current}"
            ),
            Self::Locked { queue, vhost } => write!(
                f,
                "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally \
                 declared on another connection or the exclusive property value does not match that of the original \
                 declaration."
            ),
            Self::ReservedName { resource, name } => {
                write!(f, "{resource} name '{name}' contains reserved prefix 'amq.*'")
            }
            Self::Protected { exchange, .. } if exchange.is_empty() => {
                f.write_str("operation not permitted on the default exchange")
            }
            Self::Protected { exchange, vhost } => {
                write!(f, "deletion of system exchange '{exchange}' in vhost '{vhost}' not allowed")
            }
            Self::Internal { exchange, vhost } => {
                write!(f, "cannot publish to internal exchange '{exchange}' in vhost '{vhost}'")
            }
            Self::NotBindable => f.write_str("cannot bind or unbind to a volatile (direct reply-to) queue"),
            Self::ExclusiveUse { queue, vhost } => {
                write!(f, "queue '{queue}' in vhost '{vhost}' in exclusive use")
            }
            Self::InUse { resource, name, vhost } => {
                write!(f, "{resource} '{name}' in vhost '{vhost}' in use")
            }
            Self::NotEmpty { queue, vhost } => write!(f, "queue '{queue}' in vhost '{vhost}' not empty"),
            Self::UnknownExchangeType { type_name } if type_name.is_empty() => {
                f.write_str("invalid exchange type ''")
            }
            Self::UnknownExchangeType { type_name } => write!(f, "unknown exchange type '{type_name}'"),
            Self::ExchangeTypeNotAllowed { type_name, vhost, plugin } => write!(
                f,
                "unknown exchange type '{type_name}' in vhost '{vhost}': plugin '{plugin}' is not allowed there"
            ),
            Self::Parked { exchange, vhost, type_name, why } => {
                write!(f, "exchange '{exchange}' in vhost '{vhost}' is parked: type '{type_name}': {why}")
            }
            Self::PluginRefused { exchange, vhost, text } => {
                write!(f, "exchange '{exchange}' in vhost '{vhost}': {text}")
            }
            Self::PluginFailed { exchange, vhost, what } => {
                write!(f, "exchange '{exchange}' in vhost '{vhost}': the plugin of its type failed: {what}")
            }
            Self::PluginUnavailable { exchange, vhost, why } => {
                write!(f, "exchange '{exchange}' in vhost '{vhost}': the plugin of its type failed: {why}")
            }
            Self::InvalidArgument { text } => f.write_str(text),
            Self::UnknownDelivery { tag } => write!(f, "unknown delivery tag {tag}"),
            Self::ConsumerTagInUse { tag } => write!(f, "attempt to reuse consumer tag '{tag}'"),
            Self::SingleActiveConsumer { queue, vhost } => write!(
                f,
                "cannot obtain access to locked queue '{queue}' in vhost '{vhost}'. basic.get operations are not \
                 supported by <<\"quorum\">> queues with single active consumer"
            ),
            Self::NotKept { what, vhost, why } => {
                write!(f, "cannot keep {what} in vhost '{vhost}': {why}")
            }
            Self::NotImplemented { what } => write!(f, "{what}"),
        }
    }
}

impl core::error::Error for Refusal {}
