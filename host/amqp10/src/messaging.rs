//! Messaging (part 3): delivery states and outcomes (section 3.4), sources and targets (section 3.5), and the sections
//! of a message that have fields (section 3.2).

use crate::{
    composite::{
        Annotations, Field, Fields, Symbols, Unfit, described_list,
        table::{choices, composite, one_of},
    },
    descriptor,
    performatives::Error,
    transactions::{Declared, TransactionalState},
    types::{
        List, Symbol, Timestamp, Uuid, Value,
        write::{put, put_descriptor},
    },
};
use alloc::vec::Vec;

/// The form of messages that this part defines (section 3.2.16).
pub const MESSAGE_FORMAT: u32 = 0;
/// The priority of a message that names none (section 3.2.1).
pub const PRIORITY_DEFAULT: u8 = 4;
/// The [`Source::distribution_mode`] of messages that each goes to one receiver (section 3.5.7).
pub const MOVE: Symbol<'static> = Symbol::from_static("move");
/// The [`Source::distribution_mode`] of messages that each receiver gets (section 3.5.7).
pub const COPY: Symbol<'static> = Symbol::from_static("copy");

composite! {
    /// How far a delivery came (3.4.1).
    Received = descriptor::RECEIVED {
        /// The section that comes next.
        section_number: u32, mandatory;
        /// How many bytes of it came.
        section_offset: u64, mandatory;
    }

    /// It was taken (3.4.2).
    Accepted = descriptor::ACCEPTED {}

    /// It is of no use (3.4.3).
    Rejected<'a> = descriptor::REJECTED {
        /// Why.
        error: Error<'a>, optional;
    }

    /// It was not looked at (3.4.4).
    Released = descriptor::RELEASED {}

    /// It was not taken, and has changed (3.4.5).
    Modified<'a> = descriptor::MODIFIED {
        /// Whether it counts as an attempt.
        delivery_failed: bool, optional;
        /// Whether it is not to come here again.
        undeliverable_here: bool, optional;
        /// To be put into the message's own.
        message_annotations: Fields<'a>, optional;
    }

    /// Where messages come from (3.5.3).
    Source<'a> = descriptor::SOURCE {
        /// The node.
        address: &'a str, optional;
        /// What of the terminus lasts.
        durable: TerminusDurability, default(TerminusDurability::None);
        /// From when on the terminus expires.
        expiry_policy: TerminusExpiryPolicy, default(TerminusExpiryPolicy::SessionEnd);
        /// How long after that, in seconds.
        timeout: u32, default(0);
        /// Whether a node is to be made.
        dynamic: bool, default(false);
        /// What it is to be like.
        dynamic_node_properties: Fields<'a>, optional;
        /// Whether messages move or are copied; see [`MOVE`] and [`COPY`].
        distribution_mode: Symbol<'a>, optional;
        /// Which messages, as described values by name.
        filter: Fields<'a>, optional;
        /// What happens to a delivery that is settled without an outcome.
        default_outcome: Outcome<'a>, optional;
        /// The outcomes that there may be, by their descriptors' names; none named: all.
        outcomes: Symbols<'a>, default(Symbols::None);
        /// What the source can do besides.
        capabilities: Symbols<'a>, default(Symbols::None);
    }

    /// Where messages go (3.5.4).
    Target<'a> = descriptor::TARGET {
        /// The node; none: each message says where.
        address: &'a str, optional;
        /// What of the terminus lasts.
        durable: TerminusDurability, default(TerminusDurability::None);
        /// From when on the terminus expires.
        expiry_policy: TerminusExpiryPolicy, default(TerminusExpiryPolicy::SessionEnd);
        /// How long after that, in seconds.
        timeout: u32, default(0);
        /// Whether a node is to be made.
        dynamic: bool, default(false);
        /// What it is to be like.
        dynamic_node_properties: Fields<'a>, optional;
        /// What the target can do besides.
        capabilities: Symbols<'a>, default(Symbols::None);
    }

    /// How a message is to be transferred (3.2.1).
    Header = descriptor::HEADER {
        /// Whether it is to outlive the nodes that it passes; absent is no.
        durable: bool, optional;
        /// Greater ones go first; absent is [`PRIORITY_DEFAULT`].
        priority: u8, optional;
        /// How long it is of use, in milliseconds.
        ttl: u32, optional;
        /// Whether nobody had it before.
        first_acquirer: bool, optional;
        /// How many attempts failed.
        delivery_count: u32, optional;
    }

    /// What the message is (3.2.4); part of the bare message.
    Properties<'a> = descriptor::PROPERTIES {
        /// The message among all others.
        message_id: MessageId<'a>, optional;
        /// The user who made it.
        user_id: &'a [u8], optional;
        /// The node that it is for.
        to: &'a str, optional;
        /// What it is about.
        subject: &'a str, optional;
        /// The node for answers.
        reply_to: &'a str, optional;
        /// The message that it is about.
        correlation_id: MessageId<'a>, optional;
        /// The type of the body.
        content_type: Symbol<'a>, optional;
        /// How the body is encoded besides.
        content_encoding: Symbol<'a>, optional;
        /// When it is of no more use.
        absolute_expiry_time: Timestamp, optional;
        /// When it was made.
        creation_time: Timestamp, optional;
        /// The group that it belongs to.
        group_id: &'a str, optional;
        /// Its place in the group.
        group_sequence: u32, optional;
        /// The group for answers.
        reply_to_group_id: &'a str, optional;
    }
}

