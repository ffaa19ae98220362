//! Messages in a row that are the same to the guest.

use super::Entry;
use leveret_model::MessageView;

/// What is known of the message before: many in a row are often the same to the guest.
pub(super) enum Before<'m> {
    /// It is not answered yet, or more than its routing key counts.
    Other,
    /// Its answer is that of all messages with this routing key.
    Key(&'m [u8]),
    /// Its answer is that of all messages.
    Any,
}

impl<'m> Before<'m> {
    pub(super) fn remembered(entry: &Entry, message: &MessageView<'m>) -> Self {
        if entry.key_only {
            Self::Key(message.routing_key)
        } else if entry.reads_nothing {
            Self::Any
        } else {
            Self::Other
        }
    }

    #[inline]
    pub(super) fn is_like(&self, message: &MessageView<'_>) -> bool {
        match self {
            Self::Other => false,
            Self::Key(key) => *key == message.routing_key,
            Self::Any => true,
        }
    }
}
