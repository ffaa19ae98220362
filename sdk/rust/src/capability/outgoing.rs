//! A message that a plugin makes.

use crate::{Arguments, Property, Value, contract, generated::leveret::routing::types as wit};

/// A message to [`enqueue`](crate::enqueue::enqueue) or to [`publish`](crate::emit::publish).
///
/// ```
/// # use leveret_sdk::{OutgoingMessage, Property};
/// OutgoingMessage::new("{}").header("kind", "report").property(Property::ContentType, "application/json");
/// ```
#[derive(Clone, Debug, Default)]
pub struct OutgoingMessage {
    headers: Arguments,
    properties: Vec<(wit::Property, wit::Value)>,
    body: Vec<u8>,
}

impl OutgoingMessage {
    /// With this body, without headers and properties.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// With this header too, unless one of that name is there.
    #[must_use]
    pub fn header<'v>(mut self, name: impl AsRef<[u8]>, value: impl Into<Value<'v>>) -> Self {
        self.headers = self.headers.with(name, value);
        self
    }

    /// With this property too; each is given once.
    #[must_use]
    pub fn property<'v>(mut self, property: Property, value: impl Into<Value<'v>>) -> Self {
        self.properties.push((contract::property_to_wit(property), contract::value_to_wit(value.into())));
        self
    }

    pub(super) fn to_wit(&self) -> wit::OutgoingMessage {
        wit::OutgoingMessage {
            headers: contract::arguments_to_wit(&self.headers),
            properties: self.properties.clone(),
            body: self.body.clone(),
        }
    }
}
