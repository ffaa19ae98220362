//! Consumers that want some messages, against a list and predicates, with seeded random histories.
//!
//! After each step everything is delivered that can be. Then no consumer with credit wants anything of what is ready; what
//! each was given in the step it wants, in the order of the list; and nothing is lost or doubled.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, PERSISTENT, Random, Taken, Wants, message, name, table};
use leveret_broker::{ConsumeSpec, MemoryAccount, QueueSpec, Settle, Vhost};
use leveret_model::{MessageView, Value};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

const STEPS: usize = 400;
const PEERS: usize = 4;
/// Messages are told apart by their numbers modulo this.
const CLASSES: u64 = 6;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Classic,
    /// With so little memory that what is on disk leaves it.
    OnDisk,
    /// The same of transient messages, which are written to pages for that.
    Paged,
    Quorum,
}

impl Kind {
    fn has_little(self) -> bool {
        matches!(self, Self::OnDisk | Self::Paged)
    }
}

struct Peer {
    connection: Connection,
    consumer: Option<Consumer>,
    /// Delivery tag to message.
    held: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy)]
struct Consumer {
    /// The classes that it wants, a bit each; `None` is any, and no selector.
    classes: Option<u64>,
    no_ack: bool,
    credit: Option<u32>,
}

impl Consumer {
    fn wants(&self, number: u64) -> bool {
        self.classes.is_none_or(|classes| classes >> (number % CLASSES) & 1 == 1)
    }
}

struct World {
    kind: Kind,
    disk: Arc<Disk>,
    account: Arc<MemoryAccount>,
    publisher: Connection,
    peers: Vec<Peer>,
    next: u64,
    /// In the order in which a consumer that wants all would get them.
    ready: Vec<u64>,
    random: Random,
}

fn number(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().unwrap())
}

fn peer(publisher: &Connection) -> Peer {
    Peer { connection: publisher.sibling(), consumer: None, held: BTreeMap::new() }
}

impl World {
    fn new(kind: Kind, seed: u64) -> Self {
        let account = Arc::new(MemoryAccount::new(if kind.has_little() { 1 } else { 1 << 30 }));
        let disk = Disk::new();
        let publisher = start(&disk, &account);
        let text = |text: &str| Value::Text(text.into());
        let arguments = match kind {
            Kind::Quorum => table(&[("x-queue-type", text("quorum"))]),
            Kind::Classic | Kind::OnDisk | Kind::Paged => table(&[]),
        };
        let durable = matches!(kind, Kind::OnDisk | Kind::Quorum);
        let spec = QueueSpec { durable, arguments, ..kit::queue("q") };
        publisher.vhost.declare_queue(spec, publisher.id).unwrap();
        let peers = (0..PEERS).map(|_| peer(&publisher)).collect();
        let (next, ready) = (0, Vec::new());
        Self { kind, disk, account, publisher, peers, next, ready, random: Random(seed) }
    }

    fn publish(&mut self) {
        let count = self.random.below(12);
        let padding = match self.kind {
            Kind::OnDisk => 20_000,
            // Some of them have allocations of their own.
            Kind::Paged => 50_000,
            Kind::Classic | Kind::Quorum => 300,
        };
        let bodies: Vec<Vec<u8>> = (self.next..self.next + count)
            .map(|number| {
                let mut body = number.to_le_bytes().to_vec();
                body.resize(8 + self.random.below(padding) as usize, 0);
                body
            })
            .collect();
        let persistent = |body| MessageView { properties: PERSISTENT, ..message("", "q", body) };
        let messages: Vec<_> = bodies.iter().map(|body| persistent(body)).collect();
        self.publisher.publish_all(&messages);
        self.ready.extend(self.next..self.next + count);
        self.next += count;
    }

    fn attach(&mut self, at: usize) {
        let random = &mut self.random;
        let classes = (random.below(5) > 0).then(|| random.below(1 << CLASSES));
        let no_ack = random.below(5) == 0;
        let credit = (random.below(4) > 0).then(|| random.below(8) as u32);
        let consumer = Consumer { classes, no_ack, credit };
        let wants = Wants::by(move |body| consumer.wants(number(body)));
        let spec = ConsumeSpec {
            queue: name("q"),
            tag: name("t"),
            no_ack,
            credit,
            selector: classes.map(|_| wants as _),
            ..ConsumeSpec::default()
        };
        self.peers[at].connection.client.consume(1, spec).unwrap();
        self.peers[at].consumer = Some(consumer);
    }

