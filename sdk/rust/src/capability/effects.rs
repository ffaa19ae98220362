//! What a message's effects do where it proves unroutable. Needs no grant.

use super::imports::effects as host;

/// By default the effects of a message that has no destination vanish. After this call, while a message
/// is being decided, they take place as long as it is not rejected. Messages kept in
/// [`message_store`](crate::message_store) always are.
pub fn keep_if_unroutable() {
    host::keep_if_unroutable();
}
