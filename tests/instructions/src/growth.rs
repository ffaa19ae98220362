//! How what a message costs grows with what there is: the same step with little and with much. Beside the bounds that all
//! steps have, with much it may cost little more than with little: the growth is that of a constant.

use crate::steps::{BATCH, ROUNDS};
use leveret_amqp091::FORM;
use leveret_broker::{
    Client, ConnectionId, ConsumeSpec, Delivery, Publish, Published, Publisher, QueueSpec, Sink, Vhost,
    port::Wake,
};
use leveret_exchange_topic::trie::Trie;
use leveret_instructions::broker::{Broker, NoTypes, identity};
use leveret_model::{MessageView, Name, PublisherIdentity};
use leveret_sdk::BindingId;
use std::{process::ExitCode, sync::Arc};

/// Of what there is little and much.
#[derive(Clone, Copy)]
enum Kind {
    /// Queues, each with a consumer, which messages go to in turn.
    Queues,
    /// Messages that wait in the one queue.
    Depth,
    /// Consumers of the one queue.
    Consumers,
    /// Consumers of one channel: how much it takes to begin and end one more.
    OnChannel,
    /// Bindings with wildcards, in the trie of the topic exchange type, natively.
    Bindings,
}

/// A kind, and its loads with their names.
struct Growth {
    kind: Kind,
    little: (&'static str, usize),
    much: (&'static str, usize),
    steps: &'static [&'static str],
}

/// By how much a step may cost more with much than with little, in per cent.
pub const MORE_PERCENT: u64 = 25;

// Of queues and consumers there are with little already more than messages in a batch, so each message has its own.
const GROWTHS: [Growth; 5] = [
    Growth {
        kind: Kind::OnChannel,
        little: ("channel-with-10", 10),
        much: ("channel-with-10000", 10_000),
        steps: &["consume"],
    },
    Growth {
        kind: Kind::Queues,
        little: ("queues-1000", 1000),
        much: ("queues-20000", 20_000),
        steps: &["spread", "hand_out"],
    },
    Growth {
        kind: Kind::Depth,
        little: ("depth-1000", 1000),
        much: ("depth-1000000", 1_000_000),
        steps: &["spread", "hand_out"],
    },
    Growth {
        kind: Kind::Consumers,
        little: ("consumers-1000", 1000),
        much: ("consumers-10000", 10_000),
        steps: &["spread", "hand_out"],
    },
    Growth {
        kind: Kind::Bindings,
        little: ("bindings-10", 10),
        much: ("bindings-100000", 100_000),
        steps: &["find"],
    },
];

/// The loads by name, and the steps that each has.
pub fn loads() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    GROWTHS.iter().flat_map(|growth| [(growth.little.0, growth.steps), (growth.much.0, growth.steps)])
}

/// Pairs of counts by name: with little, and with much.
pub fn pairs() -> impl Iterator<Item = (String, String)> {
    GROWTHS.iter().flat_map(|growth| {
        let name = |load: &str, step: &str| format!("{load}.{step}");
        growth.steps.iter().map(move |step| (name(growth.little.0, step), name(growth.much.0, step)))
    })
}

/// Counts what is handed out.
struct Counting(usize);

impl Sink for Counting {
    fn has_room(&self) -> bool {
        true
    }

    fn deliver(&mut self, delivery: Delivery<'_>) {
        self.0 += delivery.message.body.len();
    }
}

/// A broker with queues and consumers.
struct World {
    vhost: Arc<Vhost>,
    client: Client,
    publisher: Publisher,
    identity: PublisherIdentity,
    outcomes: Vec<Published>,
    waker: Arc<dyn Wake>,
    queues: Vec<String>,
    /// The queue of the next message.
    next: usize,
}

const CHANNEL: u16 = 1;
/// How many consumers a channel has; a client with more has more channels.
const CONSUMERS_OF_CHANNEL: usize = 100;

impl World {
    /// With so many queues, and so many consumers of each.
    fn new(queues: usize, consumers: usize) -> Self {
        Self::with((queues, consumers), CONSUMERS_OF_CHANNEL)
    }

    /// The same, with so many consumers on each channel.
    fn with((queues, consumers): (usize, usize), of_channel: usize) -> Self {
        let Broker { vhost, mut client, waker } = Broker::new();
        for number in 0..=(queues * consumers / of_channel) as u16 {
            client.open_channel(CHANNEL + number);
        }
        let mut made = 0;
        let queues: Vec<String> = (0..queues).map(|number| format!("queue-{number}")).collect();
        let name = |text: &str| Name::new(text.as_bytes()).expect("a short name");
        for queue in &queues {
            let spec = QueueSpec { name: name(queue), ..QueueSpec::default() };
            vhost.declare_queue(spec, ConnectionId(1)).expect("a queue");
            for number in 0..consumers {
                let tag = name(&format!("{queue}-{number}"));
                let spec = ConsumeSpec { queue: name(queue), tag, no_ack: true, ..ConsumeSpec::default() };
                let channel = CHANNEL + (made / of_channel) as u16;
                client.consume(channel, spec).expect("a consumer");
                made += 1;
            }
        }
        Self {
            vhost,
            client,
            publisher: Publisher::default(),
            identity: identity("amqp-0-9-1"),
            outcomes: Vec::new(),
            waker,
            queues,
            next: 0,
        }
    }

