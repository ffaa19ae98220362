//! What an exchange declares to read of a message.

use crate::Name;
use alloc::vec::Vec;

/// A message property that a plugin may read; the order is that of `wit/0.1.0/types.wit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of AMQP 0-9-1 section 1.8")]
pub enum Property {
    ContentType,
    ContentEncoding,
    DeliveryMode,
    Priority,
    CorrelationId,
    ReplyTo,
    Expiration,
    MessageId,
    Timestamp,
    MessageType,
    UserId,
    AppId,
}

/// Which headers an exchange reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HeaderSelection {
    /// None.
    #[default]
    None,
    /// These, where they are there, in this order.
    Named(Vec<Name>),
    /// All of them, in the message's order.
    All,
}

/// What the decisions of one exchange depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The routing key.
    pub routing_key: bool,
    /// Headers.
    pub headers: HeaderSelection,
    /// Properties, each at most once.
    pub properties: Vec<Property>,
    /// The body, if it is at most this many bytes long.
    pub body_bytes_max: Option<u32>,
}

impl Reads {
    /// Whether the routing key is all that is read: the case in which a projection needs no copy.
    #[must_use]
    pub fn only_routing_key(&self) -> bool {
        self.routing_key && self.nothing_but_routing_key()
    }

    /// Whether nothing is read at all.
    #[must_use]
    pub fn nothing(&self) -> bool {
        !self.routing_key && self.nothing_but_routing_key()
    }

    fn nothing_but_routing_key(&self) -> bool {
        self.headers == HeaderSelection::None && self.properties.is_empty() && self.body_bytes_max.is_none()
    }
}