one_of! {
    /// What becomes of a delivery (section 3.4).
    Outcome<'a> {
        /// It was taken.
        Accepted(Accepted),
        /// It is of no use.
        Rejected(Rejected<'a>),
        /// It was not looked at.
        Released(Released),
        /// It was not taken, and has changed.
        Modified(Modified<'a>),
        /// A transaction was declared.
        Declared(Declared<'a>),
    }

    /// Where a delivery is (section 3.4).
    DeliveryState<'a> {
        /// A part of it came.
        Received(Received),
        /// It was taken.
        Accepted(Accepted),
        /// It is of no use.
        Rejected(Rejected<'a>),
        /// It was not looked at.
        Released(Released),
        /// It was not taken, and has changed.
        Modified(Modified<'a>),
        /// A transaction was declared.
        Declared(Declared<'a>),
        /// It is part of a transaction.
        Transactional(TransactionalState<'a>),
    }
}

impl<'a> DeliveryState<'a> {
    /// The outcome, if the state is one.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome<'a>> {
        Some(match *self {
            Self::Accepted(outcome) => outcome.into(),
            Self::Rejected(outcome) => outcome.into(),
            Self::Released(outcome) => outcome.into(),
            Self::Modified(outcome) => outcome.into(),
            Self::Declared(outcome) => outcome.into(),
            Self::Received(_) | Self::Transactional(_) => return None,
        })
    }
}

impl<'a> From<Outcome<'a>> for DeliveryState<'a> {
    fn from(outcome: Outcome<'a>) -> Self {
        match outcome {
            Outcome::Accepted(outcome) => outcome.into(),
            Outcome::Rejected(outcome) => outcome.into(),
            Outcome::Released(outcome) => outcome.into(),
            Outcome::Modified(outcome) => outcome.into(),
            Outcome::Declared(outcome) => outcome.into(),
        }
    }
}

choices! {
    /// What of a terminus lasts (3.5.5).
    TerminusDurability: Uint {
        /// Nothing.
        #[default]
        None = 0,
        /// That it is there, and how it is set.
        Configuration = 1,
        /// That and its unsettled deliveries.
        UnsettledState = 2,
    }

    /// From when on a terminus expires (3.5.6).
    TerminusExpiryPolicy: Symbol {
        /// When its link is detached.
        LinkDetach = "link-detach",
        /// When its last session ends.
        #[default]
        SessionEnd = "session-end",
        /// When its last connection is closed.
        ConnectionClose = "connection-close",
        /// Never.
        Never = "never",
    }
}

/// When a dynamic node goes (3.5.9): the value of `lifetime-policy` in its properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimePolicy {
    /// When the link that made it is closed (3.5.10).
    DeleteOnClose,
    /// When no link uses it (3.5.11).
    DeleteOnNoLinks,
    /// When there is no message in it (3.5.12).
    DeleteOnNoMessages,
    /// When neither is (3.5.13).
    DeleteOnNoLinksOrMessages,
}

impl<'a> Field<'a> for LifetimePolicy {
    fn from_value(value: Value<'a>) -> Result<Self, Unfit> {
        Ok(match described_list(value) {
            Some((_, list)) if !list.is_empty() => return Err(Unfit::Value),
            Some((descriptor::DELETE_ON_CLOSE, _)) => Self::DeleteOnClose,
            Some((descriptor::DELETE_ON_NO_LINKS, _)) => Self::DeleteOnNoLinks,
            Some((descriptor::DELETE_ON_NO_MESSAGES, _)) => Self::DeleteOnNoMessages,
            Some((descriptor::DELETE_ON_NO_LINKS_OR_MESSAGES, _)) => Self::DeleteOnNoLinksOrMessages,
            _ => return Err(Unfit::Type),
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        let descriptor = match self {
            Self::DeleteOnClose => descriptor::DELETE_ON_CLOSE,
            Self::DeleteOnNoLinks => descriptor::DELETE_ON_NO_LINKS,
            Self::DeleteOnNoMessages => descriptor::DELETE_ON_NO_MESSAGES,
            Self::DeleteOnNoLinksOrMessages => descriptor::DELETE_ON_NO_LINKS_OR_MESSAGES,
        };
        put_descriptor(out, descriptor);
        put(out, List::EMPTY);
    }
}

/// What a message is called (3.2.11 to 3.2.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageId<'a> {
    /// A number.
    Ulong(u64),
    /// A UUID.
    Uuid(Uuid),
    /// Bytes.
    Binary(&'a [u8]),
    /// Text.
    String(&'a str),
}

/// A number of another type than the specification's: there are clients that leave the type to their language, and
/// brokers that take it.
fn number(value: Value<'_>) -> Option<u64> {
    match value {
        Value::Ubyte(number) => Some(number.into()),
        Value::Ushort(number) => Some(number.into()),
        Value::Uint(number) => Some(number.into()),
        Value::Byte(number) => u64::try_from(number).ok(),
        Value::Short(number) => u64::try_from(number).ok(),
        Value::Int(number) => u64::try_from(number).ok(),
        Value::Long(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

impl<'a> Field<'a> for MessageId<'a> {
    fn from_value(value: Value<'a>) -> Result<Self, Unfit> {
        Ok(match value {
            Value::Ulong(number) => Self::Ulong(number),
            Value::Uuid(uuid) => Self::Uuid(uuid),
            Value::Binary(bytes) => Self::Binary(bytes),
            Value::String(text) => Self::String(text),
            other => Self::Ulong(number(other).ok_or(Unfit::Type)?),
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Ulong(number) => put(out, number),
            Self::Uuid(uuid) => put(out, uuid),
            Self::Binary(bytes) => put(out, bytes),
            Self::String(text) => put(out, text),
        }
    }
}

impl<'a> Modified<'a> {
    /// The annotations to be put into the message.
    #[must_use]
    pub fn annotations(&self) -> Annotations<'a> {
        self.message_annotations.and_then(|fields| Annotations::new(fields.map())).unwrap_or_default()
    }
}
