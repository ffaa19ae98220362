//! A client that is somebody, and tries one operation after the other.

use leveret_testkit::wire::{
    Arguments, Closed, FRAME_END, HEADER, PROTOCOL_HEADER, RawConnection, body_bytes, frame_bytes, id,
    method_bytes,
};
use std::net::SocketAddr;

/// exchange.bind
const EXCHANGE_BIND: id::MethodId = (40, 30);
/// exchange.bind-ok
const EXCHANGE_BIND_OK: id::MethodId = (40, 31);

/// queue.delete
const QUEUE_DELETE: id::MethodId = (50, 40);
/// queue.delete-ok
const QUEUE_DELETE_OK: id::MethodId = (50, 41);

/// A connection with channel 1 open.
pub(crate) struct Client {
    pub(crate) connection: RawConnection,
}

/// A method and what answers it.
pub(crate) struct Call(pub(crate) id::MethodId, pub(crate) Arguments, pub(crate) id::MethodId);

/// A connection that has sent connection.start-ok by a mechanism. The client can take connection.close.
pub(crate) fn log_in(address: SocketAddr, mechanism: &str, response: &[u8]) -> RawConnection {
    let mut connection = RawConnection::connect(address);
    connection.send(&PROTOCOL_HEADER);
    connection.expect_method(0, id::CONNECTION_START);
    // { "capabilities": { "authentication_failure_close": true } }
    let inner = [&b"\x1cauthentication_failure_closet\x01"[..]].concat();
    let mut properties = b"\x0ccapabilitiesF".to_vec();
    properties.extend_from_slice(&(inner.len() as u32).to_be_bytes());
    properties.extend_from_slice(&inner);
    let arguments = Arguments::new().long_string(&properties);
    let arguments = arguments.short_string(mechanism).long_string(response).short_string("en_US");
    connection.send_method(0, id::CONNECTION_START_OK, arguments);
    connection
}

/// The response of PLAIN.
pub(crate) fn plain(user: &str, password: &str) -> Vec<u8> {
    format!("\0{user}\0{password}").into_bytes()
}

/// Goes on to connection.open.
pub(crate) fn open(connection: &mut RawConnection, vhost: &str) {
    let tune = connection.expect_tune();
    connection.send_method(0, id::CONNECTION_TUNE_OK, Arguments::tune_ok(tune));
    connection.send_method(0, id::CONNECTION_OPEN, Arguments::open(vhost));
}

impl Client {
    pub(crate) fn open(address: SocketAddr, user: &str, password: &str) -> Self {
        let mut connection = log_in(address, "PLAIN", &plain(user, password));
        open(&mut connection, "/");
        connection.expect_method(0, id::CONNECTION_OPEN_OK);
        connection.open_channel(1);
        Self { connection }
    }

    /// It must be allowed.
    pub(crate) fn does(&mut self, Call(method, arguments, answer): Call) {
        self.connection.send_method(1, method, arguments);
        self.connection.expect_method(1, answer);
    }

    /// It must be refused with that code and text; the channel is open again then.
    pub(crate) fn is_refused(&mut self, Call(method, arguments, _): Call, code: u16, text: &str) {
        self.connection.send_method(1, method, arguments);
        let closed = self.connection.expect_channel_close(1, code);
        assert_eq!((&closed.text[..], closed.method), (text, method));
        self.connection.open_channel(1);
    }

    /// [`Self::is_refused`] with 403 for want of a permission.
    pub(crate) fn is_denied(&mut self, call: Call, text: &str) {
        self.is_refused(call, 403, &format!("ACCESS_REFUSED - {text} in vhost '/' refused for user 'u'"));
    }

    /// Publishes, and knows that it was taken.
    pub(crate) fn publishes(&mut self, exchange: &str, key: &str, properties: &[u8]) {
        self.send_publish(exchange, key, properties);
        // What is refused closes the channel before this is answered.
        self.does(Call(id::BASIC_QOS, Arguments::new().long(0).short(0).bits(&[false]), id::BASIC_QOS_OK));
    }

    /// A publish that must be refused.
    pub(crate) fn publish_is_refused(
        &mut self,
        exchange: &str,
        key: &str,
        properties: &[u8],
        code: u16,
    ) -> Closed {
        self.send_publish(exchange, key, properties);
        let closed = self.connection.expect_channel_close(1, code);
        assert_eq!(closed.method, id::BASIC_PUBLISH);
        self.connection.open_channel(1);
        closed
    }

