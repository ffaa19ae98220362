//! Further routing keys of a message: it goes where it would go with each of them.

use alloc::{boxed::Box, vec::Vec};

/// What a message's headers say of further routing keys (RabbitMQ's `CC` and `BCC`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MoreKeys {
    /// The keys, in their order, without the one that the message was published with. At most
    /// [`Name::BYTES_MAX`](crate::Name::BYTES_MAX) bytes each.
    pub keys: Vec<Box<[u8]>>,
    /// The properties that receivers see, where some of the keys are to be hidden from them.
    pub shown: Option<Vec<u8>>,
}
