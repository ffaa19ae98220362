//! What an exchange or an interceptor declares to read of a message.

/// What answers depend on. The less, the faster: nothing else is passed, and two messages that look
/// the same get the same remembered answer.
///
/// ```
/// # use leveret_sdk::{Above, Property, Reads};
/// Reads::nothing();
/// Reads::nothing().routing_key();
/// Reads::nothing().header("x-delay").header("x-kind").property(Property::Priority);
/// Reads::nothing().routing_key().body(4096, Above::Absent);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub(crate) routing_key: bool,
    pub(crate) headers: HeaderSelection,
    pub(crate) properties: Vec<Property>,
    pub(crate) body: Option<BodyReading>,
    pub(crate) publisher: bool,
    pub(crate) exchange: bool,
    pub(crate) queue: bool,
    pub(crate) reason: bool,
}

/// Which headers are read.
#[derive(Clone, Debug, Default, Eq)]
pub(crate) enum HeaderSelection {
    #[default]
    None,
    /// Each once. With no names it is on the wire as [`Self::None`].
    Named(Vec<Vec<u8>>),
    All,
}

/// No header is no header, said or not said.
impl PartialEq for HeaderSelection {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Named(names), Self::Named(others)) => names == others,
            (Self::All, Self::All) => true,
            _ => !self.is_any() && !other.is_any(),
        }
    }
}

impl HeaderSelection {
    /// Whether any header is passed.
    #[inline]
    pub(crate) fn is_any(&self) -> bool {
        match self {
            Self::None => false,
            Self::Named(names) => !names.is_empty(),
            Self::All => true,
        }
    }

    /// Whether a header of that name is read.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        match self {
            Self::None => false,
            Self::Named(names) => names.iter().any(|there| there == name),
            Self::All => true,
        }
    }
}

/// How the body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyReading {
    pub(crate) bytes_max: u32,
    pub(crate) above: Above,
}

/// What happens to a message whose body is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Above {
    /// The plugin is asked all the same, without a body.
    Absent,
    /// The plugin is not asked: the message is rejected.
    Reject,
}

impl Reads {
    /// Nothing: the same answer for every message.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            routing_key: false,
            headers: HeaderSelection::None,
            properties: Vec::new(),
            body: None,
            publisher: false,
            exchange: false,
            queue: false,
            reason: false,
        }
    }

    /// The routing key too.
    #[must_use]
    pub const fn routing_key(mut self) -> Self {
        self.routing_key = true;
        self
    }

    /// This header too.
    #[must_use]
    pub fn header(mut self, name: impl Into<Vec<u8>>) -> Self {
        let name = name.into();
        match &mut self.headers {
            HeaderSelection::None => self.headers = HeaderSelection::Named(vec![name]),
            HeaderSelection::Named(names) if !names.contains(&name) => names.push(name),
            HeaderSelection::Named(_) | HeaderSelection::All => {}
        }
        self
    }

    /// These headers and no others, each given once.
    #[must_use]
    pub fn only_headers(mut self, names: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        let names: Vec<_> = names.into_iter().map(Into::into).collect();
        self.headers = HeaderSelection::Named(names);
        self
    }

    /// All headers.
    #[must_use]
    pub fn all_headers(mut self) -> Self {
        self.headers = HeaderSelection::All;
        self
    }

    /// This property too.
    #[must_use]
    pub fn property(mut self, property: Property) -> Self {
        if !self.properties.contains(&property) {
            self.properties.push(property);
        }
        self
    }

    /// The body too, of at most this many bytes, and what happens to a message with a longer one.
    #[must_use]
    pub const fn body(mut self, bytes_max: u32, above: Above) -> Self {
        self.body = Some(BodyReading { bytes_max, above });
        self
    }

    /// Who published it too. Needs the grant `publisher`.
    #[must_use]
    pub const fn publisher(mut self) -> Self {
        self.publisher = true;
        self
    }

    /// The exchange it was published to too.
    #[must_use]
    pub const fn exchange(mut self) -> Self {
        self.exchange = true;
        self
    }

    /// Interceptors on deliver and on dead-letter: the queue it comes from too.
    #[must_use]
    pub const fn queue(mut self) -> Self {
        self.queue = true;
        self
    }

    /// Interceptors on dead-letter: why it is dead-lettered too.
    #[must_use]
    pub const fn reason(mut self) -> Self {
        self.reason = true;
        self
    }
}

/// A message property. The order is that of `types.wit`, which numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of AMQP 0-9-1 section 1.8")]
#[repr(u8)]
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
    /// All of them, each at the place of its number.
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
