//! A message in the encoded form of the protocol it came by: borrowed on its way, owned where it
//! is to stay outside a queue.

use crate::{HeaderSelection, Name, Property, Reads, flat};
use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use core::fmt;

/// The encoded form of one protocol: how to read fields from a message's properties.
///
/// A protocol room has one `static` of it. Properties given to these functions were checked when
/// the message came in; an implementation stops at the first byte that makes no sense, and never
/// panics.
pub trait Form: Send + Sync {
    /// The protocol, for people to read: `amqp-0-9-1`.
    fn protocol(&self) -> &'static str;

    /// Appends the selected headers as `wit/CONTRACT.md` lays them out under "Batches": their
    /// number (u16 LE), then for each the length of its name (u8), its name, a flat value.
    fn put_headers(&self, properties: &[u8], selection: &HeaderSelection, out: &mut Vec<u8>);

    /// Appends a property as a flat value, or [`flat::ABSENT`].
    fn put_property(&self, properties: &[u8], property: Property, out: &mut Vec<u8>);
}

/// A message on its way: everything borrowed from the read buffer or from a queue's slab.
#[derive(Clone, Copy)]
pub struct MessageView<'a> {
    /// The exchange it was published to; stays the same through alternate exchanges.
    pub exchange: &'a [u8],
    /// The key it was published with.
    pub routing_key: &'a [u8],
    /// How to read `properties`.
    pub form: &'static dyn Form,
    /// Properties and headers in `form`'s encoding. AMQP 0-9-1: the content header's payload from
    /// the property flags on.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a [u8],
    /// Who published it; `None` where the broker did, and once it is in a queue.
    pub publisher: Option<&'a PublisherIdentity>,
}

/// Who publishes on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherIdentity {
    /// The user as whom it logged in.
    pub user: Name,
    /// The connection, for people to read; no other has the same while the broker runs.
    pub connection: String,
    /// The protocol that it speaks: `amqp-0-9-1`.
    pub protocol: &'static str,
}

/// A message on its own, outside a queue: held, stored by an exchange type, or to be emitted.
#[derive(Clone)]
pub struct OwnedMessage {
    /// The exchange it was published to.
    pub exchange: Name,
    /// The key it was published with.
    pub routing_key: Name,
    /// How to read `properties`.
    pub form: &'static dyn Form,
    /// See [`MessageView::properties`].
    pub properties: Bytes,
    /// The body.
    pub body: Bytes,
}

impl OwnedMessage {
    /// A copy of a message, without its publisher.
    #[must_use]
    pub fn from_view(message: &MessageView<'_>) -> Self {
        Self {
            exchange: Name::cut(message.exchange),
            routing_key: Name::cut(message.routing_key),
            form: message.form,
            properties: Bytes::copy_from_slice(message.properties),
            body: Bytes::copy_from_slice(message.body),
        }
    }

    /// The message as it is published.
    #[must_use]
    pub fn view(&self) -> MessageView<'_> {
        MessageView {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            form: self.form,
            properties: &self.properties,
            body: &self.body,
            publisher: None,
        }
    }

    /// How many bytes it has, as [`MessageView::len_bytes`] counts them.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.view().len_bytes()
    }
}

impl fmt::Debug for OwnedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl MessageView<'_> {
    /// Appends what `reads` selects, laid out as in `wit/CONTRACT.md` under "Batches". These bytes
    /// go to the guest and are the key of the memo.
    pub fn project(&self, reads: &Reads, out: &mut Vec<u8>) {
        if reads.routing_key {
            out.extend_from_slice(&u16::try_from(self.routing_key.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(self.routing_key);
        }
        if reads.headers != HeaderSelection::None {
            self.form.put_headers(self.properties, &reads.headers, out);
        }
        for property in &reads.properties {
            self.form.put_property(self.properties, *property, out);
        }
        if let Some(bytes_max) = reads.body_bytes_max {
            match u32::try_from(self.body.len()) {
                Ok(length) if length <= bytes_max => {
                    out.extend_from_slice(&length.to_le_bytes());
                    out.extend_from_slice(self.body);
                }
                _ => out.extend_from_slice(&u32::MAX.to_le_bytes()),
            }
        }
    }

    /// The bytes that a queue charges for it.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.exchange.len() + self.routing_key.len() + self.properties.len() + self.body.len()
    }
}

impl fmt::Debug for MessageView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageView")
            .field("protocol", &self.form.protocol())
            .field("exchange", &String::from_utf8_lossy(self.exchange))
            .field("routing_key", &String::from_utf8_lossy(self.routing_key))
            .field("properties_bytes", &self.properties.len())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

const _: () = assert!(flat::ABSENT == 0xff, "absent is outside the tags of values");

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    struct Bare;

    impl Form for Bare {
        fn protocol(&self) -> &'static str {
            "bare"
        }
        fn put_headers(&self, _: &[u8], _: &HeaderSelection, _: &mut Vec<u8>) {}
        fn put_property(&self, _: &[u8], _: Property, _: &mut Vec<u8>) {}
    }

    #[test]
    fn an_owned_message_is_the_same_without_its_publisher() {
        let identity = PublisherIdentity {
            user: Name::from_static("guest"),
            connection: String::from("127.0.0.1 #1"),
            protocol: "bare",
        };
        let long = vec![b'k'; Name::BYTES_MAX + 1];
        let view = MessageView {
            exchange: b"x",
            routing_key: &long,
            form: &Bare,
            properties: b"p",
            body: b"body",
            publisher: Some(&identity),
        };
        let owned = OwnedMessage::from_view(&view);
        let copy = owned.view();
        assert_eq!((copy.exchange, copy.properties, copy.body), (&b"x"[..], &b"p"[..], &b"body"[..]));
        assert_eq!(copy.routing_key, &long[..Name::BYTES_MAX], "no name is longer");
        assert!(copy.publisher.is_none());
        assert_eq!(owned.len_bytes(), view.len_bytes() - 1);
    }
}
