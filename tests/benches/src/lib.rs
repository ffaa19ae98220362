//! What the benchmarks of the plugin boundary stand on: a host with one worker, a vhost with
//! exchanges that lead to real queues, and messages as they lie in a read buffer.
//!
//! *Not here:* the measurements (`benches/`), and any access to the
//! plugin host that the broker does not have.
//!
//! *In and out:* exchange types, bindings and keys go in; batches are routed through
//! [`Router::route`], as the broker does for each chunk that it reads.
//!
//! *Invariants:* nothing is measured here; a set-up that fails panics.

#![allow(clippy::expect_used, reason = "a set-up that fails ends the benchmark")]

use leveret_amqp091::properties::MessageProperties;
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec, MemoryAccount, QueueSpec, Vhost,
    exchange::Exchange,
    port::{Answer, Layer, Routed, Router, Wake},
};
use leveret_model::{MessageView, Name, Reads, Refusal, Table, Value};
use leveret_plugin::{Host, HostConfig, Worker};
use rustix::time::{ClockId, clock_gettime};
use std::{path::Path, sync::Arc, time::Duration};

/// How many queues there are to bind.
pub const QUEUES: usize = 100;

const BY: ConnectionId = ConnectionId(1);

/// A host and a vhost, for any number of threads with a worker each.
pub struct World {
    /// The host of the plugins.
    pub host: Arc<Host>,
    vhost: Arc<Vhost>,
}

impl World {
    /// A world with the built-in types, so much memory for remembered answers, and [`QUEUES`]
    /// queues.
    #[must_use]
    pub fn new(workers: usize, memo_bytes_max: usize) -> Self {
        let host =
            Host::new(HostConfig { workers, memo_bytes_max, ..HostConfig::default() }).expect("a host");
        let memory = Arc::new(MemoryAccount::new(1 << 30));
        let vhost = Vhost::new(Name::from_static("/"), memory, &mut host.worker(0)).expect("a vhost");
        for number in 0..QUEUES {
            let spec = QueueSpec {
                name: name(queue(number).as_bytes()),
                durable: false,
                exclusive: false,
                auto_delete: false,
                arguments: Table::new(),
            };
            vhost.declare_queue(spec, BY).expect("a queue");
        }
        Self { host, vhost }
    }

    /// Loads a guest of `tests/guests`, built first.
    pub fn load(&self, guest: &str) {
        let bytes = std::fs::read(leveret_testkit::guests::component(guest)).expect("the guest's file");
        self.host.registry().offer(Path::new(guest), &bytes).expect("the guest is put into service");
    }

    /// Declares an exchange.
    pub fn declare(&self, worker: &mut Worker, exchange: &str, type_name: &'static str) -> Arc<Exchange> {
        let spec = ExchangeSpec {
            name: name(exchange.as_bytes()),
            type_name: Name::from_static(type_name),
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
        };
        self.vhost.declare_exchange(worker, spec).expect("the exchange is taken");
        self.exchange(exchange)
    }

    /// An exchange that was declared.
    #[must_use]
    pub fn exchange(&self, exchange: &str) -> Arc<Exchange> {
        self.vhost.exchange(exchange.as_bytes()).expect("it is there")
    }

    /// Binds the queue of a number.
    ///
    /// # Errors
    /// The broker's refusal.
    pub fn bind(
        &self,
        worker: &mut Worker,
        exchange: &str,
        number: usize,
        key: &str,
        arguments: Table,
    ) -> Result<(), Refusal> {
        let queue = queue(number % QUEUES);
        let to = BindTo::Queue(queue.as_bytes());
        self.vhost.bind(worker, exchange.as_bytes(), to, key.as_bytes(), arguments, BY).map(drop)
    }

    /// Unbinds the queue of a number.
    ///
    /// # Errors
    /// The broker's refusal.
    pub fn unbind(
        &self,
        worker: &mut Worker,
        exchange: &str,
        number: usize,
        key: &str,
    ) -> Result<(), Refusal> {
        let queue = queue(number % QUEUES);
        let to = BindTo::Queue(queue.as_bytes());
        self.vhost.unbind(worker, exchange.as_bytes(), to, key.as_bytes(), Table::new(), BY)
    }
}

fn queue(number: usize) -> String {
    format!("queue-{number}")
}

/// A short name.
fn name(bytes: &[u8]) -> Name {
    Name::new(bytes).expect("a short name")
}

