//! Why a channel or a connection is closed: reply codes and texts (section 1.2 of the reference).
//!
//! The texts are RabbitMQ's, `NAME - explanation`, since people search for them.

use alloc::{
    format,
    string::{String, ToString},
};
use core::fmt::{self, Write};
use leveret_model::Refusal;

/// The most bytes of a reply text; longer ones end in `...`.
pub const REPLY_TEXT_BYTES_MAX: usize = 255;

macro_rules! reply_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $kind:ident;)*) => {
        /// A reply code that this side sends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ReplyCode { $( $(#[$doc])* $name = $code, )* }

        impl ReplyCode {
            /// All of them.
            pub const ALL: &[Self] = &[$( Self::$name, )*];

            /// `NOT_FOUND`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )* }
            }

            /// Whether the channel is closed, and not the whole connection.
            #[must_use]
            pub fn is_soft(self) -> bool {
                match self { $( Self::$name => reply_codes!(@$kind), )* }
            }
        }
    };
    (@soft) => { true };
    (@hard) => { false };
}

reply_codes! {
    /// The content is too large.
    ContentTooLarge = 311, "CONTENT_TOO_LARGE", soft;
    /// A mandatory message went nowhere.
    NoRoute = 312, "NO_ROUTE", soft;
    /// An immediate message found no consumer.
    NoConsumers = 313, "NO_CONSUMERS", soft;
    /// An operator closed the connection.
    ConnectionForced = 320, "CONNECTION_FORCED", hard;
    /// A virtual host that cannot be named.
    InvalidPath = 402, "INVALID_PATH", hard;
    /// Not allowed to this user, or to anybody.
    AccessRefused = 403, "ACCESS_REFUSED", soft;
    /// There is no such thing.
    NotFound = 404, "NOT_FOUND", soft;
    /// Another connection holds it.
    ResourceLocked = 405, "RESOURCE_LOCKED", soft;
    /// A precondition does not hold.
    PreconditionFailed = 406, "PRECONDITION_FAILED", soft;
    /// A frame that cannot be decoded.
    FrameError = 501, "FRAME_ERROR", hard;
    /// A field with an illegal value.
    SyntaxError = 502, "SYNTAX_ERROR", hard;
    /// A method that makes no sense here.
    CommandInvalid = 503, "COMMAND_INVALID", hard;
    /// A channel that is not open, or open already.
    ChannelError = 504, "CHANNEL_ERROR", hard;
    /// A frame that was not expected.
    UnexpectedFrame = 505, "UNEXPECTED_FRAME", hard;
    /// Too little of something.
    ResourceError = 506, "RESOURCE_ERROR", hard;
    /// Against the rules of negotiation or configuration.
    NotAllowed = 530, "NOT_ALLOWED", hard;
    /// Not built.
    NotImplemented = 540, "NOT_IMPLEMENTED", hard;
    /// The broker's fault.
    InternalError = 541, "INTERNAL_ERROR", hard;
}

impl ReplyCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// The code for a refusal of the broker.
#[must_use]
pub fn reply_code(refusal: &Refusal) -> ReplyCode {
    match refusal {
        Refusal::NotFound { .. } | Refusal::NoLastQueue => ReplyCode::NotFound,
        Refusal::Locked { .. } | Refusal::SingleActiveConsumer { .. } => ReplyCode::ResourceLocked,
        Refusal::ReservedName { .. }
        | Refusal::Protected { .. }
        | Refusal::Internal { .. }
        | Refusal::NotBindable
        | Refusal::Denied { .. }
        | Refusal::TopicDenied { .. }
        | Refusal::ExclusiveUse { .. } => ReplyCode::AccessRefused,
        Refusal::Inequivalent { .. }
        | Refusal::InUse { .. }
        | Refusal::NotEmpty { .. }
        | Refusal::UnknownExchangeType { .. }
        | Refusal::ExchangeTypeNotAllowed { .. }
        | Refusal::Parked { .. }
        | Refusal::PluginRefused { .. }
        | Refusal::PluginFailed { .. }
        | Refusal::PluginUnavailable { .. }
        | Refusal::InvalidArgument { .. }
        | Refusal::UnknownDelivery { .. }
        | Refusal::ForeignUserId { .. }
        | Refusal::QueueLimit { .. }
        // Not a hard error, 506: other channels of the connection may be those that make room.
        | Refusal::NotKept { .. } => ReplyCode::PreconditionFailed,
        Refusal::VhostNotFound { .. }
        | Refusal::VhostDenied { .. }
        | Refusal::VhostConnections { .. }
        | Refusal::UserConnections { .. }
        | Refusal::UserChannels { .. }
        | Refusal::ConsumerTagInUse { .. } => ReplyCode::NotAllowed,
        Refusal::NotImplemented { .. } => ReplyCode::NotImplemented,
    }
}

