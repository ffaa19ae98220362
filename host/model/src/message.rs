//! A message in the encoded form of the protocol it came by: borrowed on its way, owned where it
//! is to stay outside a queue.

use crate::{HeaderSelection, MoreKeys, Name, Patch, PatchError, Property, Reads, Value, flat};
use alloc::{boxed::Box, string::String, vec::Vec};
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

    /// Whether a message with these properties is to outlive the process, in a queue that does.
    fn is_persistent(&self, properties: &[u8]) -> bool;

    /// For how long the message may wait in a queue, in milliseconds, if its publisher said so.
    ///
    /// # Errors
    /// What was said is no such time. For people to read, in RabbitMQ's words.
    fn ttl_ms(&self, properties: &[u8]) -> Result<Option<u64>, String> {
        let _ = properties;
        Ok(None)
    }

    /// The form of the same properties where the body is not far; `None` if it is not ([`crate::far`]).
    fn near(&self) -> Option<&'static dyn Form> {
        None
    }

    /// The priority that its publisher gave it; greater ones go first, in queues that heed them.
    fn priority(&self, properties: &[u8]) -> Option<u8> {
        let _ = properties;
        None
    }

    /// The further routing keys that the headers name; `None` if they name none and hide none.
    ///
    /// # Errors
    /// What should be a list of them is none. For people to read, in RabbitMQ's words.
    fn more_keys(&self, properties: &[u8]) -> Result<Option<Box<MoreKeys>>, String> {
        let _ = properties;
        Ok(None)
    }

    /// The form of the same properties where receivers do not see the headers that name hidden keys
    /// ([`MoreKeys::hides`]); `None` if this protocol has no such headers.
    fn hiding(&self) -> Option<&'static dyn Form> {
        None
    }

    /// No properties and no headers, encoded.
    fn empty(&self) -> &'static [u8];

    /// Whether its properties tell of the body, so that [`Self::patch`] is asked where a body is changed.
    fn frames_body(&self) -> bool {
        false
    }

    /// Whether the header `x-delivery-count`, how often consumers failed on a message, has a place of its own in this
    /// protocol, which every receiver looks at: then a dead letter has it from any queue.
    fn tells_failures(&self) -> bool {
        false
    }

    /// Whether a patch changes what the message's sender may have signed.
    fn touches_signed(&self, properties: &[u8], patch: &Patch) -> bool {
        let _ = (properties, patch);
        false
    }

    /// Appends the properties with the patch's changes of headers and properties made; its routing
    /// key is not looked at, and its body only where [`Self::frames_body`]. What is not changed stays byte for byte. If the last
    /// header goes, so does the property that holds them.
    ///
    /// # Errors
    /// If a changed value cannot be said in this form. What was appended until then is of no use.
    fn patch(&self, properties: &[u8], patch: &Patch, out: &mut Vec<u8>) -> Result<(), PatchError>;
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

/// Where a message is, beyond what it says itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// The queue that it leaves; empty on publish.
    pub queue: &'a [u8],
    /// Why it is dead-lettered; empty otherwise.
    pub reason: &'a str,
}

