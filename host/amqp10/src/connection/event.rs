//! What a connection tells its caller, and what it is told at first.

use crate::{
    composite::{Fields, Symbols},
    messaging::{DeliveryState, Source},
    performatives::{
        Attach, DeliveryTag, Disposition, Error, Open, ReceiverSettleMode, SenderSettleMode, Unsettled,
    },
    sasl::{self, Mechanism},
    transactions::AnyTarget,
    types::Symbol,
};
use alloc::{borrow::Cow, boxed::Box, string::String, sync::Arc, vec::Vec};

/// Up to so many bytes a message is held whole while it comes.
pub const LARGE_MESSAGE_BYTES: usize = 1024 * 1024;

/// What a connection has to know; shared by all connections of a listener.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// The container that this is.
    pub container_id: String,
    /// The largest frame that is taken and sent, in bytes; at least [`crate::frame::FRAME_BYTES_MIN`].
    pub frame_bytes_max: u32,
    /// The highest channel that is taken.
    pub channel_max: u16,
    /// The highest handle that is taken, in each session.
    pub handle_max: u32,
    /// After how much silence of the client it is taken for gone, in milliseconds; 0 is never. What is said in open is
    /// half of it, as the specification asks (section 2.4.5).
    pub idle_time_out_ms: u32,
    /// The shortest time-out that a client may ask for, in milliseconds.
    pub idle_time_out_ms_min: u32,
    /// How many transfers a session takes before its window is renewed; it is, at the latest, at the half.
    pub incoming_window: u32,
    /// The largest message that is taken, in bytes, on links that take large ones ([`Attached::large`]).
    pub message_bytes_max: u64,
    /// How many bytes of messages that have not come whole are kept for all links together.
    pub parts_bytes_max: u64,
    /// The largest that is taken on others, where it is held whole, if that is less.
    pub whole_message_bytes_max: u64,
    /// The mechanisms that are offered, those that are preferred first; at least one.
    pub mechanisms: Arc<[Mechanism]>,
    /// What is offered in open.
    pub capabilities: Vec<Symbol<'static>>,
    /// The properties of open, as strings.
    pub properties: Vec<(Symbol<'static>, String)>,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            container_id: String::from("leveret"),
            frame_bytes_max: 131_072,
            channel_max: 63,
            handle_max: 255,
            idle_time_out_ms: 60_000,
            idle_time_out_ms_min: 1000,
            incoming_window: 400,
            message_bytes_max: leveret_model::limits::MESSAGE_BODY_BYTES_MAX,
            parts_bytes_max: 4 * leveret_model::limits::MESSAGE_BODY_BYTES_MAX,
            whole_message_bytes_max: leveret_model::limits::MESSAGE_BODY_BYTES_MAX,
            mechanisms: Arc::new([Mechanism::Plain]),
            capabilities: Vec::new(),
            properties: Vec::new(),
        }
    }
}

