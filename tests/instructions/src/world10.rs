//! One connection of AMQP 1.0 with a link each way, driven by bytes: what the broker does between a read of a socket and a
//! write. What its adapter does in between (`host/server/src/amqp10`) is done here in short.

use crate::steps::BATCH;
use leveret_amqp10::{
    connection::{Attached, Connection, ConnectionConfig, Event, Outgoing},
    form::{FORM, Giving, Head, Kept, give},
    frame::{ProtocolId, put_performative, put_sasl, put_transfer},
    messaging::{Accepted, MESSAGE_FORMAT, Source, Target},
    performatives::{Attach, Begin, DeliveryTag, Disposition, Flow, Open, Role, SenderSettleMode, Transfer},
    sasl::Mechanism,
    security::Init,
    types::Symbol,
};
use leveret_broker::{
    Client, ConsumeSpec, Delivery, Publish, Published, Publisher, Settle, Sink, Vhost, port::Wake,
};
use leveret_instructions::broker::{Broker, NoTypes, QUEUE, identity};
use leveret_model::{MessageView, Name, PublisherIdentity};
use std::{borrow::Cow, sync::Arc};

const CHANNEL: u16 = 0;
/// The link on which messages come, and the one on which they go.
const IN: u32 = 0;
const OUT: u32 = 1;
/// The consumer of the link on which messages go.
const TAG: &[u8] = b"1";
const FRAME_BYTES_MAX: u32 = 131_072;

/// Sends deliveries, as the broker does, and notes those that are not settled.
struct Output<'a> {
    connection: &'a mut Connection,
    sent: &'a mut Vec<(u32, u64)>,
    head: &'a mut Head,
    settled: bool,
}

impl Sink for Output<'_> {
    fn has_room(&self) -> bool {
        true
    }

    fn has_room_on(&self, channel: u16) -> bool {
        self.connection.has_window(channel)
    }

    fn deliver(&mut self, delivery: Delivery<'_>) {
        let message = &delivery.message;
        let giving = Giving {
            exchange: message.exchange,
            routing_key: message.routing_key,
            redelivered: delivery.redelivered,
        };
        let pieces = give(message.properties, message.body, &giving, self.head);
        let number = (delivery.delivery_tag as u32).to_be_bytes();
        let outgoing = Outgoing {
            tag: DeliveryTag::new(&number).unwrap_or_default(),
            message_format: MESSAGE_FORMAT,
            settled: self.settled,
            message: &pieces,
        };
        let id = self.connection.deliver(CHANNEL, OUT, &outgoing).expect("there is credit");
        if !self.settled {
            self.sent.push((id, delivery.delivery_tag));
        }
    }
}

/// A broker with one queue and one connection.
pub struct World {
    vhost: Arc<Vhost>,
    connection: Connection,
    client: Client,
    publisher: Publisher,
    identity: PublisherIdentity,
    outcomes: Vec<Published>,
    waker: Arc<dyn Wake>,
    sent: Vec<(u32, u64)>,
    head: Head,
    settled: bool,
}

/// A message that came.
struct Incoming<'b> {
    id: u32,
    kept: Kept,
    message: Cow<'b, [u8]>,
}

impl World {
    /// Connected, with a session, a queue and a link each way.
    pub fn new(settled: bool) -> Self {
        let Broker { vhost, mut client, waker } = Broker::new();
        client.open_channel(CHANNEL);
        let spec = ConsumeSpec {
            queue: Name::from_static(QUEUE),
            tag: Name::new(TAG).expect("a short name"),
            no_ack: settled,
            ..ConsumeSpec::default()
        };
        client.consume(CHANNEL, spec).expect("a consumer");
        let mut world = Self {
            vhost,
            connection: connection(settled),
            client,
            publisher: Publisher::default(),
            identity: identity("amqp-1-0"),
            outcomes: Vec::new(),
            waker,
            sent: Vec::new(),
            head: Head::default(),
            settled,
        };
        world.give_credit();
        world
    }

    /// The client has taken all, and there is credit for a batch each way.
    pub fn give_credit(&mut self) {
        let mut bytes = Vec::new();
        let mut flow = Flow {
            incoming_window: u32::MAX / 2,
            outgoing_window: u32::MAX / 2,
            handle: Some(OUT),
            link_credit: Some(BATCH as u32),
            ..Flow::default()
        };
        let count = self.client.traffic(CHANNEL).map_or(0, |traffic| {
            let counts = traffic.read().handed_out();
            counts.deliver + counts.deliver_no_ack
        }) as u32;
        (flow.next_incoming_id, flow.delivery_count, flow.next_outgoing_id) =
            (Some(count), Some(count), count);
        put_performative(&mut bytes, CHANNEL, &flow);
        let mut used = 0;
        while let (took, Some(_)) = self.connection.next(&bytes[used..]) {
            used += took;
        }
        self.connection.grant(CHANNEL, IN, 2 * BATCH as u32);
        self.connection.output().clear();
    }