/// Who publishes on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherIdentity {
    /// The user as whom it logged in.
    pub user: Name,
    /// The connection's name, as the management API tells it.
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
        self.project_at(reads, Place::default(), out);
    }

    /// The same for an interceptor that also sees where the message is.
    pub fn project_at(&self, reads: &Reads, place: Place<'_>, out: &mut Vec<u8>) {
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
        if let Some(body) = reads.body {
            match u32::try_from(self.readable_bytes()) {
                Ok(length) if length <= body.bytes_max => {
                    out.extend_from_slice(&length.to_le_bytes());
                    out.extend_from_slice(self.body);
                }
                _ => out.extend_from_slice(&u32::MAX.to_le_bytes()),
            }
        }
        if reads.publisher {
            self.put_publisher(out);
        }
        if reads.exchange {
            put_short(out, self.exchange);
        }
        if reads.queue {
            put_short(out, place.queue);
        }
        if reads.reason {
            put_short(out, place.reason.as_bytes());
        }
    }

    fn put_publisher(&self, out: &mut Vec<u8>) {
        let Some(publisher) = self.publisher else {
            return out.extend_from_slice(&[0; 4]);
        };
        put_short(out, &publisher.user);
        let connection = publisher.connection.as_bytes();
        let connection = connection.get(..usize::from(u16::MAX)).unwrap_or(connection);
        out.extend_from_slice(&(connection.len() as u16).to_le_bytes());
        out.extend_from_slice(connection);
        put_short(out, publisher.protocol.as_bytes());
    }

    /// A header's value, if there is one of that name. For what is seldom asked: it is copied.
    #[must_use]
    pub fn header(&self, name: &Name) -> Option<Value> {
        let mut list = Vec::new();
        let selection = HeaderSelection::Named(Vec::from([name.clone()]));
        self.form.put_headers(self.properties, &selection, &mut list);
        // Past the number of headers, the length of the name and the name.
        flat::take_value(&mut list.get(3 + name.len()..)?)
    }

    /// A property's value, if it is there. For what is seldom asked: it is copied.
    #[must_use]
    pub fn property(&self, property: Property) -> Option<Value> {
        let mut value = Vec::new();
        self.form.put_property(self.properties, property, &mut value);
        flat::take_value(&mut value.as_slice())
    }

    /// The message as a patch changes it. Changed properties are appended to `arena`; a new routing
    /// key and a new body are the patch's own.
    ///
    /// # Errors
    /// If the message's form cannot say a changed value; `arena` is then as long as before.
    pub fn patched<'b>(&self, patch: &'b Patch, arena: &'b mut Vec<u8>) -> Result<MessageView<'b>, PatchError>
    where
        Self: 'b,
    {
        let mut patched: MessageView<'b> = *self;
        if let Some(key) = patch.routing_key() {
            patched.routing_key = key;
        }
        if let Some(body) = patch.body() {
            (patched.form, patched.body) = (self.near_form(), body);
        }
        if !patch.keeps_properties() || (patch.body().is_some() && self.form.frames_body()) {
            let start = arena.len();
            if let Err(error) = self.form.patch(self.properties, patch, arena) {
                arena.truncate(start);
                return Err(error);
            }
            patched.properties = arena.get(start..).unwrap_or_default();
        }
        Ok(patched)
    }

    /// Whether it is to outlive the process, in a queue that does.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.form.is_persistent(self.properties)
    }

    /// For how long it may wait in a queue, in milliseconds, if its publisher said so.
    ///
    /// # Errors
    /// As for [`Form::ttl_ms`].
    pub fn ttl_ms(&self) -> Result<Option<u64>, String> {
        self.form.ttl_ms(self.properties)
    }

    /// The further routing keys that its headers name.
    ///
    /// # Errors
    /// As for [`Form::more_keys`].
    pub fn more_keys(&self) -> Result<Option<Box<MoreKeys>>, String> {
        self.form.more_keys(self.properties)
    }

    /// The message as it lies in queues, so that receivers do not see what is hidden from them.
    #[must_use]
    pub fn hidden(self) -> Self {
        Self { form: self.form.hiding().unwrap_or(self.form), ..self }
    }

    /// The priority that its publisher gave it.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.form.priority(self.properties)
    }

    /// The bytes that a queue charges for it.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.exchange.len() + self.routing_key.len() + self.properties.len() + self.body.len()
    }
}

/// Appends at most 255 bytes after their number.
fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..usize::from(u8::MAX)).unwrap_or(bytes);
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
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
    use crate::testing::Bare;
    use alloc::vec;

    #[test]
    fn an_owned_message_is_the_same_without_its_publisher() {
        let identity = PublisherIdentity {
            user: Name::from_static("guest"),
            connection: String::from("127.0.0.1:9000 -> 127.0.0.1:5672"),
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
