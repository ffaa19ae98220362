//! Why something is refused: what the broker says, as a condition of this protocol. Nothing else turns one into the
//! other.

use crate::condition::Condition;
use leveret_model::Refusal;

/// How far a refusal goes where a link is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The link is not attached.
    Link,
    /// The session ends, as in RabbitMQ where a permission is missing.
    Session,
}

/// The condition for a refusal.
#[must_use]
pub fn condition(refusal: &Refusal) -> Condition {
    match refusal {
        Refusal::NotFound { .. } | Refusal::NoLastQueue | Refusal::VhostNotFound { .. } => {
            Condition::NotFound
        }
        Refusal::Locked { .. } | Refusal::SingleActiveConsumer { .. } => Condition::ResourceLocked,
        Refusal::ReservedName { .. }
        | Refusal::Protected { .. }
        | Refusal::Internal { .. }
        | Refusal::NotBindable
        | Refusal::Denied { .. }
        | Refusal::ExclusiveUse { .. }
        | Refusal::TopicDenied { .. }
        | Refusal::ForeignUserId { .. }
        | Refusal::VhostDenied { .. } => Condition::UnauthorizedAccess,
        Refusal::InvalidArgument { .. } => Condition::InvalidField,
        Refusal::Inequivalent { .. }
        | Refusal::InUse { .. }
        | Refusal::NotEmpty { .. }
        | Refusal::UnknownExchangeType { .. }
        | Refusal::ExchangeTypeNotAllowed { .. }
        | Refusal::Parked { .. }
        | Refusal::PluginRefused { .. }
        | Refusal::PluginFailed { .. }
        | Refusal::PluginUnavailable { .. }
        | Refusal::UnknownDelivery { .. }
        | Refusal::ConsumerTagInUse { .. }
        | Refusal::NotKept { .. } => Condition::PreconditionFailed,
        Refusal::QueueLimit { .. }
        | Refusal::VhostConnections { .. }
        | Refusal::UserConnections { .. }
        | Refusal::UserChannels { .. } => Condition::ResourceLimitExceeded,
        Refusal::NotImplemented { .. } => Condition::NotImplemented,
    }
}

/// What ends because of a refusal where a link is attached.
#[must_use]
pub fn extent(refusal: &Refusal) -> Extent {
    match refusal {
        Refusal::Denied { .. } | Refusal::TopicDenied { .. } => Extent::Session,
        _ => Extent::Link,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_model::Name;

    #[test]
    fn refusals_have_the_conditions_of_rabbitmq() {
        let (queue, vhost) = (Name::from_static("q"), Name::from_static("/"));
        let locked = Refusal::Locked { queue: queue.clone(), vhost: vhost.clone() };
        assert_eq!((condition(&locked), extent(&locked)), (Condition::ResourceLocked, Extent::Link));
        let limit = Refusal::UserChannels { user: queue, limit: 1 };
        assert_eq!(condition(&limit), Condition::ResourceLimitExceeded);
        assert_eq!(condition(&Refusal::VhostNotFound { vhost }), Condition::NotFound);
    }
}
