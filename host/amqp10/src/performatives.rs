//! The performatives (section 2.7) and the types of their fields (section 2.8).

use crate::{
    composite::{
        Composite, Field, Fields, Symbols, Unfit,
        table::{choices, composite, one_of},
    },
    condition::Condition,
    descriptor,
    messaging::{DeliveryState, Source},
    transactions::AnyTarget,
    types::{DecodeError, Map, Reader, Symbol, Value, write::put},
};
use alloc::vec::Vec;

/// The most bytes that a delivery-tag may have (2.8.7).
pub const DELIVERY_TAG_BYTES_MAX: usize = 32;

composite! {
    /// Negotiates the connection (2.7.1).
    Open<'a> = descriptor::OPEN {
        /// Who sends it.
        container_id: &'a str, mandatory;
        /// Whom it is sent to.
        hostname: &'a str, optional;
        /// The largest frame that its sender takes, in bytes.
        max_frame_size: u32, default(u32::MAX);
        /// The highest channel that its sender takes.
        channel_max: u16, default(u16::MAX);
        /// After how many milliseconds of silence its sender gives up; none or 0 is never.
        idle_time_out: u32, optional;
        /// Languages of texts that its sender sends.
        outgoing_locales: Symbols<'a>, default(Symbols::None);
        /// Languages of texts that its sender takes, the preferred ones first.
        incoming_locales: Symbols<'a>, default(Symbols::None);
        /// What its sender can do besides.
        offered_capabilities: Symbols<'a>, default(Symbols::None);
        /// What its sender would do if the other can.
        desired_capabilities: Symbols<'a>, default(Symbols::None);
        /// More about its sender.
        properties: Fields<'a>, optional;
    }

    /// Begins a session on a channel (2.7.2).
    Begin<'a> = descriptor::BEGIN {
        /// The channel of the begin that it answers.
        remote_channel: u16, optional;
        /// The transfer-id of the next transfer that its sender sends.
        next_outgoing_id: u32, mandatory;
        /// How many transfers its sender takes.
        incoming_window: u32, mandatory;
        /// How many transfers its sender may send.
        outgoing_window: u32, mandatory;
        /// The highest handle that its sender takes.
        handle_max: u32, default(u32::MAX);
        /// What its sender can do besides.
        offered_capabilities: Symbols<'a>, default(Symbols::None);
        /// What its sender would do if the other can.
        desired_capabilities: Symbols<'a>, default(Symbols::None);
        /// More about the session.
        properties: Fields<'a>, optional;
    }

    /// Attaches a link to a session (2.7.3).
    Attach<'a> = descriptor::ATTACH {
        /// The link.
        name: &'a str, mandatory;
        /// What its sender calls the link from now on.
        handle: u32, mandatory;
        /// Which end its sender is.
        role: Role, mandatory;
        /// How the sending end settles.
        snd_settle_mode: SenderSettleMode, default(SenderSettleMode::Mixed);
        /// When the receiving end settles.
        rcv_settle_mode: ReceiverSettleMode, default(ReceiverSettleMode::First);
        /// Where messages come from.
        source: Source<'a>, optional;
        /// Where they go.
        target: AnyTarget<'a>, optional;
        /// Deliveries that its sender has not settled.
        unsettled: Unsettled<'a>, optional;
        /// Whether they did not all fit the frame.
        incomplete_unsettled: bool, default(false);
        /// Where the sending end begins to count deliveries.
        initial_delivery_count: u32, optional;
        /// The largest message that its sender takes, in bytes; none or 0 is any.
        max_message_size: u64, optional;
        /// What its sender can do besides.
        offered_capabilities: Symbols<'a>, default(Symbols::None);
        /// What its sender would do if the other can.
        desired_capabilities: Symbols<'a>, default(Symbols::None);
        /// More about the link.
        properties: Fields<'a>, optional;
    }

    /// The state of a session's windows, and of a link's credit (2.7.4).
    Flow<'a> = descriptor::FLOW {
        /// The transfer-id that its sender expects next.
        next_incoming_id: u32, optional;
        /// How many transfers its sender takes.
        incoming_window: u32, mandatory;
        /// The transfer-id of the next transfer that its sender sends.
        next_outgoing_id: u32, mandatory;
        /// How many transfers its sender may send.
        outgoing_window: u32, mandatory;
        /// The link that the rest is about, as its sender calls it.
        handle: u32, optional;
        /// How many deliveries were sent on the link.
        delivery_count: u32, optional;
        /// How many more may be sent.
        link_credit: u32, optional;
        /// How many more there are to send.
        available: u32, optional;
        /// Whether credit that is not used at once is to go.
        drain: bool, default(false);
        /// Whether an answer is wanted.
        echo: bool, default(false);
        /// More about the link's state.
        properties: Fields<'a>, optional;
    }

    /// A message, or a part of one; its bytes follow in the frame (2.7.5).
    Transfer<'a> = descriptor::TRANSFER {
        /// The link.
        handle: u32, mandatory;
        /// The delivery; may be absent where a delivery goes on.
        delivery_id: u32, optional;
        /// What the sender calls the delivery; likewise.
        delivery_tag: DeliveryTag<'a>, optional;
        /// The form of the message; likewise.
        message_format: u32, optional;
        /// Whether the sender has settled it.
        settled: bool, optional;
        /// Whether there is more of the message to come.
        more: bool, default(false);
        /// When the receiver is to settle, if not as the link says.
        rcv_settle_mode: ReceiverSettleMode, optional;
        /// The state of the delivery with the sender.
        state: DeliveryState<'a>, optional;
        /// Whether a delivery of an earlier attachment goes on.
        resume: bool, default(false);
        /// Whether what came of the message is to be forgotten.
        aborted: bool, default(false);
        /// Whether its disposition may wait for others.
        batchable: bool, default(false);
    }

    /// The state of deliveries (2.7.6).
    Disposition<'a> = descriptor::DISPOSITION {
        /// Which end its sender is.
        role: Role, mandatory;
        /// The first delivery.
        first: u32, mandatory;
        /// The last one; `first` if it is absent.
        last: u32, optional;
        /// Whether its sender has settled them.
        settled: bool, default(false);
        /// Their state.
        state: DeliveryState<'a>, optional;
        /// Whether the answer may wait for others.
        batchable: bool, default(false);
    }

    /// Detaches a link (2.7.7).
    Detach<'a> = descriptor::DETACH {
        /// The link, as its sender calls it.
        handle: u32, mandatory;
        /// Whether its sender has closed the link for good.
        closed: bool, default(false);
        /// Why, if something went wrong.
        error: Error<'a>, optional;
    }

    /// Ends a session (2.7.8).
    End<'a> = descriptor::END {
        /// Why, if something went wrong.
        error: Error<'a>, optional;
    }

    /// Closes the connection (2.7.9).
    Close<'a> = descriptor::CLOSE {
        /// Why, if something went wrong.
        error: Error<'a>, optional;
    }

    /// What went wrong (2.8.14).
    Error<'a> = descriptor::ERROR {
        /// The condition; those of the specification are in [`Condition`].
        condition: Symbol<'a>, mandatory;
        /// For people to read.
        description: &'a str, optional;
        /// More about it.
        info: Fields<'a>, optional;
    }
}

