//! One connection that publishes to a queue and consumes from it, driven by bytes: what the broker does between a read
//! of a socket and a write.

use crate::steps::BATCH;
use leveret_amqp091::{Event, FORM, Method, Session, SessionConfig, client};
use leveret_broker::{
    Client, ConnectionId, ConsumeSpec, Delivery, MemoryAccount, Publish, Published, Publisher, QueueSpec,
    Settle, Sink, Vhost,
    exchange::{Binding, Exchange},
    port::{Answer, Deed, Due, Fired, Layer, Routed, Router, Wake},
};
use leveret_model::{MessageView, Name, OwnedMessage, PublisherIdentity, Refusal, Table};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The exchange types of nobody: what goes through the default exchange needs none.
struct NoTypes;

impl Router for NoTypes {
    fn check_type(&mut self, _: &Name, _: &Name, _: &Name) -> Result<(), Refusal> {
        Ok(())
    }
    fn open(&mut self, _: &Arc<Exchange>) -> Result<(), Refusal> {
        Ok(())
    }
    fn bind(&mut self, _: &Arc<Exchange>, _: &Binding) -> Result<(), Refusal> {
        Ok(())
    }
    fn bound(&mut self, _: &Arc<Exchange>, _: &Arc<Binding>, _: &mut Vec<Deed>) -> Vec<Arc<OwnedMessage>> {
        Vec::new()
    }
    fn unbound(&mut self, _: &Arc<Exchange>, _: &Arc<Binding>, _: &mut Vec<Deed>) {}
    fn route(
        &mut self,
        _: &Arc<Exchange>,
        _: Layer,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
        _: &Arc<dyn Wake>,
    ) -> Routed {
        answers.extend(messages.map(|_| Answer::OPEN));
        Routed::Ready
    }
    fn timer(
        &mut self,
        _: &Arc<Exchange>,
        _: Layer,
        _: Due<'_>,
        _: &Arc<dyn Wake>,
        _: &mut Vec<Deed>,
    ) -> Fired {
        Fired::Done
    }
    fn now_ms(&self) -> u64 {
        0
    }
    fn closed(&mut self, _: &Exchange) {}
}

/// Notes that there is something to do.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Encodes deliveries, as the broker does.
struct Output<'a>(&'a mut Session);

impl Sink for Output<'_> {
    fn has_room(&self) -> bool {
        true
    }
    fn deliver(&mut self, delivery: Delivery<'_>) {
        self.0.deliver(
            delivery.channel,
            delivery.consumer_tag,
            delivery.delivery_tag,
            delivery.redelivered,
            &delivery.message,
        );
    }
}

/// A broker with one queue and one connection.
pub struct World {
    vhost: Arc<Vhost>,
    router: NoTypes,
    session: Session,
    client: Client,
    publisher: Publisher,
    identity: PublisherIdentity,
    outcomes: Vec<Published>,
    waker: Arc<dyn Wake>,
}

const CHANNEL: u16 = 1;
const QUEUE: &str = "work";

impl World {
    /// Connected, with a channel, a queue and a consumer.
    pub fn new(no_ack: bool) -> Self {
        let mut router = NoTypes;
        let memory = Arc::new(MemoryAccount::new(1 << 30));
        let vhost = Vhost::new(Name::from_static("/"), memory, &mut router).expect("a vhost");
        let waker: Arc<dyn Wake> = Arc::new(Bell::default());
        let id = ConnectionId(1);
        let mut client = Client::new(vhost.clone(), id, waker.clone());
        client.open_channel(CHANNEL);
        let queue = QueueSpec { name: Name::from_static(QUEUE), ..QueueSpec::default() };
        vhost.declare_queue(queue, id).expect("a queue");
        let spec = ConsumeSpec { queue: Name::from_static(QUEUE), no_ack, ..ConsumeSpec::default() };
        client.consume(CHANNEL, spec).expect("a consumer");
        Self {
            vhost,
            router,
            session: session(),
            client,
            publisher: Publisher::default(),
            identity: PublisherIdentity {
                user: Name::from_static("guest"),
                connection: String::from("127.0.0.1:1"),
                protocol: "amqp-0-9-1",
            },
            outcomes: Vec::new(),
            waker,
        }
    }

