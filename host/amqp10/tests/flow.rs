//! Sessions in both directions, simulated: whatever windows and credits a client gives, and however late it reads,
//! nothing is sent beyond them, and everything arrives whole and in order.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use leveret_amqp10::composite::Composite;
use leveret_amqp10::connection::{Attached, Connection, ConnectionConfig, Event, Outgoing};
use leveret_amqp10::frame::{self, AMQP, Frame, ProtocolId, put_performative, put_sasl, put_transfer};
use leveret_amqp10::performatives::{Attach, Begin, DeliveryTag, Flow, Open, Performative, Role, Transfer};
use leveret_amqp10::sasl::Mechanism;
use leveret_amqp10::security::Init;
use leveret_amqp10::types::Symbol;
use proptest::{collection::vec, prelude::*};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const FRAME_BYTES_MAX: u32 = 512;
const WINDOW: u32 = 6;
/// The channel of the session, and its links: the client receives on the first, and sends on the others.
const CHANNEL: u16 = 1;
const IN: u32 = 0;
const OUT: [u32; 2] = [1, 2];

#[derive(Clone, Debug)]
enum Op {
    /// The client gives a window and credit.
    Give { window: u32, credit: u32 },
    /// The broker sends a message of so many bytes, if it may.
    Deliver(usize),
    /// The client reads some frames.
    Read(usize),
    /// The broker gives credit on a link.
    Grant { link: usize, credit: u32 },
    /// The client sends a message of so many bytes on a link, if it may.
    Send { link: usize, bytes: usize },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..8_u32, 0..5_u32).prop_map(|(window, credit)| Op::Give { window, credit }),
        (0..1500_usize).prop_map(Op::Deliver),
        (1..6_usize).prop_map(Op::Read),
        (0..2_usize, 0..4_u32).prop_map(|(link, credit)| Op::Grant { link, credit }),
        (0..2_usize, 0..1500_usize).prop_map(|(link, bytes)| Op::Send { link, bytes }),
    ]
}

/// What a client knows of one of the links on which it sends.
#[derive(Default)]
struct SendLink {
    delivery_count: u32,
    credit: u32,
}

struct World {
    connection: Connection,
    /// Frames that the client has not read, whole.
    inbox: VecDeque<Vec<u8>>,
    // The client as receiver.
    next_incoming_id: u32,
    delivery_count: u32,
    partial: Option<Vec<u8>>,
    received: Vec<Vec<u8>>,
    /// The highest transfer and the highest delivery that it ever allowed.
    transfers_max: u32,
    deliveries_max: u32,
    // The client as sender.
    next_outgoing_id: u32,
    window_end: u32,
    next_delivery_id: u32,
    links: BTreeMap<u32, SendLink>,
    sent: Vec<(u32, Vec<u8>)>,
    // The broker.
    transfers: u32,
    delivered: Vec<Vec<u8>>,
    taken: Vec<(u32, Vec<u8>)>,
}

impl World {
    fn new() -> Self {
        let config = ConnectionConfig {
            frame_bytes_max: FRAME_BYTES_MAX,
            incoming_window: WINDOW,
            mechanisms: Arc::new([Mechanism::Anonymous]),
            ..ConnectionConfig::default()
        };
        let mut world = Self {
            connection: Connection::new(Arc::new(config)),
            inbox: VecDeque::new(),
            next_incoming_id: 0,
            delivery_count: 0,
            partial: None,
            received: Vec::new(),
            transfers_max: 0,
            deliveries_max: 0,
            next_outgoing_id: 0,
            window_end: WINDOW,
            next_delivery_id: 0,
            links: OUT.into_iter().map(|handle| (handle, SendLink::default())).collect(),
            sent: Vec::new(),
            transfers: 0,
            delivered: Vec::new(),
            taken: Vec::new(),
        };
        let mut words = ProtocolId::Sasl.header().to_vec();
        put_sasl(&mut words, &Init { mechanism: Symbol::from_static("ANONYMOUS"), ..Init::default() });
        words.extend(ProtocolId::Amqp.header());
        put_performative(&mut words, 0, &Open { container_id: "client", ..Open::default() });
        put_performative(&mut words, CHANNEL, &Begin { outgoing_window: 100, ..Begin::default() });
        put_performative(
            &mut words,
            CHANNEL,
            &Attach { name: "in", role: Role::Receiver, ..Attach::default() },
        );
        for handle in OUT {
            let name = ["", "one", "two"][handle as usize];
            let attach = Attach { name, handle, initial_delivery_count: Some(0), ..Attach::default() };
            put_performative(&mut words, CHANNEL, &attach);
        }
        world.give(&words);
        let output = world.connection.output();
        let handshake_bytes = output.windows(4).rposition(|window| window == b"AMQP").unwrap() + 8;
        output.drain(..handshake_bytes);
        world.collect();
        world
    }

