//! What a consumer wants of the messages of its queue.

use core::fmt;
use leveret_model::MessageView;

/// Whether a consumer wants a message. Asked under the lock of its queue, about each message once, unless it comes back:
/// it must be quick, and must not call back into the broker.
pub trait Selector: fmt::Debug + Send + Sync {
    /// Whether it wants a message, as a consumer would be given it, that was delivered before or not.
    fn wants(&self, message: &MessageView<'_>, is_redelivered: bool) -> bool;
}