    fn send_publish(&mut self, exchange: &str, key: &str, properties: &[u8]) {
        let mut frames = method_bytes(1, id::BASIC_PUBLISH, Arguments::publish(exchange, key));
        let header = Arguments::new().short(60).short(0).long_long(1).raw(properties);
        frames.extend(frame_bytes(HEADER, 1, &header.into_bytes(), FRAME_END));
        frames.extend(body_bytes(1, b"x"));
        self.connection.send(&frames);
    }
}

/// No properties.
pub(crate) const NONE: &[u8] = &[0, 0];

/// The property user-id.
pub(crate) fn user_id(user: &str) -> Vec<u8> {
    let mut properties = vec![0, 0x10, user.len() as u8];
    properties.extend_from_slice(user.as_bytes());
    properties
}

/// A header that is an array of one text.
pub(crate) fn header_of_keys(name: &str, key: &str) -> Vec<u8> {
    let mut array = vec![b'S'];
    array.extend_from_slice(&(key.len() as u32).to_be_bytes());
    array.extend_from_slice(key.as_bytes());
    let mut table = vec![name.len() as u8];
    table.extend_from_slice(name.as_bytes());
    table.push(b'A');
    table.extend_from_slice(&(array.len() as u32).to_be_bytes());
    table.extend_from_slice(&array);
    let mut properties = vec![0x20, 0];
    properties.extend_from_slice(&(table.len() as u32).to_be_bytes());
    properties.extend_from_slice(&table);
    properties
}

pub(crate) fn declare_queue(name: &str, passive: bool, arguments: &[(&str, &str)]) -> Call {
    let words = Arguments::new().short(0).short_string(name).bits(&[passive, false, !passive, false, false]);
    Call(id::QUEUE_DECLARE, words.table(arguments), id::QUEUE_DECLARE_OK)
}

pub(crate) fn declare_exchange(name: &str, kind: &str, passive: bool, arguments: &[(&str, &str)]) -> Call {
    let words = Arguments::new().short(0).short_string(name).short_string(kind);
    let words = words.bits(&[passive, false, false, false, false]).table(arguments);
    Call(id::EXCHANGE_DECLARE, words, id::EXCHANGE_DECLARE_OK)
}

pub(crate) fn delete_exchange(name: &str) -> Call {
    let words = Arguments::new().short(0).short_string(name).bits(&[false, false]);
    Call(id::EXCHANGE_DELETE, words, id::EXCHANGE_DELETE_OK)
}

pub(crate) fn delete_queue(name: &str) -> Call {
    let words = Arguments::new().short(0).short_string(name).bits(&[false, false, false]);
    Call(QUEUE_DELETE, words, QUEUE_DELETE_OK)
}

pub(crate) fn purge(name: &str) -> Call {
    Call(id::QUEUE_PURGE, Arguments::new().short(0).short_string(name).bits(&[false]), id::QUEUE_PURGE_OK)
}

pub(crate) fn bind(queue: &str, exchange: &str, key: &str) -> Call {
    let words = Arguments::new().short(0).short_string(queue).short_string(exchange).short_string(key);
    Call(id::QUEUE_BIND, words.bits(&[false]).empty_table(), id::QUEUE_BIND_OK)
}

pub(crate) fn unbind(queue: &str, exchange: &str, key: &str) -> Call {
    let words = Arguments::new().short(0).short_string(queue).short_string(exchange).short_string(key);
    Call(id::QUEUE_UNBIND, words.empty_table(), id::QUEUE_UNBIND_OK)
}

pub(crate) fn bind_exchange(to: &str, from: &str, key: &str) -> Call {
    let words = Arguments::new().short(0).short_string(to).short_string(from).short_string(key);
    Call(EXCHANGE_BIND, words.bits(&[false]).empty_table(), EXCHANGE_BIND_OK)
}

pub(crate) fn get(queue: &str) -> Call {
    Call(id::BASIC_GET, Arguments::new().short(0).short_string(queue).bits(&[true]), id::BASIC_GET_EMPTY)
}

pub(crate) fn consume(queue: &str) -> Call {
    let words = Arguments::new().short(0).short_string(queue).short_string("");
    Call(id::BASIC_CONSUME, words.bits(&[false, true, false, false]).empty_table(), id::BASIC_CONSUME_OK)
}
