//! What the tests of this crate share: a router with native types, a sink, a connection.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test file uses a part of it")]

mod attached;
mod disk;
mod native;
mod queues;
mod stages;
mod wants;

pub use attached::{At, Attached};
pub use disk::Disk;
pub use native::{Gate, Native};
pub use queues::{Ageing, Every, kept_letters, letters, number, quorum, string, table};
pub use wants::Wants;

use leveret_amqp091::FORM;
use leveret_broker::{
    Client, ConnectionId, ConsumeSpec, Delivery, ExchangeSpec, MemoryAccount, Publish, Published, Publisher,
    QueueSpec, Sink, Vhost,
    later::{Housekeeping, Ran},
    port::{Router, Wake},
};
use leveret_model::{MessageView, Name, Table, Value};
use std::{
    collections::HashSet,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// Counts wakes, and lets a thread wait for the next.
#[derive(Default)]
pub struct Bell {
    pub rings: AtomicUsize,
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Waits until it was rung since the last time.
    pub fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// A delivery, copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub channel: u16,
    pub consumer: String,
    pub tag: u64,
    pub redelivered: bool,
    pub exchange: String,
    pub key: String,
    pub body: Vec<u8>,
}

/// A sink with room for so many deliveries.
pub struct Taken {
    pub room: usize,
    pub deliveries: Vec<Delivered>,
}

impl Default for Taken {
    fn default() -> Self {
        Self { room: usize::MAX, deliveries: Vec::new() }
    }
}

impl Sink for Taken {
    fn has_room(&self) -> bool {
        self.deliveries.len() < self.room
    }
    fn deliver(&mut self, delivery: Delivery<'_>) {
        assert!(self.has_room());
        self.deliveries.push(Delivered {
            channel: delivery.channel,
            consumer: delivery.consumer_tag.to_text(),
            tag: delivery.delivery_tag,
            redelivered: delivery.redelivered,
            exchange: String::from_utf8_lossy(delivery.message.exchange).into_owned(),
            key: String::from_utf8_lossy(delivery.message.routing_key).into_owned(),
            body: delivery.message.body.to_vec(),
        });
    }
}

pub fn message<'a>(exchange: &'a str, key: &'a str, body: &'a [u8]) -> MessageView<'a> {
    MessageView {
        exchange: exchange.as_bytes(),
        routing_key: key.as_bytes(),
        form: FORM,
        properties: &[0, 0],
        body,
        publisher: None,
    }
}

/// A message that a stage `hold` delays by so many milliseconds.
pub fn delayed<'a>(exchange: &'a str, key: &'a str, delay_ms: &'a str, body: &'a str) -> MessageView<'a> {
    MessageView { properties: delay_ms.as_bytes(), ..message(exchange, key, body.as_bytes()) }
}

/// Delivery mode 2 and nothing else.
pub const PERSISTENT: &[u8] = &[0x10, 0, 2];

