//! Raw AMQP 0-9-1: frames by hand, right and wrong ones alike.
//!
//! A frame (book, section 4.2.3):
//!
//! ```text
//! 0      1         3             7                 size+7      size+8
//! +------+---------+-------------+  +------------+  +-----------+
//! | type | channel |     size    |  |  payload   |  | frame-end |
//! +------+---------+-------------+  +------------+  +-----------+
//!  octet    short       long          size octets        octet (0xCE)
//! ```
//!
//! The payload of a method frame is class (short), method (short), arguments; that of a header frame
//! is class (short), weight (short), body size (long long), property flags (short), properties.

mod arguments;
mod connection;
mod reader;

pub use arguments::Arguments;
pub use connection::{Closed, RawConnection, Tune};
pub use reader::Reader;

/// The protocol header of AMQP 0-9-1 (book, section 4.2.2).
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The last octet of each frame.
pub const FRAME_END: u8 = 0xce;

/// A method frame.
pub const METHOD: u8 = 1;
/// A content header frame.
pub const HEADER: u8 = 2;
/// A content body frame.
pub const BODY: u8 = 3;
/// A heartbeat frame.
pub const HEARTBEAT: u8 = 8;

/// Class and method ids by the spec's names.
pub mod id {
    /// Class and method.
    pub type MethodId = (u16, u16);

    /// connection.start
    pub const CONNECTION_START: MethodId = (10, 10);
    /// connection.start-ok
    pub const CONNECTION_START_OK: MethodId = (10, 11);
    /// connection.tune
    pub const CONNECTION_TUNE: MethodId = (10, 30);
    /// connection.tune-ok
    pub const CONNECTION_TUNE_OK: MethodId = (10, 31);
    /// connection.open
    pub const CONNECTION_OPEN: MethodId = (10, 40);
    /// connection.open-ok
    pub const CONNECTION_OPEN_OK: MethodId = (10, 41);
    /// connection.close
    pub const CONNECTION_CLOSE: MethodId = (10, 50);
    /// connection.close-ok
    pub const CONNECTION_CLOSE_OK: MethodId = (10, 51);
    /// connection.blocked
    pub const CONNECTION_BLOCKED: MethodId = (10, 60);
    /// connection.unblocked
    pub const CONNECTION_UNBLOCKED: MethodId = (10, 61);
    /// channel.open
    pub const CHANNEL_OPEN: MethodId = (20, 10);
    /// channel.open-ok
    pub const CHANNEL_OPEN_OK: MethodId = (20, 11);
    /// channel.flow
    pub const CHANNEL_FLOW: MethodId = (20, 20);
    /// channel.flow-ok
    pub const CHANNEL_FLOW_OK: MethodId = (20, 21);
    /// channel.close
    pub const CHANNEL_CLOSE: MethodId = (20, 40);
    /// channel.close-ok
    pub const CHANNEL_CLOSE_OK: MethodId = (20, 41);
    /// access.request
    pub const ACCESS_REQUEST: MethodId = (30, 10);
    /// access.request-ok
    pub const ACCESS_REQUEST_OK: MethodId = (30, 11);
    /// exchange.declare
    pub const EXCHANGE_DECLARE: MethodId = (40, 10);
    /// exchange.declare-ok
    pub const EXCHANGE_DECLARE_OK: MethodId = (40, 11);
    /// exchange.delete
    pub const EXCHANGE_DELETE: MethodId = (40, 20);
    /// exchange.delete-ok
    pub const EXCHANGE_DELETE_OK: MethodId = (40, 21);
    /// queue.declare
    pub const QUEUE_DECLARE: MethodId = (50, 10);
    /// queue.declare-ok
    pub const QUEUE_DECLARE_OK: MethodId = (50, 11);
    /// queue.bind
    pub const QUEUE_BIND: MethodId = (50, 20);
    /// queue.bind-ok
    pub const QUEUE_BIND_OK: MethodId = (50, 21);
    /// queue.unbind
    pub const QUEUE_UNBIND: MethodId = (50, 50);
    /// queue.unbind-ok
    pub const QUEUE_UNBIND_OK: MethodId = (50, 51);
    /// queue.delete.
    pub const QUEUE_DELETE: MethodId = (50, 40);
    /// queue.delete-ok.
    pub const QUEUE_DELETE_OK: MethodId = (50, 41);
    /// queue.purge
    pub const QUEUE_PURGE: MethodId = (50, 30);
    /// queue.purge-ok
    pub const QUEUE_PURGE_OK: MethodId = (50, 31);
    /// basic.qos
    pub const BASIC_QOS: MethodId = (60, 10);
    /// basic.qos-ok
    pub const BASIC_QOS_OK: MethodId = (60, 11);
    /// basic.consume
    pub const BASIC_CONSUME: MethodId = (60, 20);
    /// basic.consume-ok
    pub const BASIC_CONSUME_OK: MethodId = (60, 21);
    /// basic.cancel.
    pub const BASIC_CANCEL: MethodId = (60, 30);
    /// basic.publish
    pub const BASIC_PUBLISH: MethodId = (60, 40);
    /// basic.return
    pub const BASIC_RETURN: MethodId = (60, 50);
    /// basic.deliver
    pub const BASIC_DELIVER: MethodId = (60, 60);
    /// basic.get
    pub const BASIC_GET: MethodId = (60, 70);
    /// basic.get-ok
    pub const BASIC_GET_OK: MethodId = (60, 71);
    /// basic.get-empty
    pub const BASIC_GET_EMPTY: MethodId = (60, 72);
    /// basic.ack
    pub const BASIC_ACK: MethodId = (60, 80);
    /// basic.reject
    pub const BASIC_REJECT: MethodId = (60, 90);
    /// basic.nack
    pub const BASIC_NACK: MethodId = (60, 120);
    /// basic.recover
    pub const BASIC_RECOVER: MethodId = (60, 110);
    /// basic.recover-ok
    pub const BASIC_RECOVER_OK: MethodId = (60, 111);
    /// confirm.select
    pub const CONFIRM_SELECT: MethodId = (85, 10);
    /// confirm.select-ok
    pub const CONFIRM_SELECT_OK: MethodId = (85, 11);
    /// tx.select
    pub const TX_SELECT: MethodId = (90, 10);
    /// tx.select-ok
    pub const TX_SELECT_OK: MethodId = (90, 11);
    /// tx.commit
    pub const TX_COMMIT: MethodId = (90, 20);
    /// tx.commit-ok
    pub const TX_COMMIT_OK: MethodId = (90, 21);
}

