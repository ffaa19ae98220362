//! What an exchange declares to read of a message.

/// What the decisions of an exchange depend on. The less, the faster: nothing else is passed, and
/// two messages that look the same get the same remembered decision.
///
/// ```
/// # use leveret_sdk::{Property, Reads};
/// Reads::nothing();
/// Reads::nothing().routing_key();
/// Reads::nothing().header("x-delay").header("x-kind").property(Property::Priority);
/// Reads::nothing().routing_key().body_up_to_bytes(4096);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub(crate) routing_key: bool,
    pub(crate) headers: HeaderSelection,
    pub(crate) properties: Vec<Property>,
    pub(crate) body_bytes_max: Option<u32>,
}

/// Which headers an exchange reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum HeaderSelection {
    #[default]
    None,
    Named(Vec<Vec<u8>>),
    All,
}

impl Reads {
    /// Nothing: the same decision for every message.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            routing_key: false,
            headers: HeaderSelection::None,
            properties: Vec::new(),
            body_bytes_max: None,
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
        self.headers = if names.is_empty() { HeaderSelection::None } else { HeaderSelection::Named(names) };
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

    /// The body too, where it is at most this many bytes long.
    #[must_use]
    pub const fn body_up_to_bytes(mut self, bytes_max: u32) -> Self {
        self.body_bytes_max = Some(bytes_max);
        self
    }
}

/// A message property that a plugin may read.
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