    /// Reads publishes and gives them to the queue.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut publishes = Vec::with_capacity(BATCH);
        let mut used = 0;
        while let (took, Some(event)) = self.session.next(&bytes[used..]) {
            used += took;
            if let Event::Publish(publish) = event {
                publishes.push(publish);
            }
        }
        let views: Vec<_> = publishes
            .iter()
            .map(|publish| Publish {
                channel: publish.channel,
                mandatory: publish.mandatory,
                more_keys: None,
                message: MessageView {
                    exchange: &publish.exchange,
                    routing_key: &publish.routing_key,
                    form: FORM,
                    properties: &publish.properties,
                    body: &publish.body,
                    publisher: Some(&self.identity),
                },
            })
            .collect();
        self.outcomes.clear();
        let (publisher, router) = (&mut self.publisher, &mut self.router);
        publisher.publish(&self.vhost, router, &views, &mut self.outcomes, &self.waker);
        self.outcomes.iter().filter(|outcome| **outcome == Published::Routed).count()
    }

    /// Encodes what waits for the consumer; gives how many bytes.
    pub fn deliver(&mut self) -> usize {
        self.client.deliver(&mut self.router, &mut Output(&mut self.session));
        let bytes = self.session.output().len();
        self.session.output().clear();
        bytes
    }

    /// Reads acknowledgements and settles.
    pub fn acknowledge(&mut self, bytes: &[u8]) -> usize {
        let (mut used, mut settled) = (0, 0);
        while let (took, Some(event)) = self.session.next(&bytes[used..]) {
            used += took;
            if let Event::Request { channel, method: Method::BasicAck { delivery_tag, multiple } } = event
                && self.client.settle(channel, delivery_tag, multiple, Settle::Accepted).is_ok()
            {
                settled += 1;
            }
        }
        self.client.tell_store();
        settled
    }
}

/// A session with an open channel.
fn session() -> Session {
    let mut session = Session::new(Arc::new(SessionConfig::default()));
    let mut bytes = Vec::new();
    client::put_protocol_header(&mut bytes);
    client::put_start_ok(&mut bytes, b"guest", b"guest", Table::new());
    client::put_method(
        &mut bytes,
        0,
        &Method::ConnectionTuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 },
    );
    client::put_method(&mut bytes, 0, &Method::ConnectionOpen { virtual_host: b"/" });
    client::put_method(&mut bytes, CHANNEL, &Method::ChannelOpen {});
    let mut used = 0;
    while let (took, Some(event)) = session.next(&bytes[used..]) {
        used += took;
        match event {
            Event::Login(_) => session.authenticated(),
            Event::Open { .. } => session.opened(),
            Event::ChannelOpened(channel) => session.channel_opened(channel),
            _ => {}
        }
    }
    assert!(session.is_channel_open(CHANNEL), "the handshake ends with an open channel");
    session.output().clear();
    session
}

/// The bytes of so many publishes.
pub fn publishes(count: usize, body_bytes: usize, properties: &[u8]) -> Vec<u8> {
    let body = vec![b'x'; body_bytes];
    let mut bytes = Vec::new();
    for _ in 0..count {
        client::put_publish(&mut bytes, CHANNEL, b"", QUEUE.as_bytes(), properties, &body, 131_072);
    }
    bytes
}

/// The bytes of acknowledgements of these deliveries, one by one.
pub fn acks(tags: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for delivery_tag in tags {
        client::put_method(&mut bytes, CHANNEL, &Method::BasicAck { delivery_tag, multiple: false });
    }
    bytes
}
