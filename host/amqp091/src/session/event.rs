//! What a session tells its caller, and what it is told at first.

use crate::Method;
use alloc::{borrow::Cow, string::String, vec, vec::Vec};
use leveret_model::{Name, Table, Value};

/// What a session has to know; shared by all sessions of a listener.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// `product` in the server properties; some clients behave differently for `RabbitMQ`.
    pub product: String,
    /// `version` in the server properties.
    pub version: String,
    /// `platform` in the server properties.
    pub platform: String,
    /// `cluster_name` in the server properties.
    pub cluster_name: String,
    /// The largest frame, in bytes; at least [`crate::frame::FRAME_BYTES_MIN`].
    pub frame_bytes_max: u32,
    /// The highest channel number; at least 1.
    pub channel_max: u16,
    /// The heartbeat that is proposed, in seconds; the client decides.
    pub heartbeat_seconds: u16,
    /// The largest message body that is taken, in bytes.
    pub message_body_bytes_max: u64,
    /// The mechanisms that are offered, those that are preferred first. Others are a failed login.
    pub mechanisms: Vec<Mechanism>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            product: String::from("Leveret"),
            version: String::from(env!("CARGO_PKG_VERSION")),
            platform: String::from("Rust"),
            cluster_name: String::from("leveret"),
            frame_bytes_max: 131_072,
            channel_max: 2047,
            heartbeat_seconds: 60,
            message_body_bytes_max: leveret_model::limits::MESSAGE_BODY_BYTES_MAX,
            mechanisms: vec![Mechanism::Plain, Mechanism::AmqPlain],
        }
    }
}

/// What happened, in the order in which it happened.
#[derive(Debug, PartialEq)]
pub enum Event<'b> {
    /// The client says who it is. Nothing more is read until [`super::Session::authenticated`] or
    /// [`super::Session::login_refused`].
    Login(Login<'b>),
    /// The client wants this virtual host. Nothing more is read until [`super::Session::opened`] or
    /// [`super::Session::open_refused`].
    Open {
        /// Its name.
        vhost: Name,
    },
    /// A channel is open. Answered with [`super::Session::channel_opened`], or with [`super::Session::refuse`] by a
    /// refusal that closes the connection.
    ChannelOpened(u16),
    /// A channel is closed: by the client (close-ok is put), or because of an error (close is put).
    ChannelClosed(u16),
    /// A message, whole and checked.
    Publish(Publish<'b>),
    /// Any other method that the broker answers.
    Request {
        /// On which channel; it is open.
        channel: u16,
        /// A method that a client may send.
        method: Method<'b>,
    },
    /// The connection is over, for whatever reason; comes once. No channel is announced as closed
    /// any more.
    Closed,
}

/// A mechanism of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// `NUL user NUL password`.
    Plain,
    /// A field table with `LOGIN` and `PASSWORD`, without its length.
    AmqPlain,
    /// Nobody in particular; whatever is said is not looked at.
    Anonymous,
    /// Whom the transport has proved, as a client's certificate.
    External,
}

impl Mechanism {
    /// As clients name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::Anonymous => "ANONYMOUS",
            Self::External => "EXTERNAL",
        }
    }
}

/// Who a client says it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Login<'b> {
    /// How it said so.
    pub mechanism: Mechanism,
    /// The user; empty where the mechanism names none.
    pub user: &'b [u8],
    /// The password, likewise.
    pub password: &'b [u8],
}

impl core::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Login")
            .field("mechanism", &self.mechanism)
            .field("user", &String::from_utf8_lossy(self.user))
            .finish_non_exhaustive()
    }
}

/// A published message. Borrowed where it lay whole in the bytes that were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<'b> {
    /// On which channel.
    pub channel: u16,
    /// Whether it comes back if it cannot be routed.
    pub mandatory: bool,
    /// The exchange; at most 255 bytes.
    pub exchange: Cow<'b, [u8]>,
    /// The routing key; at most 255 bytes.
    pub routing_key: Cow<'b, [u8]>,
    /// Checked properties, beginning with the flags; read them with [`crate::form::FORM`].
    pub properties: Cow<'b, [u8]>,
    /// The body.
    pub body: Cow<'b, [u8]>,
}

/// What a client said of itself in start-ok.
#[derive(Clone, Debug, Default)]
pub struct ClientProperties {
    /// `connection_name`, or empty.
    pub connection_name: String,
    /// `product`, or empty.
    pub product: String,
    /// `version`, or empty.
    pub version: String,
    /// `platform`, or empty.
    pub platform: String,
    /// It wants basic.cancel when a consumer ends.
    pub consumer_cancel_notify: bool,
    /// It wants connection.blocked and connection.unblocked.
    pub connection_blocked: bool,
    /// It wants connection.close 403 after a failed login.
    pub authentication_failure_close: bool,
    /// It understands basic.nack.
    pub basic_nack: bool,
    /// It understands confirms.
    pub publisher_confirms: bool,
    /// It understands bindings of exchanges to exchanges.
    pub exchange_exchange_bindings: bool,
    /// Everything it said.
    pub all: Table,
}

impl ClientProperties {
    pub(super) fn new(all: Table) -> Self {
        let text = |name: &[u8]| all.get(name).and_then(Value::as_text).map(String::from).unwrap_or_default();
        let capability = |name: &str| match all.get(b"capabilities") {
            Some(Value::Map(pairs)) => pairs
                .iter()
                .find(|(key, _)| key.as_text() == Some(name))
                .is_some_and(|(_, value)| *value == Value::Boolean(true)),
            _ => false,
        };
        Self {
            connection_name: text(b"connection_name"),
            product: text(b"product"),
            version: text(b"version"),
            platform: text(b"platform"),
            consumer_cancel_notify: capability("consumer_cancel_notify"),
            connection_blocked: capability("connection.blocked"),
            authentication_failure_close: capability("authentication_failure_close"),
            basic_nack: capability("basic.nack"),
            publisher_confirms: capability("publisher_confirms"),
            exchange_exchange_bindings: capability("exchange_exchange_bindings"),
            all,
        }
    }
}