    /// Begins and ends a consumer.
    fn consume(&mut self) -> usize {
        let (queue, tag) = (self.name_of_queue(), Name::from_static("one more"));
        let spec = ConsumeSpec { queue, tag, no_ack: true, ..ConsumeSpec::default() };
        self.client.consume(CHANNEL, spec).expect("a consumer");
        usize::from(self.client.cancel(CHANNEL, b"one more", &mut NoTypes))
    }

    fn name_of_queue(&self) -> Name {
        Name::new(self.queues[0].as_bytes()).expect("a short name")
    }

    /// A consumer that is given no more than it is granted.
    fn consume_by_credit(&mut self) {
        let (queue, tag) = (self.name_of_queue(), Name::from_static("credit"));
        let spec = ConsumeSpec { queue, tag, no_ack: true, credit: Some(0), ..ConsumeSpec::default() };
        self.client.consume(CHANNEL, spec).expect("a consumer");
    }

    /// Messages to the queues in turn.
    fn spread(&mut self) -> usize {
        let mut views = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let message = MessageView {
                exchange: b"",
                routing_key: self.queues[self.next].as_bytes(),
                form: FORM,
                properties: &[0, 0],
                body: b"sixteen bytes ..",
                publisher: Some(&self.identity),
            };
            views.push(Publish { channel: CHANNEL, mandatory: false, more_keys: None, message });
            self.next = (self.next + 1) % self.queues.len();
        }
        self.outcomes.clear();
        self.publisher.publish(&self.vhost, &mut NoTypes, &views, &mut self.outcomes, &self.waker);
        self.outcomes.iter().filter(|outcome| **outcome == Published::Routed).count()
    }

    fn hand_out(&mut self) -> usize {
        let mut counting = Counting(0);
        self.client.deliver(&mut NoTypes, &mut counting);
        counting.0 / 16
    }
}

#[inline(never)]
fn counted_spread(world: &mut World) -> usize {
    world.spread()
}

#[inline(never)]
fn counted_hand_out(world: &mut World) -> usize {
    world.hand_out()
}

#[inline(never)]
fn counted_consume(world: &mut World) -> usize {
    (0..BATCH).map(|_| world.consume()).sum()
}

#[inline(never)]
fn counted_find(trie: &mut Trie, keys: &[String]) -> usize {
    let mut found = 0;
    keys.iter().for_each(|key| trie.find(key.as_bytes(), |ids| found += ids.len()));
    found
}

/// Runs one load. `None` if there is no such load.
pub fn run(name: &str) -> Option<ExitCode> {
    let all = GROWTHS.iter().flat_map(|growth| [(growth.kind, growth.little), (growth.kind, growth.much)]);
    let (kind, (_, count)) = { all }.find(|(_, (load, _))| *load == name)?;
    match kind {
        Kind::Queues => rounds(&mut World::new(count, 1), false),
        Kind::Consumers => rounds(&mut World::new(1, count), false),
        Kind::Depth => {
            let mut world = World::new(1, 0);
            (0..count.div_ceil(BATCH)).for_each(|_| assert_eq!(world.spread(), BATCH));
            world.consume_by_credit();
            rounds(&mut world, true);
        }
        Kind::OnChannel => {
            let mut world = World::with((count, 1), count);
            (0..ROUNDS).for_each(|_| assert_eq!(counted_consume(&mut world), BATCH, "each ends"));
        }
        Kind::Bindings => find(count),
    }
    Some(ExitCode::SUCCESS)
}

fn rounds(world: &mut World, by_credit: bool) {
    for round in 0..2 * ROUNDS {
        let counted = round >= ROUNDS;
        let routed = if counted { counted_spread(world) } else { world.spread() };
        assert_eq!(routed, BATCH, "all go to a queue");
        if by_credit {
            world.client.grant(CHANNEL, b"credit", BATCH as u32);
        }
        let out = if counted { counted_hand_out(world) } else { world.hand_out() };
        assert_eq!(out, BATCH, "as many come out");
    }
}

fn find(count: usize) {
    let mut trie = Trie::default();
    (0..count).for_each(|number| trie.insert(format!("a.{number}.*").as_bytes(), BindingId(number as u64)));
    for round in 0..ROUNDS {
        let key = |place: usize| format!("a.{}.{place}", (round * BATCH + place) * 7 % count);
        let keys: Vec<String> = (0..BATCH).map(key).collect();
        assert_eq!(counted_find(&mut trie, &keys), BATCH, "each has one binding");
    }
}
