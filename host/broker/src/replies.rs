//! Replies straight to the channel that asked: RabbitMQ's direct reply-to.
//!
//! *In:* a consumer of the name [`REPLY_TO`], without acknowledgements, one a channel. *Out:* a queue that nobody
//! declared and whose name nobody can guess. The channel's requests carry that name
//! ([`Client::reply_queue`](crate::Client::reply_queue)), and who replies publishes to it by the default exchange.
//!
//! *Invariants:* it is in no list and counts against no limit; it cannot be bound, got from, purged or deleted; it
//! goes with its consumer. What is published to such a name later is dropped, not returned, as in RabbitMQ.

use crate::{
    names,
    publish::Published,
    queue::{Queue, QueueId, QueueSpec, QueueStatus},
    topology,
    vhost::Vhost,
};
use alloc::{format, sync::Arc};
use leveret_model::{Name, Refusal};

/// What a channel consumes that wants replies, and what its requests say in `reply-to`.
pub const REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";
/// What names of the queues begin with.
const PREFIX: &str = "amq.rabbitmq.reply-to.";

/// Whether a name is one of a queue for replies, there or not.
pub(crate) fn is_name(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// What becomes of a message to a queue that is not there.
pub(crate) fn to_no_queue(name: &[u8]) -> Published {
    let is_made = name.strip_prefix(PREFIX.as_bytes()).is_some_and(names::is_made_key);
    if is_made { Published::Dropped } else { Published::Unroutable }
}

impl Queue {
    /// Whether it is for the replies to a channel.
    pub(crate) fn is_for_replies(&self) -> bool {
        is_name(self.name())
    }

    /// Why nobody gets from it but the channel whose it is.
    pub(crate) fn is_of_a_channel(&self) -> Refusal {
        let (queue, vhost) = (self.name(), self.vhost());
        let text = format!("only creator channel may consume from queue '{queue}' in vhost '{vhost}'");
        Refusal::InvalidArgument { text }
    }
}

impl Vhost {
    /// What is told to whoever declares a queue for replies, passively or not: whether its consumer is there. `None`
    /// for other names.
    ///
    /// # Errors
    /// The consumer is gone, or never was.
    pub fn check_replies(&self, name: &[u8]) -> Result<Option<QueueStatus>, Refusal> {
        let status = |name| Ok(Some(QueueStatus { name, messages: 0, consumers: 1 }));
        if name == REPLY_TO {
            return status(Name::cut(name));
        }
        if !is_name(name) {
            return Ok(None);
        }
        self.replies(name).map_or_else(|| Err(self.no_queue(name)), |queue| status(queue.name().clone()))
    }

    /// The queue for replies of that name.
    pub(crate) fn replies(&self, name: &[u8]) -> Option<Arc<Queue>> {
        if !is_name(name) {
            return None;
        }
        self.replies.read().get(name).filter(|queue| !queue.is_deleted()).cloned()
    }

    /// Makes a queue for the replies to a channel. It goes with its consumer.
    pub(crate) fn make_replies(&self) -> Arc<Queue> {
        let spec = QueueSpec { name: names::made(PREFIX), auto_delete: true, ..QueueSpec::default() };
        let id = QueueId(topology::next_id());
        let queue = Arc::new(Queue::new(id, self.name().clone(), spec, None, self.charged(), (None, None)));
        self.replies.write().insert(queue.name().clone(), queue.clone());
        queue
    }

    /// Forgets a queue whose consumer is gone.
    pub(crate) fn replies_gone(&self, queue: &Queue) {
        self.replies.write().remove(queue.name().as_bytes());
    }
}