    fn come_back(&mut self, number: u64) {
        let at = match self.kind {
            // What came back before is in front of what was never taken.
            Kind::Quorum => return self.come_back_first(number),
            Kind::Classic | Kind::OnDisk | Kind::Paged => self.ready.partition_point(|other| *other < number),
        };
        self.ready.insert(at, number);
    }

    fn come_back_first(&mut self, number: u64) {
        // A mark that it came back, which keeps it in front.
        let returned = self.ready.iter().take_while(|other| **other & RETURNED != 0).count();
        self.ready.insert(returned, number | RETURNED);
    }

    fn settle(&mut self, at: usize) {
        let requeues = self.random.below(3) == 0;
        let peer = &mut self.peers[at];
        let skip = self.random.below(peer.held.len() as u64 + 1) as usize;
        let Some((tag, number)) = peer.held.iter().nth(skip).map(|(tag, number)| (*tag, *number)) else {
            return;
        };
        peer.held.remove(&tag);
        let outcome = if requeues { Settle::Requeue { failed: false } } else { Settle::Accepted };
        peer.connection.client.settle(1, tag, false, outcome).unwrap();
        peer.connection.client.tell_store();
        if requeues {
            self.come_back(number);
        }
    }

    fn detach(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        peer.connection.client.close_channel(1, &mut peer.connection.router);
        peer.connection.client.open_channel(1);
        peer.connection.client.tell_store();
        peer.consumer = None;
        for number in std::mem::take(&mut peer.held).into_values() {
            self.come_back(number);
        }
    }

    fn grant(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        if let Some(consumer) = peer.consumer.as_mut().filter(|consumer| consumer.credit.is_some()) {
            let credit = self.random.below(8) as u32;
            consumer.credit = Some(credit);
            peer.connection.client.grant(1, b"t", credit);
        }
    }

    fn get(&mut self, context: &str) {
        let mut got = None;
        let note = &mut |it: leveret_broker::Got<'_>| got = Some(number(it.message.body));
        self.publisher.client.get(1, b"q", true, &mut self.publisher.router, note).unwrap();
        let expected = (!self.ready.is_empty()).then(|| self.ready.remove(0) & !RETURNED);
        assert_eq!(got, expected, "{context}");
    }

    fn restart(&mut self) {
        let was = self.peers.iter_mut().flat_map(|peer| std::mem::take(&mut peer.held).into_values());
        self.ready.extend(was);
        self.ready.iter_mut().for_each(|number| *number &= !RETURNED);
        self.ready.sort_unstable();
        self.peers.clear();
        self.publisher.client.close(&mut self.publisher.router);
        self.publisher = start(&self.disk, &self.account);
        self.peers = (0..PEERS).map(|_| peer(&self.publisher)).collect();
    }

    fn step(&mut self, context: &str) {
        let at = self.random.below(PEERS as u64) as usize;
        match self.random.below(20) {
            0..=4 => self.publish(),
            5..=11 => self.settle(at),
            12..=14 if self.peers[at].consumer.is_none() => self.attach(at),
            12..=15 => self.grant(at),
            16 => self.detach(at),
            17 => self.get(context),
            18 if self.kind == Kind::OnDisk && self.random.below(4) == 0 => self.restart(),
            19 if self.random.below(20) == 0 => {
                let purged = self.publisher.vhost.purge_queue(b"q", self.publisher.id).unwrap();
                assert_eq!(purged, std::mem::take(&mut self.ready).len() as u64, "{context}");
            }
            _ => {}
        }
    }

