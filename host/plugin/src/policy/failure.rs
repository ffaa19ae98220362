//! What becomes of a message when the plugin that should decide about it cannot.

use leveret_model::Name;
use std::fmt;

/// What becomes of a message when the plugin that should decide about it cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The publish is refused.
    #[default]
    Reject,
    /// As if no binding matched: alternate exchange and mandatory return follow.
    Unroutable,
    /// Another exchange type is asked, with the same arguments and bindings. Exchange types only.
    Fallback(Name),
    /// The message goes on as it is. Interceptors only.
    Bypass,
    /// The message is dead-lettered. Where messages leave a queue only.
    DeadLetter,
}

/// Where a plugin is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// It is an exchange type.
    ExchangeType,
    /// It sees what is published.
    OnPublish,
    /// It sees what is delivered.
    OnDeliver,
    /// It sees what is dead-lettered.
    OnDeadLetter,
}

impl FailurePolicy {
    /// Whether it makes sense where the plugin is attached.
    #[must_use]
    pub const fn suits(&self, attachment: Attachment) -> bool {
        match self {
            Self::Reject => true,
            Self::Unroutable => matches!(attachment, Attachment::ExchangeType | Attachment::OnPublish),
            Self::Fallback(_) => matches!(attachment, Attachment::ExchangeType),
            Self::Bypass => !matches!(attachment, Attachment::ExchangeType),
            Self::DeadLetter => matches!(attachment, Attachment::OnDeliver | Attachment::OnDeadLetter),
        }
    }
}

/// As in the configuration.
impl fmt::Display for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reject => f.write_str("reject"),
            Self::Unroutable => f.write_str("unroutable"),
            Self::Fallback(type_name) => write!(f, "fallback to '{type_name}'"),
            Self::Bypass => f.write_str("bypass"),
            Self::DeadLetter => f.write_str("dead-letter"),
        }
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExchangeType => "an exchange type",
            Self::OnPublish => "an interceptor on publish",
            Self::OnDeliver => "an interceptor on deliver",
            Self::OnDeadLetter => "an interceptor on dead-letter",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interceptors_bypass_and_exchange_types_fall_back() {
        let fallback = FailurePolicy::Fallback(Name::from_static("direct"));
        for (policy, suits) in [
            (FailurePolicy::Reject, [true, true, true, true]),
            (FailurePolicy::Unroutable, [true, true, false, false]),
            (fallback, [true, false, false, false]),
            (FailurePolicy::Bypass, [false, true, true, true]),
            (FailurePolicy::DeadLetter, [false, false, true, true]),
        ] {
            let attachments = [
                Attachment::ExchangeType,
                Attachment::OnPublish,
                Attachment::OnDeliver,
                Attachment::OnDeadLetter,
            ];
            assert_eq!(attachments.map(|attachment| policy.suits(attachment)), suits, "{policy}");
        }
        assert_eq!(FailurePolicy::default(), FailurePolicy::Reject);
    }
}