/// Nobody waits: a worker that knows all bindings is never pending.
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// Routes batch after batch.
pub struct Publisher {
    /// Without it the exchange loses its bindings.
    _vhost: Arc<Vhost>,
    worker: Worker,
    exchange: Arc<Exchange>,
    answers: Vec<Answer>,
    waker: Arc<dyn Wake>,
}

impl Publisher {
    /// A publisher to that exchange on that worker.
    #[must_use]
    pub fn new(world: &World, worker: Worker, exchange: Arc<Exchange>) -> Self {
        let vhost = world.vhost.clone();
        Self { _vhost: vhost, worker, exchange, answers: Vec::new(), waker: Arc::new(Nobody) }
    }

    /// The worker.
    #[must_use]
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Routes a batch; gives how many destinations there were.
    #[inline]
    pub fn route(&mut self, messages: &[MessageView<'_>]) -> usize {
        self.answers.clear();
        // Built away from this thread where the replay is long; asked in turns where the plugin is not the
        // broker's own.
        loop {
            let messages = &mut messages.iter().skip(self.answers.len());
            let answers = &mut self.answers;
            match self.worker.route(&self.exchange, Layer::FRONT, messages, answers, &self.waker) {
                Routed::Ready => break,
                Routed::Cut => {}
                Routed::Pending => std::thread::yield_now(),
            }
        }
        self.answers.iter().map(destinations).sum()
    }
}

fn destinations(answer: &Answer) -> usize {
    match answer {
        Answer::Deliver(routes) => routes.targets().queues.len(),
        Answer::Drop(..) | Answer::Reject(..) | Answer::Hold(_) => 0,
        Answer::Effective(effective) => destinations(&effective.answer),
        Answer::Failed(refusal) => panic!("the type failed: {refusal}"),
    }
}

/// How much CPU time this thread has used: what else the machine does is not measured.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Numbers that look random and are the same in each run.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// From the beginning.
    #[must_use]
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// The next number below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Self::new()
    }
}

/// How many values the first part of a key and the first header of a message have.
const FEW: usize = 1_000;

fn text(number: usize) -> Value {
    Value::Text(format!("r{number}"))
}

/// A key of three words, for a number of a thousand and another.
#[must_use]
pub fn key(number: usize) -> String {
    format!("orders.{}.{}", number % FEW, number / FEW)
}

/// Properties of AMQP 0-9-1 with three headers, of which bindings name two.
#[must_use]
pub fn header_properties(number: usize) -> Vec<u8> {
    let headers = [
        (Name::from_static("region"), text(number % FEW)),
        (Name::from_static("kind"), text(number / FEW)),
        (Name::from_static("unread"), text(number)),
    ];
    MessageProperties { headers: Some(headers.into_iter().collect()), ..Default::default() }.encode()
}

/// Arguments of a binding to one of those headers.
#[must_use]
pub fn header_binding(number: usize) -> Table {
    let (name, value) = match number {
        0..900 => ("region", text(number)),
        _ => ("kind", text(number - 900)),
    };
    [(Name::from_static(name), value)].into_iter().collect()
}

/// A batch as a component gets it (`wit/CONTRACT.md`, "Batches").
pub fn lay_out<'a, 'b: 'a>(
    messages: impl IntoIterator<Item = &'a MessageView<'b>>,
    reads: &Reads,
    flat: &mut Vec<u8>,
) {
    flat.clear();
    for message in messages {
        let start = flat.len();
        flat.extend_from_slice(&[0; 4]);
        message.project(reads, flat);
        let length = u32::try_from(flat.len() - start - 4).expect("short").to_le_bytes();
        flat[start..start + 4].copy_from_slice(&length);
    }
}

/// Messages in a row: their bytes back to back, as in a read buffer.
#[must_use]
pub fn messages(contents: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<MessageView<'static>> {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for (key, properties) in contents {
        bytes.extend_from_slice(key.as_bytes());
        let key_end = bytes.len();
        bytes.extend_from_slice(&properties);
        ends.push((key_end, bytes.len()));
    }
    // For as long as the benchmark runs.
    let bytes: &'static [u8] = bytes.leak();
    let mut start = 0;
    ends.into_iter()
        .map(|(key_end, end)| {
            let (key, properties) = (bytes.get(start..key_end), bytes.get(key_end..end));
            start = end;
            MessageView {
                exchange: b"x",
                routing_key: key.unwrap_or_default(),
                form: leveret_amqp091::FORM,
                properties: properties.unwrap_or_default(),
                body: b"a body that nobody reads",
                publisher: None,
            }
        })
        .collect()
}