    fn give(&mut self, bytes: &[u8]) {
        let mut at = 0;
        loop {
            let (took, event) = self.connection.next(&bytes[at..]);
            at += took;
            match event {
                None => break,
                Some(Event::Sasl(_)) => self.connection.sasl().unwrap().authenticated(),
                Some(Event::Open(_)) => self.connection.opened(),
                Some(Event::Attach { channel, attach }) => {
                    self.connection.attached(channel, attach.handle, &Attached::as_asked(&attach));
                }
                Some(Event::Delivery(delivery)) => {
                    self.taken.push((delivery.handle, delivery.message.to_vec()))
                }
                Some(Event::Began { .. } | Event::Credit { .. } | Event::Window { .. }) => {}
                Some(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(at, bytes.len());
    }

    fn say<'a>(&mut self, performative: &impl Composite<'a>) {
        let mut bytes = Vec::new();
        put_performative(&mut bytes, CHANNEL, performative);
        self.give(&bytes);
    }

    /// What the broker wrote goes on its way; nothing of it is beyond what the client ever allowed.
    fn collect(&mut self) {
        let output = std::mem::take(self.connection.output());
        let mut rest = output.as_slice();
        while let Some(whole) = frame::split(rest, AMQP, FRAME_BYTES_MAX).unwrap() {
            if let (Performative::Transfer(_), _) = Performative::from_body(whole.body).unwrap() {
                self.transfers += 1;
            }
            self.inbox.push_back(rest[..whole.length_bytes].to_vec());
            rest = &rest[whole.length_bytes..];
        }
        assert!(rest.is_empty());
        assert!(self.transfers <= self.transfers_max, "{} transfers", self.transfers);
        assert!(self.delivered.len() <= self.deliveries_max as usize);
    }

    fn read(&mut self, frames: usize) {
        for _ in 0..frames {
            let Some(bytes) = self.inbox.pop_front() else { return };
            let Frame { body, .. } = frame::split(&bytes, AMQP, FRAME_BYTES_MAX).unwrap().unwrap();
            match Performative::from_body(body).unwrap() {
                (Performative::Transfer(transfer), payload) => self.on_transfer(&transfer, payload),
                (Performative::Flow(flow), _) => self.on_flow(&flow),
                (Performative::Open(_) | Performative::Begin(_) | Performative::Attach(_), _) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn on_transfer(&mut self, transfer: &Transfer<'_>, payload: &[u8]) {
        self.next_incoming_id += 1;
        let mut message = self.partial.take().unwrap_or_else(|| {
            assert_eq!(transfer.delivery_id, Some(self.delivery_count));
            self.delivery_count += 1;
            Vec::new()
        });
        message.extend_from_slice(payload);
        if transfer.more {
            self.partial = Some(message);
        } else {
            self.received.push(message);
        }
    }

    fn on_flow(&mut self, flow: &Flow<'_>) {
        self.window_end = flow.next_incoming_id.unwrap() + flow.incoming_window;
        if let Some(link) = flow.handle.and_then(|handle| self.links.get_mut(&handle)) {
            link.credit = (flow.delivery_count.unwrap() + flow.link_credit.unwrap())
                .saturating_sub(link.delivery_count);
        }
    }

    fn give_credit(&mut self, window: u32, credit: u32) {
        self.transfers_max = self.transfers_max.max(self.next_incoming_id + window);
        self.deliveries_max = self.deliveries_max.max(self.delivery_count + credit);
        self.say(&Flow {
            next_incoming_id: Some(self.next_incoming_id),
            incoming_window: window,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: 100,
            handle: Some(IN),
            delivery_count: Some(self.delivery_count),
            link_credit: Some(credit),
            ..Flow::default()
        });
    }

    fn deliver(&mut self, bytes: usize) {
        let message: Vec<u8> = (0..bytes).map(|at| (at + self.delivered.len()) as u8).collect();
        let (one, other) = message.split_at(bytes / 2);
        let tag = DeliveryTag::new(b"tag").unwrap();
        let outgoing = Outgoing { tag, message_format: 0, settled: true, message: &[one, other] };
        if let Ok(id) = self.connection.deliver(CHANNEL, IN, &outgoing) {
            assert_eq!(id as usize, self.delivered.len());
            self.delivered.push(message);
        }
    }

    fn send(&mut self, link: usize, bytes: usize) {
        let handle = OUT[link];
        let message: Vec<u8> = (0..bytes).map(|at| (at * 7 + self.sent.len()) as u8).collect();
        let delivery_tag = DeliveryTag::new(b"tag");
        let delivery_id = Some(self.next_delivery_id);
        let transfer = Transfer { handle, delivery_id, delivery_tag, ..Transfer::default() };
        let mut out = Vec::new();
        let transfers = put_transfer(&mut out, CHANNEL, &transfer, &[&message], FRAME_BYTES_MAX);
        let state = self.links.get_mut(&handle).unwrap();
        if state.credit == 0 || self.next_outgoing_id + transfers > self.window_end {
            return;
        }
        state.credit -= 1;
        state.delivery_count += 1;
        self.next_outgoing_id += transfers;
        self.next_delivery_id += 1;
        self.give(&out);
        self.sent.push((handle, message));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nothing_goes_beyond_what_was_allowed_and_everything_arrives(ops in vec(op(), 1..60)) {
        let mut world = World::new();
        for op in ops {
            match op {
                Op::Give { window, credit } => world.give_credit(window, credit),
                Op::Deliver(bytes) => world.deliver(bytes),
                Op::Read(frames) => world.read(frames),
                Op::Grant { link, credit } => world.connection.grant(CHANNEL, OUT[link], credit),
                Op::Send { link, bytes } => world.send(link, bytes),
            }
            world.collect();
        }
        // With room enough, what was waiting arrives.
        world.read(10_000);
        world.give_credit(1000, 0);
        world.collect();
        world.read(10_000);
        prop_assert_eq!(&world.received, &world.delivered);
        prop_assert_eq!(&world.taken, &world.sent);
    }
}
