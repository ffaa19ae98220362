//! Messages whose body is far ([`leveret_model::far`]) and that stay outside of a queue: they hold on to it themselves.

use crate::store::Store;
use leveret_model::{MessageView, OwnedMessage};

/// A copy of a message, with which its body is there for as long as the copy and its clones are.
pub(crate) fn copy(message: &MessageView<'_>, store: &dyn Store) -> OwnedMessage {
    hold_on(OwnedMessage::from_view(message), store)
}

/// The same for a copy that was made without.
pub(crate) fn hold_on(message: OwnedMessage, store: &dyn Store) -> OwnedMessage {
    match message.view().far().and_then(|stub| store.far(&stub)) {
        Some(far) => message.holding(far),
        None => message,
    }
}
