//! Messages to exchanges of the virtual host. Grant: `emit`. What is published because of what was
//! published, more than eight times over, is dropped and counted.

use super::{OutgoingMessage, imports::emit as host};

/// Effect. Publishes a message.
pub fn publish(exchange: impl AsRef<[u8]>, routing_key: impl AsRef<[u8]>, message: &OutgoingMessage) {
    host::publish(exchange.as_ref(), routing_key.as_ref(), &message.to_wit());
}

/// Effect. Publishes the message that is being decided, as it is but for its routing key.
pub fn publish_copy(exchange: impl AsRef<[u8]>, routing_key: impl AsRef<[u8]>) {
    host::publish_copy(exchange.as_ref(), routing_key.as_ref());
}