impl<'a> Error<'a> {
    /// Of a condition, with a text for people.
    #[must_use]
    pub fn new(condition: Condition, description: &'a str) -> Self {
        Self { condition: condition.symbol(), description: Some(description), info: None }
    }
}

one_of! {
    /// What a frame of AMQP says.
    #[allow(clippy::large_enum_variant, reason = "attach is rare, and a box would allocate on the way of it")]
    Performative<'a> {
        /// The connection is negotiated.
        Open(Open<'a>),
        /// A session begins.
        Begin(Begin<'a>),
        /// A link is attached.
        Attach(Attach<'a>),
        /// Windows and credit.
        Flow(Flow<'a>),
        /// A message or a part of one.
        Transfer(Transfer<'a>),
        /// Deliveries change their state.
        Disposition(Disposition<'a>),
        /// A link is detached.
        Detach(Detach<'a>),
        /// A session ends.
        End(End<'a>),
        /// The connection ends.
        Close(Close<'a>),
    }
}

impl<'a> Transfer<'a> {
    /// Of a frame's body that is one written as most write it, with the payload that follows it; `None` if it is anything
    /// else, or makes no sense: [`Performative::from_body`] says what it is.
    #[inline]
    pub(crate) fn of_body(body: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut reader = Reader::new(body);
        let (descriptor::TRANSFER, list) = reader.small_list()? else { return None };
        Some((Self::from_list(list).ok()?, reader.rest()))
    }
}

impl<'a> Performative<'a> {
    /// Of a frame's body, with the payload that follows a transfer.
    ///
    /// # Errors
    /// If it is no performative, if a field is not what it should be, or if bytes follow another one than a transfer.
    #[inline]
    pub fn from_body(body: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        let mut reader = Reader::new(body);
        let performative = Self::decode(&mut reader)?;
        if !reader.is_empty() && !matches!(performative, Self::Transfer(_)) {
            return Err(DecodeError::Trailing(performative.name()));
        }
        Ok((performative, reader.rest()))
    }
}

choices! {
    /// An end of a link (2.8.1).
    Role: Boolean {
        /// Messages go out.
        #[default]
        Sender = false,
        /// Messages come in.
        Receiver = true,
    }

    /// How a sender settles (2.8.2).
    SenderSettleMode: Ubyte {
        /// It waits for the receiver's outcome.
        Unsettled = 0,
        /// When it sends.
        Settled = 1,
        /// As each transfer says.
        #[default]
        Mixed = 2,
    }

    /// When a receiver settles (2.8.3).
    ReceiverSettleMode: Ubyte {
        /// At once.
        #[default]
        First = 0,
        /// After the sender did.
        Second = 1,
    }
}

/// What a sender calls a delivery (2.8.7): at most [`DELIVERY_TAG_BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryTag<'a>(&'a [u8]);

impl<'a> DeliveryTag<'a> {
    /// `None` if it is too long.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() <= DELIVERY_TAG_BYTES_MAX).then_some(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Field<'a> for DeliveryTag<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, Unfit> {
        Self::new(<&[u8]>::from_value(value)?).ok_or(Unfit::Value)
    }

    #[inline]
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let mut ahead = *reader;
        let tag = Self::new(ahead.small_binary()?)?;
        *reader = ahead;
        Some(tag)
    }

    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
}

/// Deliveries that one end of a link has not settled, with their states (2.7.3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unsettled<'a>(Map<'a>);

impl<'a> Unsettled<'a> {
    /// Of delivery-tags and states.
    ///
    /// # Errors
    /// If a key is no delivery-tag, or a value neither null nor a delivery state.
    pub fn new(map: Map<'a>) -> Result<Self, Unfit> {
        map.iter().try_for_each(|(tag, state)| {
            DeliveryTag::from_value(tag)?;
            optional_state(state).map(drop)
        })?;
        Ok(Self(map))
    }

    /// Tags and states, in order; no state where nothing was said yet.
    pub fn iter(&self) -> impl Iterator<Item = (DeliveryTag<'a>, Option<DeliveryState<'a>>)> + use<'a> {
        self.0.iter().filter_map(|(tag, state)| {
            Some((DeliveryTag::from_value(tag).ok()?, optional_state(state).ok()?))
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn optional_state(state: Value<'_>) -> Result<Option<DeliveryState<'_>>, Unfit> {
    if state == Value::Null { Ok(None) } else { DeliveryState::from_value(state).map(Some) }
}

impl<'a> Field<'a> for Unsettled<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, Unfit> {
        let Value::Map(map) = value else { return Err(Unfit::Type) };
        Self::new(map)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put(out, self.0);
    }
}