/// What happened, in the order in which it happened.
#[derive(Debug, PartialEq)]
pub enum Event<'b> {
    /// Somebody logs in; see [`sasl::Event`] for how it is answered, with [`super::Connection::sasl`].
    Sasl(sasl::Event<'b>),
    /// The connection is to be opened. Nothing more is read until [`super::Connection::opened`] or
    /// [`super::Connection::open_refused`].
    Open(Box<Open<'b>>),
    /// A session began (begin is put).
    Began {
        /// Its channel.
        channel: u16,
    },
    /// A link is to be attached: [`super::Connection::attached`] or [`super::Connection::attach_refused`], at once or
    /// later; what comes for the link meanwhile counts.
    Attach {
        /// The session.
        channel: u16,
        /// Its role is the client's. Its handle names the link from now on.
        attach: Box<Attach<'b>>,
    },
    /// A client that receives says what it takes.
    Credit {
        /// The session.
        channel: u16,
        /// The link.
        handle: u32,
        /// How many deliveries may be sent from now on.
        credit: u32,
        /// Whether what is not sent at once is to be given up ([`super::Connection::drained`]).
        drain: bool,
        /// Whether it wants to be told the state of the link ([`super::Connection::tell`]).
        echo: bool,
        /// What else it says.
        properties: Option<Fields<'b>>,
    },
    /// A session that could send nothing more can again, and where much waited in it, so may others.
    Window {
        /// The session.
        channel: u16,
    },
    /// A message, whole.
    Delivery(Delivery<'b>),
    /// A delivery was aborted: there is nothing of it but that it took credit (section 2.6.7).
    Aborted {
        /// The session.
        channel: u16,
        /// The link.
        handle: u32,
    },
    /// A piece of a message that is not held whole.
    Part(Part<'b>),
    /// Deliveries change their state; which ones there are, the caller knows. A range may name others too.
    Disposition {
        /// The session.
        channel: u16,
        /// Its role is the client's.
        disposition: Disposition<'b>,
    },
    /// A link is detached: by the client (detach is put), or because of an error.
    Detached {
        /// The session.
        channel: u16,
        /// The link.
        handle: u32,
        /// Whether it is closed for good.
        closed: bool,
        /// What the client says went wrong.
        error: Option<Error<'b>>,
    },
    /// A session ended, with all its links: by the client (end is put), or because of an error. No link is announced
    /// as detached any more.
    Ended {
        /// Its channel.
        channel: u16,
    },
    /// The connection is over, for whatever reason; comes once. No session is announced as ended any more.
    Closed,
}

/// A message that came. Borrowed where it came in one transfer.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery<'b> {
    /// The session.
    pub channel: u16,
    /// The link.
    pub handle: u32,
    /// Its number in the session.
    pub delivery_id: u32,
    /// What the client calls it.
    pub tag: Cow<'b, [u8]>,
    /// The form of the message; [`crate::messaging::MESSAGE_FORMAT`] is the specification's.
    pub message_format: u32,
    /// Whether the client has settled it.
    pub settled: bool,
    /// When it is to be settled, if not as the link says.
    pub rcv_settle_mode: Option<ReceiverSettleMode>,
    /// Its state with the client, as in a transaction; of a message in several transfers, that of the last.
    pub state: Option<Box<DeliveryState<'b>>>,
    /// Whether its disposition may wait for others.
    pub batchable: bool,
    /// It goes on from an earlier attachment of its link (section 2.6.13): there is no message then, since whoever knows
    /// the delivery has that, and who does not is to ignore it.
    pub resumed: bool,
    /// The message, encoded.
    pub message: Cow<'b, [u8]>,
}

/// The next bytes of a message of more than [`LARGE_MESSAGE_BYTES`], on a link that takes such ([`Attached::large`]).
/// Pieces of one link follow each other; those of others may come in between.
#[derive(Clone, Debug, PartialEq)]
pub struct Part<'b> {
    /// The session.
    pub channel: u16,
    /// The link.
    pub handle: u32,
    /// The bytes. The first ones of a message are as many as are held whole, and a frame more at most.
    pub bytes: Cow<'b, [u8]>,
    /// What comes then.
    pub then: Then<'b>,
}

/// What follows a piece.
#[derive(Clone, Debug, PartialEq)]
pub enum Then<'b> {
    /// Another one, or the link ends.
    More,
    /// The message is whole; what is known of it, its bytes aside.
    End(Box<Delivery<'b>>),
    /// The client gave it up.
    Aborted,
}

/// How a link is attached from this side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attached<'a> {
    /// How the sender settles.
    pub snd_settle_mode: SenderSettleMode,
    /// When the receiver settles.
    pub rcv_settle_mode: ReceiverSettleMode,
    /// Where messages come from, as it is here.
    pub source: Option<Source<'a>>,
    /// Where they go.
    pub target: Option<AnyTarget<'a>>,
    /// Messages of up to [`ConnectionConfig::message_bytes_max`] are taken, and come in parts where they are large; else
    /// up to [`ConnectionConfig::whole_message_bytes_max`], whole.
    pub large: bool,
    /// Deliveries of an earlier attachment that are not settled here.
    pub unsettled: Option<Unsettled<'a>>,
    /// Whether there are more of them. A link on which the client sends takes none but those that go on, then.
    pub incomplete_unsettled: bool,
    /// What is offered.
    pub offered_capabilities: Symbols<'a>,
    /// More about the link.
    pub properties: Option<Fields<'a>>,
}

impl<'a> Attached<'a> {
    /// As the client asked.
    #[must_use]
    pub fn as_asked(attach: &Attach<'a>) -> Self {
        Self {
            snd_settle_mode: attach.snd_settle_mode,
            rcv_settle_mode: attach.rcv_settle_mode,
            source: attach.source,
            target: attach.target,
            large: false,
            unsettled: None,
            incomplete_unsettled: false,
            offered_capabilities: Symbols::None,
            properties: None,
        }
    }
}

/// A message that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outgoing<'a> {
    /// What it is called; no other unsettled delivery of the link is called so.
    pub tag: DeliveryTag<'a>,
    /// The form of the message.
    pub message_format: u32,
    /// Whether no outcome is waited for.
    pub settled: bool,
    /// The message, encoded, in pieces that are put one behind the other.
    pub message: &'a [&'a [u8]],
}
