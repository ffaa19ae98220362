//! What an exchange declares to read of a message.

use crate::Name;
use alloc::vec::Vec;

/// A message property that a plugin may read; the order is that of `wit/0.2.0/types.wit`.
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

impl Property {
    /// All of them, in their order.
    pub const ALL: [Self; 12] = [
        Self::ContentType,
        Self::ContentEncoding,
        Self::DeliveryMode,
        Self::Priority,
        Self::CorrelationId,
        Self::ReplyTo,
        Self::Expiration,
        Self::MessageId,
        Self::Timestamp,
        Self::MessageType,
        Self::UserId,
        Self::AppId,
    ];
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

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyReading {
    /// The longest body that is passed, in bytes.
    pub bytes_max: u32,
    /// A message with a longer one is rejected; else it is asked about without a body.
    pub rejects_above: bool,
}

/// What the answers of one exchange, or one attachment of an interceptor, depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The routing key.
    pub routing_key: bool,
    /// Headers.
    pub headers: HeaderSelection,
    /// Properties, each at most once.
    pub properties: Vec<Property>,
    /// The body.
    pub body: Option<BodyReading>,
    /// Who published it.
    pub publisher: bool,
    /// The exchange it was published to.
    pub exchange: bool,
    /// The queue it comes from (interceptors).
    pub queue: bool,
    /// Why it is dead-lettered (interceptors).
    pub reason: bool,
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

    /// Whether a message with a body of that length is rejected without being asked about.
    #[must_use]
    pub fn rejects_body(&self, body_bytes: usize) -> bool {
        self.body.is_some_and(|body| body.rejects_above && body_bytes > body.bytes_max as usize)
    }

    fn nothing_but_routing_key(&self) -> bool {
        let Self { routing_key: _, headers, properties, body, publisher, exchange, queue, reason } = self;
        *headers == HeaderSelection::None
            && properties.is_empty()
            && body.is_none()
            && !(*publisher || *exchange || *queue || *reason)
    }
}