    /// Has everything delivered that can be, and compares.
    fn deliver(&mut self, context: &str) {
        let mut came = vec![Vec::new(); PEERS];
        loop {
            let mut is_over = true;
            for (peer, came) in self.peers.iter_mut().zip(&mut came) {
                let (c, mut taken) = (&mut peer.connection, Taken::default());
                let rings = c.bell.rings.load(Ordering::SeqCst);
                c.client.deliver(&mut c.router, &mut taken);
                is_over &= taken.deliveries.is_empty() && rings == c.bell.rings.load(Ordering::SeqCst);
                came.extend(taken.deliveries);
            }
            if is_over {
                break;
            }
        }
        let list: BTreeMap<u64, usize> =
            self.ready.iter().enumerate().map(|(place, number)| (number & !RETURNED, place)).collect();
        for (peer, came) in self.peers.iter_mut().zip(came) {
            let mut last = None;
            for delivery in came {
                let (number, consumer) = (number(&delivery.body), peer.consumer.as_mut().unwrap());
                let place = *list.get(&number).unwrap_or_else(|| panic!("{context}: {number} was not ready"));
                assert!(consumer.wants(number), "{context}: {number} is not wanted");
                assert!(last < Some(place), "{context}: {number} is out of order");
                last = Some(place);
                if let Some(credit) = &mut consumer.credit {
                    *credit = credit.checked_sub(1).unwrap_or_else(|| panic!("{context}: no credit"));
                }
                let before = self.ready.len();
                self.ready.retain(|other| other & !RETURNED != number);
                assert_eq!(self.ready.len() + 1, before, "{context}: {number} came twice");
                if !consumer.no_ack {
                    peer.held.insert(delivery.tag, number);
                }
            }
        }
        for consumer in self.peers.iter().filter_map(|peer| peer.consumer) {
            let left = self.ready.iter().map(|number| number & !RETURNED).find(|it| consumer.wants(*it));
            assert!(consumer.credit == Some(0) || left.is_none(), "{context}: {left:?} is left");
        }
        let held: usize = self.peers.iter().map(|peer| peer.held.len()).sum();
        let queue = self.publisher.vhost.queue(b"q").unwrap();
        assert_eq!((queue.status().messages, queue.unsettled()), (self.ready.len() as u64, held as u64));
    }
}

/// The mark of a message that came back and comes first.
const RETURNED: u64 = 1 << 63;

fn start(disk: &Arc<Disk>, account: &Arc<MemoryAccount>) -> Connection {
    let mut router = kit::Native::default();
    let vhost = Vhost::kept_in(disk.clone(), name("/"), account.clone(), &mut router).unwrap();
    Connection { router, ..Connection::to(&vhost) }
}

fn histories(kind: Kind, seeds: u64) {
    let mut pages = 0;
    for seed in 1..=seeds {
        let mut world = World::new(kind, seed);
        for step in 0..STEPS {
            let context = format!("{kind:?}, seed {seed}, step {step}");
            world.step(&context);
            world.deliver(&context);
        }
        for at in 0..PEERS {
            world.detach(at);
            world.deliver(&format!("{kind:?}, seed {seed}, at the end"));
        }
        let mut rest = Vec::new();
        while {
            let before = rest.len();
            let note = &mut |got: leveret_broker::Got<'_>| rest.push(number(got.message.body));
            world.publisher.client.get(1, b"q", true, &mut world.publisher.router, note).unwrap();
            rest.len() > before
        } {}
        let expected: Vec<_> = world.ready.iter().map(|number| number & !RETURNED).collect();
        assert_eq!(rest, expected, "{kind:?}, seed {seed}");
        world.publisher.client.tell_store();
        assert_eq!((world.account.bytes(), world.disk.pages()), (0, 0), "{kind:?}, seed {seed}");
        pages += world.disk.pages_written();
    }
    assert!(kind != Kind::Paged || pages > 100, "{pages} pages");
}

#[test]
fn a_queue_in_memory_is_as_the_list() {
    histories(Kind::Classic, 60);
}

#[test]
fn a_queue_that_is_mostly_on_disk_is_as_the_list() {
    histories(Kind::OnDisk, 25);
}

#[test]
fn a_queue_that_is_mostly_in_pages_is_as_the_list() {
    histories(Kind::Paged, 25);
}

#[test]
fn a_quorum_queue_is_as_the_list() {
    histories(Kind::Quorum, 60);
}