/// One frame as it came, the frame end checked and taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The type octet.
    pub kind: u8,
    /// The channel.
    pub channel: u16,
    /// Without the frame end.
    pub payload: Vec<u8>,
}

/// The bytes of a frame whose parts need not be right.
#[must_use]
pub fn frame_bytes(kind: u8, channel: u16, payload: &[u8], frame_end: u8) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("a payload below 4 GiB");
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&channel.to_be_bytes());
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.push(frame_end);
    bytes
}

/// The bytes of a method frame.
#[must_use]
pub fn method_bytes(channel: u16, method: id::MethodId, arguments: Arguments) -> Vec<u8> {
    let mut payload = method.0.to_be_bytes().to_vec();
    payload.extend_from_slice(&method.1.to_be_bytes());
    payload.extend_from_slice(&arguments.into_bytes());
    frame_bytes(METHOD, channel, &payload, FRAME_END)
}

/// The bytes of a content header frame without properties.
#[must_use]
pub fn header_bytes(channel: u16, class: u16, body_size: u64) -> Vec<u8> {
    let arguments = Arguments::new().short(class).short(0).long_long(body_size).short(0);
    frame_bytes(HEADER, channel, &arguments.into_bytes(), FRAME_END)
}

/// The bytes of a content body frame.
#[must_use]
pub fn body_bytes(channel: u16, body: &[u8]) -> Vec<u8> {
    frame_bytes(BODY, channel, body, FRAME_END)
}

/// The bytes of a publish to a queue: a message without properties, whose body is not empty and fits into a frame.
#[must_use]
pub fn publish_bytes(channel: u16, queue: &str, body: &[u8]) -> Vec<u8> {
    let method = method_bytes(channel, id::BASIC_PUBLISH, Arguments::publish("", queue));
    [method, header_bytes(channel, 60, body.len() as u64), body_bytes(channel, body)].concat()
}

/// The same of a persistent message.
#[must_use]
pub fn publish_persistent_bytes(channel: u16, queue: &str, body: &[u8]) -> Vec<u8> {
    let method = method_bytes(channel, id::BASIC_PUBLISH, Arguments::publish("", queue));
    // The class, nothing, the length, that there is a delivery mode, and which.
    let header = Arguments::new().short(60).short(0).long_long(body.len() as u64).short(0x1000).octet(2);
    let header = frame_bytes(HEADER, channel, &header.into_bytes(), FRAME_END);
    [method, header, body_bytes(channel, body)].concat()
}
