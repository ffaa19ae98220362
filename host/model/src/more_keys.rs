//! Further routing keys of a message: it goes where it would go with each of them.

use alloc::{boxed::Box, vec::Vec};
use core::iter;

/// What a message's headers say of further routing keys (RabbitMQ's `CC` and `BCC`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MoreKeys {
    /// The keys, in their order, without the one that the message was published with. At most
    /// [`Name::BYTES_MAX`](crate::Name::BYTES_MAX) bytes each.
    pub keys: Vec<Box<[u8]>>,
    /// How many of the keys, the first ones, are told to receivers.
    pub told: usize,
    /// There is something that receivers are not to see: the message lies in queues in [`Form::hiding`](crate::Form::hiding).
    pub hides: bool,
}

impl MoreKeys {
    /// A message's routing key, and those of its further ones that receivers are told.
    pub fn told_after<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        iter::once(key).chain(self.keys.iter().take(self.told).map(|key| &**key))
    }
}