/// `NAME - explanation`, or the name alone, cut to [`REPLY_TEXT_BYTES_MAX`].
#[must_use]
pub fn reply_text(code: ReplyCode, explanation: &str) -> String {
    let mut text = if explanation.is_empty() {
        code.name().to_string()
    } else {
        format!("{} - {explanation}", code.name())
    };
    if text.len() > REPLY_TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REPLY_TEXT_BYTES_MAX - 3));
        text.push_str("...");
    }
    text
}

/// What the peer did against the protocol: the connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ReplyCode,
    pub(crate) explanation: String,
    /// Class and method that failed, or zeros.
    pub(crate) on: (u16, u16),
}

impl Failure {
    pub(crate) fn new(code: ReplyCode, explanation: impl Into<String>, on: (u16, u16)) -> Self {
        Self { code, explanation: explanation.into(), on }
    }

    /// 501: a frame that breaks the rules of frames.
    pub(crate) fn frame(kind: u8, payload: &[u8], what: &dyn fmt::Display) -> Self {
        let text = format!("type {kind}, {}: {what}", Octets(payload));
        Self::new(ReplyCode::FrameError, text, (0, 0))
    }

    /// 501: arguments that cannot be decoded.
    pub(crate) fn arguments(arguments: &[u8], on: (u16, u16)) -> Self {
        let shown = arguments.get(..REPLY_TEXT_BYTES_MAX).unwrap_or(arguments);
        Self::new(ReplyCode::FrameError, format!("cannot decode {}", Numbers(shown)), on)
    }

    /// 505: a whole frame where it does not belong.
    pub(crate) fn unexpected_frame(kind: u8, payload: &[u8]) -> Self {
        Self::new(ReplyCode::UnexpectedFrame, format!("type {kind}, {}", Octets(payload)), (0, 0))
    }

    /// 503: a method that is unknown, or that a client does not send here.
    pub(crate) fn unimplemented(on: (u16, u16)) -> Self {
        Self::new(ReplyCode::CommandInvalid, "unimplemented method", on)
    }
}

/// The first 16 octets, as RabbitMQ shows them.
struct Octets<'a>(&'a [u8]);

impl fmt::Display for Octets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (label, shown) = match self.0.get(..16) {
            Some(first) if self.0.len() > 16 => ("first 16 octets", first),
            _ => ("all octets", self.0),
        };
        write!(f, "{label} = ")?;
        match core::str::from_utf8(shown) {
            Ok(text) if !text.is_empty() && text.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
                f.write_str("<<\"")?;
                for character in text.chars() {
                    if matches!(character, '"' | '\\') {
                        f.write_char('\\')?;
                    }
                    f.write_char(character)?;
                }
                f.write_str("\">>")
            }
            _ => write!(f, "{}", Numbers(shown)),
        }
    }
}

/// Octets as numbers: `<<1,2>>`.
struct Numbers<'a>(&'a [u8]);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<<")?;
        for (index, octet) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{octet}")?;
        }
        f.write_str(">>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use leveret_model::{Name, refusal::Resource};

    #[test]
    fn soft_codes_are_those_of_the_specification() {
        let soft: Vec<u16> =
            ReplyCode::ALL.iter().filter(|code| code.is_soft()).map(|code| code.number()).collect();
        assert_eq!(soft, [311, 312, 313, 403, 404, 405, 406]);
    }

    #[test]
    fn texts_are_name_and_explanation() {
        let refusal = Refusal::NotFound {
            resource: Resource::Queue,
            name: Name::from_static("q"),
            vhost: Name::from_static("/"),
        };
        let code = reply_code(&refusal);
        let text = reply_text(code, &refusal.to_string());
        assert_eq!(text, "NOT_FOUND - no queue 'q' in vhost '/'");
        assert_eq!(reply_text(ReplyCode::InternalError, ""), "INTERNAL_ERROR");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let text = reply_text(ReplyCode::NotFound, &"ä".repeat(200));
        assert!(text.ends_with("ä..."));
        assert!(text.len() <= REPLY_TEXT_BYTES_MAX && text.len() > REPLY_TEXT_BYTES_MAX - 3);
        assert_eq!(reply_text(ReplyCode::NotFound, &"a".repeat(243)).len(), 255);
        assert!(!reply_text(ReplyCode::NotFound, &"a".repeat(243)).ends_with('.'));
    }

    #[test]
    fn octets_look_as_in_rabbitmq() {
        let failure = Failure::frame(9, b"abc", &"unknown_frame");
        assert_eq!(failure.explanation, "type 9, all octets = <<\"abc\">>: unknown_frame");
        let failure = Failure::frame(1, &[0, 10, 0, 50], &"{invalid_frame_end_marker,0}");
        assert_eq!(failure.explanation, "type 1, all octets = <<0,10,0,50>>: {invalid_frame_end_marker,0}");
        assert_eq!(Failure::unexpected_frame(8, b"").explanation, "type 8, all octets = <<>>");
        let long = Failure::unexpected_frame(3, b"0123456789abcdefgh");
        assert_eq!(long.explanation, "type 3, first 16 octets = <<\"0123456789abcdef\">>");
        assert_eq!(Failure::arguments(b"\0\xff", (50, 10)).explanation, "cannot decode <<0,255>>");
    }
}