    /// Reads transfers and gives them to the queue; of those that are not settled, tells that they are accepted.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut incoming = Vec::with_capacity(BATCH);
        let mut used = 0;
        while let (took, Some(event)) = self.connection.next(&bytes[used..]) {
            used += took;
            if let Event::Delivery(delivery) = event {
                let kept = Kept::of(&delivery.message).expect("a message");
                incoming.push(Incoming { id: delivery.delivery_id, kept, message: delivery.message });
            }
        }
        let views: Vec<_> = incoming
            .iter()
            .enumerate()
            .map(|(place, incoming)| {
                let message = MessageView {
                    exchange: b"",
                    routing_key: QUEUE.as_bytes(),
                    form: FORM,
                    properties: incoming.kept.properties(&incoming.message),
                    body: incoming.kept.body(&incoming.message),
                    publisher: Some(&self.identity),
                };
                assert_eq!(message.more_keys(), Ok(None), "there is one key");
                Publish { channel: place as u16, mandatory: true, more_keys: None, message }
            })
            .collect();
        self.outcomes.clear();
        self.publisher.publish(&self.vhost, &mut NoTypes, &views, &mut self.outcomes, &self.waker);
        if let (false, Some(first), Some(last)) = (self.settled, incoming.first(), incoming.last()) {
            let disposition = Disposition {
                role: Role::Receiver,
                first: first.id,
                last: Some(last.id),
                settled: true,
                state: Some(Accepted {}.into()),
                batchable: false,
            };
            self.connection.dispose(CHANNEL, &disposition);
        }
        self.outcomes.iter().filter(|outcome| **outcome == Published::Routed).count()
    }

    /// Encodes what waits for the consumer; gives how many bytes.
    pub fn deliver(&mut self) -> usize {
        let (sent, head, settled) = (&mut self.sent, &mut self.head, self.settled);
        let mut output = Output { connection: &mut self.connection, sent, head, settled };
        self.client.deliver(&mut NoTypes, &mut output);
        let bytes = self.connection.output().len();
        self.connection.output().clear();
        bytes
    }

    /// Reads a disposition and settles what it is about.
    pub fn settle(&mut self, bytes: &[u8]) -> usize {
        let (mut used, mut settled) = (0, 0);
        while let (took, Some(event)) = self.connection.next(&bytes[used..]) {
            used += took;
            let Event::Disposition { channel, disposition } = event else { continue };
            let (first, last) = (disposition.first, disposition.last.unwrap_or(disposition.first));
            for (id, tag) in self.sent.drain(..) {
                if (first..=last).contains(&id)
                    && self.client.settle(channel, tag, false, Settle::Accepted).is_ok()
                {
                    settled += 1;
                }
            }
        }
        self.client.tell_store();
        settled
    }
}

/// A connection with a session and a link each way.
fn connection(settled: bool) -> Connection {
    let config = ConnectionConfig {
        incoming_window: 1 << 20,
        mechanisms: Arc::new([Mechanism::Anonymous]),
        ..ConnectionConfig::default()
    };
    let mut connection = Connection::new(Arc::new(config));
    let mut bytes = ProtocolId::Sasl.header().to_vec();
    let mechanism = Symbol::from_static("ANONYMOUS");
    put_sasl(&mut bytes, &Init { mechanism, ..Init::default() });
    bytes.extend(ProtocolId::Amqp.header());
    let open = Open { container_id: "client", max_frame_size: FRAME_BYTES_MAX, ..Open::default() };
    put_performative(&mut bytes, 0, &open);
    let window = u32::MAX / 2;
    put_performative(
        &mut bytes,
        CHANNEL,
        &Begin { incoming_window: window, outgoing_window: window, ..Begin::default() },
    );
    let snd_settle_mode = if settled { SenderSettleMode::Settled } else { SenderSettleMode::Unsettled };
    for (handle, role) in [(IN, Role::Sender), (OUT, Role::Receiver)] {
        let attach = Attach {
            name: "link",
            handle,
            role,
            snd_settle_mode,
            source: Some(Source::default()),
            target: Some(Target::default().into()),
            initial_delivery_count: Some(0),
            ..Attach::default()
        };
        put_performative(&mut bytes, CHANNEL, &attach);
    }
    let mut used = 0;
    let mut attached = 0;
    loop {
        let (took, event) = connection.next(&bytes[used..]);
        used += took;
        match event {
            None => break,
            Some(Event::Sasl(_)) => connection.sasl().expect("a login").authenticated(),
            Some(Event::Open(_)) => connection.opened(),
            Some(Event::Attach { channel, attach }) => {
                connection.attached(channel, attach.handle, &Attached::as_asked(&attach));
                attached += 1;
            }
            Some(_) => {}
        }
    }
    assert_eq!(attached, 2, "the handshake ends with two links");
    connection
}

/// The bytes of so many transfers, from that number on, as clients send them.
pub fn transfers(first: u32, count: usize, body_bytes: usize, settled: bool) -> Vec<u8> {
    use leveret_amqp10::{
        composite::Composite,
        descriptor,
        messaging::Header,
        types::write::{put, put_descriptor},
    };
    let mut message = Vec::new();
    Header { durable: Some(false), ..Header::default() }.encode(&mut message);
    put_descriptor(&mut message, descriptor::DATA);
    put(&mut message, vec![b'x'; body_bytes].as_slice());
    let mut bytes = Vec::new();
    for id in (first..).take(count) {
        let tag = id.to_be_bytes();
        let transfer = Transfer {
            handle: IN,
            delivery_id: Some(id),
            delivery_tag: DeliveryTag::new(&tag),
            message_format: Some(MESSAGE_FORMAT),
            settled: Some(settled),
            ..Transfer::default()
        };
        put_transfer(&mut bytes, CHANNEL, &transfer, &[&message], FRAME_BYTES_MAX);
    }
    bytes
}

/// The bytes of a disposition that accepts so many deliveries, from that number on.
pub fn accepted(first: u32, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let disposition = Disposition {
        role: Role::Receiver,
        first,
        last: Some(first + count as u32 - 1),
        settled: true,
        state: Some(Accepted {}.into()),
        batchable: true,
    };
    put_performative(&mut bytes, CHANNEL, &disposition);
    bytes
}
