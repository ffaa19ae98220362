//! Error conditions by name (sections 2.8.15 to 2.8.18 and 4.5.8).

use crate::types::Symbol;

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// An error condition of the specification.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Condition {
            $( $(#[$doc])* $name, )*
        }

        impl Condition {
            /// All of them.
            pub const ALL: &[Self] = &[ $( Self::$name, )* ];

            /// As it stands in an error.
            #[must_use]
            pub const fn symbol(self) -> Symbol<'static> {
                match self {
                    $( Self::$name => const { Symbol::from_static($text) }, )*
                }
            }
        }
    };
}

conditions! {
    /// Something went wrong inside.
    InternalError = "amqp:internal-error",
    /// There is nothing at that address.
    NotFound = "amqp:not-found",
    /// It is not allowed to whoever asked.
    UnauthorizedAccess = "amqp:unauthorized-access",
    /// Bytes make no sense.
    DecodeError = "amqp:decode-error",
    /// Too much of something.
    ResourceLimitExceeded = "amqp:resource-limit-exceeded",
    /// It is not allowed by settings.
    NotAllowed = "amqp:not-allowed",
    /// A field of a performative has a value that it must not have.
    InvalidField = "amqp:invalid-field",
    /// It is not done here.
    NotImplemented = "amqp:not-implemented",
    /// Somebody else has it.
    ResourceLocked = "amqp:resource-locked",
    /// Something has to be so first, and is not.
    PreconditionFailed = "amqp:precondition-failed",
    /// What was used is gone.
    ResourceDeleted = "amqp:resource-deleted",
    /// It does not go with the state.
    IllegalState = "amqp:illegal-state",
    /// What is to be sent does not fit a frame.
    FrameSizeTooSmall = "amqp:frame-size-too-small",
    /// An operator closed the connection.
    ConnectionForced = "amqp:connection:forced",
    /// There is no frame in the bytes.
    FramingError = "amqp:connection:framing-error",
    /// The connection is to be made elsewhere.
    ConnectionRedirect = "amqp:connection:redirect",
    /// A transfer beyond the session's window.
    WindowViolation = "amqp:session:window-violation",
    /// Something came for a link that was detached with an error.
    ErrantLink = "amqp:session:errant-link",
    /// An attach with a handle that is in use.
    HandleInUse = "amqp:session:handle-in-use",
    /// A frame with a handle that is not in use.
    UnattachedHandle = "amqp:session:unattached-handle",
    /// An operator detached the link.
    DetachForced = "amqp:link:detach-forced",
    /// A transfer beyond the link's credit.
    TransferLimitExceeded = "amqp:link:transfer-limit-exceeded",
    /// A message larger than max-message-size.
    MessageSizeExceeded = "amqp:link:message-size-exceeded",
    /// The address is to be attached elsewhere.
    LinkRedirect = "amqp:link:redirect",
    /// The link was attached elsewhere.
    Stolen = "amqp:link:stolen",
    /// There is no such transaction.
    TransactionUnknownId = "amqp:transaction:unknown-id",
    /// The transaction was rolled back.
    TransactionRollback = "amqp:transaction:rollback",
    /// The transaction took too long.
    TransactionTimeout = "amqp:transaction:timeout",
}
