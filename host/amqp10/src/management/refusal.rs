//! What a refusal of the broker comes to as a response: the codes are RabbitMQ's.

use super::{Kind, QueueDeclaration, Refused, Request, Status};
use alloc::string::ToString;
use leveret_model::{Refusal, refusal::Resource};

impl Refused {
    /// Why the broker refuses a request.
    #[must_use]
    pub fn of(refusal: &Refusal, request: &Request<'_>) -> Self {
        let is_binding =
            matches!(request, Request::Bind(_) | Request::Unbind { .. } | Request::GetBindings { .. });
        let status = match refusal {
            // What a binding names is a part of what is asked for, and not what is asked about.
            Refusal::NotFound { resource, name, vhost } if !is_binding => {
                let kind = match resource {
                    Resource::Queue => Kind::Queue,
                    Resource::Exchange => Kind::Exchange,
                };
                return Self::not_found(kind, name, &vhost.to_text());
            }
            Refusal::Inequivalent { argument, .. } if argument != "exclusive" => Status::Conflict,
            Refusal::InvalidArgument { .. } if is_short_lived_quorum(request) => Status::BadRequest,
            Refusal::InvalidArgument { .. } => Status::Conflict,
            Refusal::ReservedName { .. }
            | Refusal::Protected { .. }
            | Refusal::Internal { .. }
            | Refusal::NotBindable
            | Refusal::Denied { .. }
            | Refusal::TopicDenied { .. }
            | Refusal::ForeignUserId { .. }
            | Refusal::VhostNotFound { .. }
            | Refusal::VhostDenied { .. }
            | Refusal::QueueLimit { .. }
            | Refusal::VhostConnections { .. }
            | Refusal::UserConnections { .. }
            | Refusal::UserChannels { .. } => Status::Forbidden,
            Refusal::PluginFailed { .. } => Status::InternalError,
            Refusal::Parked { .. } | Refusal::PluginUnavailable { .. } | Refusal::NotKept { .. } => {
                Status::Unavailable
            }
            Refusal::NotFound { .. }
            | Refusal::NoLastQueue
            | Refusal::Inequivalent { .. }
            | Refusal::Locked { .. }
            | Refusal::SingleActiveConsumer { .. }
            | Refusal::ExclusiveUse { .. }
            | Refusal::InUse { .. }
            | Refusal::NotEmpty { .. }
            | Refusal::UnknownExchangeType { .. }
            | Refusal::ExchangeTypeNotAllowed { .. }
            | Refusal::PluginRefused { .. }
            | Refusal::UnknownDelivery { .. }
            | Refusal::ConsumerTagInUse { .. }
            | Refusal::NotImplemented { .. } => Status::BadRequest,
        };
        Self::new(status, refusal.to_string())
    }
}

/// Whether a quorum queue is to be declared that goes with its connection or the process: there is none, whatever its
/// arguments are.
fn is_short_lived_quorum(request: &Request<'_>) -> bool {
    let Request::DeclareQueue(QueueDeclaration { durable, exclusive, arguments, .. }) = request else {
        return false;
    };
    let queue_type = arguments.get(b"x-queue-type").and_then(|value| value.as_text());
    (*exclusive || !*durable) && queue_type == Some("quorum")
}
