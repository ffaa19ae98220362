//! Addresses of nodes, as RabbitMQ 4 has them (its "address v2"): names are percent-encoded (RFC 3986).
//!
//! ```text
//! target   /exchanges/:exchange/:key  /exchanges/:exchange  /queues/:queue
//! source   /queues/:queue
//! ```

use alloc::{string::String, vec::Vec};
use core::fmt::Write as _;

/// The name of the default exchange, which cannot be addressed by it.
const DEFAULT_EXCHANGE: &[u8] = b"amq.default";

/// Where a message may be sent, or come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An exchange, with a routing key.
    Exchange {
        /// The exchange; neither empty nor `amq.default`.
        exchange: Vec<u8>,
        /// The key; empty where none is named.
        routing_key: Vec<u8>,
    },
    /// A queue.
    Queue(Vec<u8>),
}

impl Address {
    /// Reads an address; `None` if it is none.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if let Some(queue) = text.strip_prefix("/queues/") {
            let queue = segment(queue)?;
            return (!queue.is_empty()).then_some(Self::Queue(queue));
        }
        let rest = text.strip_prefix("/exchanges/")?;
        let (exchange, key) = rest.split_once('/').unwrap_or((rest, ""));
        let (exchange, routing_key) = (segment(exchange)?, segment(key)?);
        let is_named = !exchange.is_empty() && exchange != DEFAULT_EXCHANGE;
        is_named.then_some(Self::Exchange { exchange, routing_key })
    }
}

/// One segment, decoded; `None` if there is more than one, or an escape makes no sense.
fn segment(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'/' => return None,
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            byte => byte,
        };
        decoded.push(byte);
    }
    Some(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The queue that an address names, if it names one.
#[must_use]
pub fn queue_of(address: &str) -> Option<Vec<u8>> {
    if let Some(Address::Queue(queue)) = Address::read(address) { Some(queue) } else { None }
}

/// The address of a queue.
#[must_use]
pub fn of_queue(queue: &[u8]) -> String {
    let mut text = String::from("/queues/");
    put_encoded(&mut text, queue);
    text
}

/// Appends a name, percent-encoded but for what RFC 3986 calls unreserved.
pub fn put_encoded(out: &mut String, name: &[u8]) {
    for byte in name {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(exchange: &str, key: &str) -> Option<Address> {
        Some(Address::Exchange { exchange: exchange.into(), routing_key: key.into() })
    }

    #[test]
    fn addresses_are_read_as_rabbitmq_reads_them() {
        assert_eq!(Address::read("/queues/q"), Some(Address::Queue(b"q".to_vec())));
        assert_eq!(Address::read("/queues/a%2Fb%20%25"), Some(Address::Queue(b"a/b %".to_vec())));
        assert_eq!(Address::read("/exchanges/x/k"), exchange("x", "k"));
        assert_eq!(Address::read("/exchanges/x"), exchange("x", ""));
        assert_eq!(Address::read("/exchanges/x/"), exchange("x", ""));
        assert_eq!(Address::read("/exchanges/%C3%A9/a.%23"), exchange("\u{e9}", "a.#"));
        let none = [
            "",
            "q",
            "/queue/q",
            "/queues",
            "/queues/",
            "/queues/a/b",
            "/exchanges//k",
            "/exchanges/",
            "/exchanges",
            "/exchanges/amq.default",
            "/exchanges/amq.default/k",
            "/exchanges/x/a/b",
            "/queues/%",
            "/queues/%4",
            "/queues/%zz",
            "/queues/%+1",
            "queues/q",
            "/topic/t",
            "/amq/queue/q",
        ];
        for text in none {
            assert_eq!(Address::read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        let name: Vec<u8> = (0..=255).collect();
        assert_eq!(Address::read(&of_queue(&name)), Some(Address::Queue(name)));
        assert_eq!(of_queue(b"a b/c"), "/queues/a%20b%2Fc");
    }
}