pub fn name(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

pub fn text(name: &str, value: &str) -> Table {
    [(self::name(name), Value::Text(String::from(value)))].into_iter().collect()
}

pub fn memory() -> Arc<MemoryAccount> {
    Arc::new(MemoryAccount::new(1 << 30))
}

pub fn exchange(name: &str, type_name: &str) -> ExchangeSpec {
    ExchangeSpec {
        name: self::name(name),
        type_name: self::name(type_name),
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    }
}

pub fn with_alternate(name: &str, type_name: &str, alternate: &str) -> ExchangeSpec {
    ExchangeSpec { arguments: text("alternate-exchange", alternate), ..exchange(name, type_name) }
}

/// A queue with a dead-letter exchange and perhaps a key.
pub fn with_dead_letters(name: &str, exchange: &str, key: Option<&str>) -> QueueSpec {
    let mut arguments = text("x-dead-letter-exchange", exchange);
    if let Some(key) = key {
        arguments.push(self::name("x-dead-letter-routing-key"), Value::Text(String::from(key)));
    }
    QueueSpec { arguments, ..queue(name) }
}

pub fn queue(name: &str) -> QueueSpec {
    QueueSpec { name: self::name(name), ..QueueSpec::default() }
}

/// A connection with channels 1 and 2, and all that it needs.
pub struct Connection {
    pub vhost: Arc<Vhost>,
    pub id: ConnectionId,
    pub router: Native,
    pub client: Client,
    pub publisher: Publisher,
    pub bell: Arc<Bell>,
    /// How the housekeeper of the vhost publishes, where this connection plays it.
    pub housekeeper: Housekeeping,
}

impl Connection {
    pub fn first() -> Self {
        let vhost = Vhost::new(name("/"), memory(), &mut Native::default()).unwrap();
        Self::to(&vhost)
    }

    /// In a vhost where these are attached.
    pub fn past(attached: Vec<Attached>) -> Self {
        let mut router = Native::default();
        router.attached = attached;
        let vhost = Vhost::new(name("/"), memory(), &mut router).unwrap();
        Self { router, ..Self::to(&vhost) }
    }

    /// In a vhost where these are attached, and whose state is written there.
    pub fn kept_in(disk: Arc<Disk>, attached: Vec<Attached>) -> Self {
        let mut router = Native::default();
        router.attached = attached;
        let vhost = Vhost::kept_in(disk, name("/"), memory(), &mut router).unwrap();
        Self { router, ..Self::to(&vhost) }
    }

    pub fn to(vhost: &Arc<Vhost>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = ConnectionId(LAST.fetch_add(1, Ordering::SeqCst) + 1);
        let bell = Arc::new(Bell::default());
        let mut client = Client::new(vhost.clone(), id, bell.clone());
        client.open_channel(1);
        client.open_channel(2);
        let (router, publisher, housekeeper) =
            (Native::default(), Publisher::default(), Housekeeping::default());
        Self { vhost: vhost.clone(), id, router, client, publisher, bell, housekeeper }
    }

    /// Another connection to the same vhost, whose types share their memory with this one's.
    pub fn sibling(&self) -> Self {
        let mut sibling = Self::to(&self.vhost);
        sibling.router.memory = self.router.memory.clone();
        sibling
    }

    /// Lets time pass, and the housekeeper do all that is due.
    pub fn pass(&mut self, milliseconds: u64) {
        self.router.memory.lock().unwrap().now_ms += milliseconds;
        while self.run().more {}
    }

    /// One run of the housekeeper.
    pub fn run(&mut self) -> Ran {
        let ran = self.vhost.run_later(&mut self.router, &mut self.housekeeper);
        let now_ms = self.router.now_ms();
        if self.vhost.errands_due(now_ms) {
            self.vhost.run_errands(&mut self.router);
        }
        Ran { more: ran.more || self.vhost.errands_due(now_ms), ..ran }
    }

    pub fn exchange(&mut self, spec: ExchangeSpec) {
        self.vhost.declare_exchange(&mut self.router, spec).unwrap();
    }

    pub fn queue(&mut self, name: &str) {
        self.vhost.declare_queue(queue(name), self.id).unwrap();
    }

    pub fn bind(&mut self, source: &str, to: leveret_broker::BindTo<'_>, key: &str) {
        self.vhost
            .bind(&mut self.router, source.as_bytes(), to, key.as_bytes(), Table::new(), self.id)
            .unwrap();
    }

    pub fn unbind(&mut self, source: &str, to: leveret_broker::BindTo<'_>, key: &str) {
        self.vhost
            .unbind(&mut self.router, source.as_bytes(), to, key.as_bytes(), Table::new(), self.id)
            .unwrap();
    }

    pub fn publish_all(&mut self, messages: &[MessageView<'_>]) -> Vec<Published> {
        self.publish_batch(messages, false)
    }

    pub fn publish_batch(&mut self, messages: &[MessageView<'_>], mandatory: bool) -> Vec<Published> {
        let batch: Vec<_> = messages
            .iter()
            .map(|message| Publish { channel: 1, message: *message, mandatory, more_keys: None })
            .collect();
        let mut outcomes = Vec::new();
        let waker: Arc<dyn Wake> = self.bell.clone();
        let done = self.publisher.publish(&self.vhost, &mut self.router, &batch, &mut outcomes, &waker);
        self.client.bury(&mut self.publisher, &mut self.router);
        assert_eq!(done, outcomes.len());
        outcomes
    }

    pub fn publish(&mut self, exchange: &str, key: &str, body: &str) -> Published {
        self.publish_all(&[message(exchange, key, body.as_bytes())]).pop().unwrap()
    }

    pub fn publish_one(&mut self, message: MessageView<'_>) -> Published {
        self.publish_all(&[message]).pop().unwrap()
    }

    /// Starts a consumer on channel 1.
    pub fn consume(&mut self, queue: &str, tag: &str, no_ack: bool) {
        let spec = ConsumeSpec { queue: name(queue), tag: name(tag), no_ack, ..ConsumeSpec::default() };
        assert_eq!(self.client.consume(1, spec), Ok(name(tag)));
    }

    /// What is delivered now.
    pub fn deliveries(&mut self) -> Vec<Delivered> {
        let mut taken = Taken::default();
        assert!(!self.client.deliver(&mut self.router, &mut taken));
        taken.deliveries
    }

    /// The bodies delivered now.
    pub fn bodies(&mut self) -> Vec<String> {
        self.deliveries().into_iter().map(|delivery| String::from_utf8(delivery.body).unwrap()).collect()
    }

    /// Gets one message on channel 1: tag, redelivered, body.
    pub fn get(&mut self, queue: &str) -> Option<(u64, bool, String)> {
        let mut got = None;
        let any = self.client.get(1, queue.as_bytes(), false, &mut self.router, &mut |message| {
            let body = String::from_utf8(message.message.body.to_vec()).unwrap();
            got = Some((message.delivery_tag, message.redelivered, body));
        });
        assert_eq!(any, Ok(got.is_some()));
        got
    }

    /// Empties a queue by getting without acks: exchange, key and body of each.
    pub fn drain(&mut self, queue: &str) -> Vec<(String, String, String)> {
        let mut all = Vec::new();
        while self
            .client
            .get(1, queue.as_bytes(), true, &mut self.router, &mut |got| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                all.push((text(got.message.exchange), text(got.message.routing_key), text(got.message.body)));
            })
            .unwrap()
        {}
        all
    }

    /// Empties a queue: the bodies.
    pub fn drain_bodies(&mut self, queue: &str) -> Vec<String> {
        self.drain(queue).into_iter().map(|(_, _, body)| body).collect()
    }

    /// Which of these queues have a message; they are emptied. Each may have one at most.
    pub fn receivers<'a>(&mut self, queues: &[&'a str]) -> HashSet<&'a str> {
        let mut receivers = HashSet::new();
        for queue in queues {
            let got = self.drain(queue).len();
            assert!(got <= 1, "{queue} has {got} copies");
            if got == 1 {
                receivers.insert(*queue);
            }
        }
        receivers
    }

    pub fn ready(&self, queue: &str) -> u64 {
        self.vhost.queue(queue.as_bytes()).unwrap().status().messages
    }
}

/// A small deterministic generator (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What was written of a durable queue `q` with the messages 1 to 6, by a broker that is gone.
#[allow(dead_code, reason = "each test uses a part")]
pub fn six_kept() -> Arc<Disk> {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    c.vhost.declare_queue(QueueSpec { durable: true, ..queue("q") }, c.id).unwrap();
    let persistent =
        |body: &'static str| MessageView { properties: PERSISTENT, ..message("", "q", body.as_bytes()) };
    c.publish_all(&["1", "2", "3", "4", "5", "6"].map(persistent));
    drop(c);
    disk
}
