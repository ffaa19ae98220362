//! What is behind a connection: a virtual host with one queue.

use leveret_broker::{
    Client, ConnectionId, MemoryAccount, QueueSpec, Vhost,
    exchange::Exchange,
    port::{Answer, Layer, Router, Wake, fixed::FixedTypes},
};
use leveret_model::{MessageView, Name, PublisherIdentity};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The queue.
pub const QUEUE: &str = "work";

/// The exchange types of nobody: what goes through the default exchange needs none.
pub struct NoTypes;

impl FixedTypes for NoTypes {
    fn answer(
        &mut self,
        _: &Arc<Exchange>,
        _: Layer,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
    ) {
        answers.extend(messages.map(|_| Answer::OPEN));
    }
}

/// Notes that there is something to do.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A virtual host with a queue, and its client.
pub struct Broker {
    /// The virtual host.
    pub vhost: Arc<Vhost>,
    /// The client.
    pub client: Client,
    /// What is told that there is something to do.
    pub waker: Arc<dyn Wake>,
}

impl Broker {
    /// Without exchange types.
    pub fn new() -> Self {
        Self::with(&mut NoTypes)
    }

    /// With these exchange types.
    pub fn with(types: &mut dyn Router) -> Self {
        let memory = Arc::new(MemoryAccount::new(1 << 30));
        let vhost = Vhost::new(Name::from_static("/"), memory, types).expect("a vhost");
        let waker: Arc<dyn Wake> = Arc::new(Bell::default());
        let id = ConnectionId(1);
        let client = Client::new(vhost.clone(), id, waker.clone());
        let queue = QueueSpec { name: Name::from_static(QUEUE), ..QueueSpec::default() };
        vhost.declare_queue(queue, id).expect("a queue");
        Self { vhost, client, waker }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

/// Who publishes.
pub fn identity(protocol: &'static str) -> PublisherIdentity {
    PublisherIdentity { user: Name::from_static("guest"), connection: String::from("127.0.0.1:1"), protocol }
}
