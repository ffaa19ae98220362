//! One connection that publishes to a queue and consumes from it, driven by bytes: what the broker does between a read
//! of a socket and a write.

use crate::broker::{Broker, NoTypes, QUEUE, identity};
use leveret_amqp091::{Event, FORM, Method, Session, SessionConfig, client};
use leveret_broker::{
    Client, ConsumeSpec, Delivery, Publish, Published, Publisher, Settle, Sink, Vhost,
    port::{Router, Wake},
};
use leveret_model::{MessageView, Name, PublisherIdentity, Table};
use std::sync::Arc;

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
pub struct World<R = NoTypes> {
    vhost: Arc<Vhost>,
    router: R,
    session: Session,
    client: Client,
    publisher: Publisher,
    identity: PublisherIdentity,
    outcomes: Vec<Published>,
    waker: Arc<dyn Wake>,
    turns: u64,
}

/// The channel of publishes and deliveries.
pub const CHANNEL: u16 = 1;

impl World {
    /// Connected, with a channel, a queue and a consumer; without exchange types.
    pub fn new(no_ack: bool) -> Self {
        Self::with(Broker::new(), NoTypes, no_ack)
    }
}

impl<R: Router> World<R> {
    /// Connected to a broker with these exchange types, with a channel, a queue and a consumer.
    pub fn with(broker: Broker, types: R, no_ack: bool) -> Self {
        let Broker { vhost, mut client, waker } = broker;
        client.open_channel(CHANNEL);
        let spec = ConsumeSpec { queue: Name::from_static(QUEUE), no_ack, ..ConsumeSpec::default() };
        client.consume(CHANNEL, spec).expect("a consumer");
        Self {
            vhost,
            router: types,
            session: session(),
            client,
            publisher: Publisher::default(),
            identity: identity("amqp-0-9-1"),
            outcomes: Vec::new(),
            waker,
            turns: 0,
        }
    }

    /// Reads publishes and gives them to the queue.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        // As many as last time.
        let mut publishes = Vec::with_capacity(self.outcomes.len());
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
        let mut done = 0;
        // Fewer than all where a type answers later.
        while let Some(rest) = views.get(done..).filter(|rest| !rest.is_empty()) {
            done += publisher.publish(&self.vhost, router, rest, &mut self.outcomes, &self.waker);
            self.turns += 1;
        }
        self.outcomes.iter().filter(|outcome| **outcome == Published::Routed).count()
    }

    /// How often messages were published: more often than there were reads where a type answered later.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Who answers for the exchange types.
    pub fn types(&self) -> &R {
        &self.router
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
