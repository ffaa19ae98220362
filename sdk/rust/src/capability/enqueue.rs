//! Messages straight into queues of the virtual host. Grant: `enqueue`. Where there is no queue of that
//! name, they are dropped and counted.

use super::{OutgoingMessage, imports::enqueue as host};

/// Effect. Puts a message into a queue.
pub fn enqueue(queue: impl AsRef<[u8]>, message: &OutgoingMessage) {
    host::enqueue(queue.as_ref(), &message.to_wit());
}

/// Effect. Puts the message that is being decided into a queue, as it is.
pub fn enqueue_copy(queue: impl AsRef<[u8]>) {
    host::enqueue_copy(queue.as_ref());
}
