//! Instructions of a message whose exchange type is a component, and of the same whose type is native code.
//!
//! ```text
//! cargo build --locked --release -p leveret-server -p leveret-twin
//! target/release/leveret-twin
//! target/release/leveret-twin parts topic
//! ```
//!
//! One connection publishes 16 bytes to an exchange and consumes them from a queue, driven by bytes in one thread: frames
//! in, routing, the queue, frames out. Counted by callgrind, so a busy machine changes nothing; sockets and tasks are not
//! in it. The native twin is the plugin's own crate behind the broker's port, compiled into this program alone. Each is
//! counted with a memory for answers and without, and its twin the same: the component's is the host's, of 8 MiB an exchange; the
//! twin's is a hash map of all it was asked, which never forgets and counts nothing. Without one, a component is asked about
//! 64 messages in one call.

#![allow(clippy::expect_used, reason = "a measurement that cannot go on ends")]

mod parts;
mod served;

use foldhash::fast::RandomState;
use leveret_amqp091::client;
use leveret_benches::{Numbers, header_binding, header_properties, key, lay_out};
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec,
    exchange::{BindingId, Exchange, RouteSet},
    port::{
        Answer, Layer, Router,
        fixed::{FixedTypes, Told},
    },
    queue::Queue,
};
use leveret_exchange_direct::Direct;
use leveret_exchange_headers::Headers;
use leveret_exchange_topic::Topic;
use leveret_instructions::{
    broker::{Broker, QUEUE},
    guard::{Counts, Guard, instructions},
    world::{CHANNEL, World},
};
use leveret_model::{HeaderSelection, MessageView, Name, Reads, Table};
use leveret_plugin::{Host, HostConfig, Worker, pace::InlineTimes};
use leveret_sdk::{Arguments, ExchangeType, testkit};
use std::{collections::HashMap, path::Path, process::ExitCode, sync::Arc, time::Duration};

/// How many messages come in one read.
const BATCH: usize = 64;
/// How many reads are counted, after as many that are not.
const ROUNDS: usize = 200;
/// What a call of a component may take there: under valgrind instructions are slow, and the host is not to take a
/// plugin for that.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many keys there are.
const KEYS: usize = 1_000;
/// The memory for answers of an exchange, in bytes.
const MEMO_BYTES: usize = 8 << 20;

/// An exchange type that is native code.
struct Native<T: ExchangeType> {
    open: Option<testkit::Exchange<T>>,
    reads: Reads,
    /// The broker's binding ids, by the test kit's.
    ids: HashMap<u64, BindingId>,
    sets: HashMap<Vec<u64>, RouteSet, RandomState>,
    /// The sets by their queues: as in the host, sets of the same destinations are one, which the broker sees at a look.
    shared: HashMap<Vec<*const Queue>, RouteSet, RandomState>,
    /// By projection; none if each message is asked about.
    memo: Option<HashMap<Vec<u8>, RouteSet, RandomState>>,
    flat: Vec<u8>,
}

impl<T: ExchangeType> Native<T> {
    fn new(reads: Reads, remembers: bool) -> Self {
        let memo = remembers.then(HashMap::default);
        let (sets, shared) = (HashMap::default(), HashMap::default());
        Self { open: None, reads, ids: HashMap::new(), sets, shared, memo, flat: Vec::new() }
    }

    /// Asks the type about messages that are laid out, and appends what it answers.
    fn ask(&mut self, exchange: &Exchange, answers: &mut Vec<Answer>) {
        let open = self.open.as_mut().expect("it is declared");
        let mut words = open.route_flat(&self.flat);
        while let Some((count, rest)) = words.split_first() {
            // To so many bindings: the types here decide nothing else.
            let (named, rest) = rest.split_at(*count as usize);
            words = rest;
            let set = match self.sets.get(named) {
                Some(set) => set.clone(),
                None => {
                    let mut ids = named.iter().filter_map(|id| self.ids.get(id).copied());
                    let (set, _) = exchange.resolve(&mut ids);
                    let queues = set.targets().queues.iter().map(Arc::as_ptr).collect();
                    let set = self.shared.entry(queues).or_insert(set).clone();
                    self.sets.insert(named.to_vec(), set.clone());
                    set
                }
            };
            answers.push(Answer::Deliver(set));
        }
    }

    fn remember(&mut self, exchange: &Exchange, message: &MessageView<'_>, answers: &mut Vec<Answer>) {
        self.flat.clear();
        message.project(&self.reads, &mut self.flat);
        let known = self.memo.as_ref().and_then(|memo| memo.get(&self.flat));
        if let Some(set) = known {
            answers.push(Answer::Deliver(set.clone()));
            return;
        }
        let projection = self.flat.clone();
        lay_out(std::slice::from_ref(message), &self.reads, &mut self.flat);
        self.ask(exchange, answers);
        if let (Some(Answer::Deliver(set)), Some(memo)) = (answers.last(), &mut self.memo) {
            memo.insert(projection, set.clone());
        }
    }
}

impl<T: ExchangeType> FixedTypes for Native<T> {
    fn answer(
        &mut self,
        exchange: &Arc<Exchange>,
        _: Layer,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
    ) {
        if self.memo.is_some() {
            messages.for_each(|message| self.remember(exchange, message, answers));
        } else {
            lay_out(messages, &self.reads, &mut self.flat);
            self.ask(exchange, answers);
        }
    }
    fn told(&mut self, exchange: &Exchange, what: Told<'_>) {
        match what {
            // The twin answers for one exchange; the virtual host has others of its own.
            Told::Open if exchange.spec.name.as_bytes() == b"x" => {
                self.open = Some(testkit::Exchange::open(Arguments::new()).expect("it opens"));
            }
            Told::Bind(candidate) => {
                let arguments = candidate.arguments.iter().fold(Arguments::new(), |all, (name, value)| {
                    all.with(name.as_bytes(), value.as_text().expect("a text"))
                });
                let open = self.open.as_mut().expect("it is declared");
                let id =
                    open.bind(candidate.routing_key.as_bytes(), arguments).expect("the binding is taken");
                self.ids.insert(id.0, candidate.id);
            }
            _ => {}
        }
    }
}

/// An exchange type with bindings and messages.
struct Kind {
    type_name: &'static str,
    reads: fn() -> Reads,
    bindings: usize,
    binding: fn(usize) -> (String, Table),
    message: fn(usize) -> (String, Vec<u8>),
}

fn routing_key() -> Reads {
    Reads { routing_key: true, ..Reads::default() }
}

fn two_headers() -> Reads {
    let headers = ["kind", "region"].map(Name::from_static).to_vec();
    Reads { headers: HeaderSelection::Named(headers), ..Reads::default() }
}

fn plain(number: usize) -> (String, Vec<u8>) {
    (key(number), leveret_amqp091::properties::NONE.to_vec())
}

const KINDS: [Kind; 3] = [
    Kind {
        type_name: "direct",
        reads: routing_key,
        bindings: KEYS,
        binding: |number| (key(number), Table::new()),
        message: plain,
    },
    Kind {
        type_name: "topic",
        reads: routing_key,
        bindings: KEYS,
        binding: |number| (format!("orders.{number}.*"), Table::new()),
        message: plain,
    },
    Kind {
        type_name: "headers",
        reads: two_headers,
        bindings: KEYS,
        binding: |number| (String::new(), header_binding(number)),
        message: |number| (String::from("orders"), header_properties(number)),
    },
];

/// How a kind is counted.
const ARMS: [&str; 4] = ["native", "component", "native-remembered", "component-remembered"];

impl Kind {
    /// The bytes of reads: publishes with keys in an order that looks random.
    fn reads_of_publishes(&self, count: usize) -> Vec<Vec<u8>> {
        let mut numbers = Numbers::new();
        let mut read = || {
            let mut bytes = Vec::new();
            for _ in 0..BATCH {
                let (key, properties) = (self.message)(numbers.below(KEYS * 9 / 10));
                client::put_publish(
                    &mut bytes,
                    CHANNEL,
                    b"x",
                    key.as_bytes(),
                    &properties,
                    b"sixteen bytes...",
                    131_072,
                );
            }
            bytes
        };
        (0..count).map(|_| read()).collect()
    }

    /// Puts the messages on a broker whose exchange type somebody answers for; what that said before those that are counted,
    /// and after them.
    fn run<R: Router, S>(&self, mut types: R, said: impl Fn(&R) -> S) -> (S, S) {
        let broker = Broker::with(&mut types);
        let spec = ExchangeSpec {
            name: Name::from_static("x"),
            type_name: Name::from_static(self.type_name),
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
        };
        broker.vhost.declare_exchange(&mut types, spec).expect("the exchange is taken");
        for number in 0..self.bindings {
            let (key, arguments) = (self.binding)(number);
            let to = BindTo::Queue(QUEUE.as_bytes());
            let vhost = &broker.vhost;
            vhost
                .bind(&mut types, b"x", to, key.as_bytes(), arguments, ConnectionId(1))
                .expect("the binding is taken");
        }
        let mut world = World::with(broker, types, true);
        let reads = self.reads_of_publishes(2 * ROUNDS);
        let (warm_up, rest) = reads.split_at(ROUNDS);
        warm_up.iter().for_each(|read| assert_eq!(pass(&mut world, read), BATCH, "all go to the queue"));
        let (before, turns) = (said(world.types()), world.turns());
        rest.iter().for_each(|read| assert_eq!(counted(&mut world, read), BATCH, "all go to the queue"));
        assert_eq!(world.turns() - turns, ROUNDS as u64, "nothing is waited for");
        (before, said(world.types()))
    }

    fn run_natively<T: ExchangeType>(&self, remembers: bool) {
        self.run(Native::<T>::new((self.reads)(), remembers), |_| ());
    }

    fn run_arm(&self, arm: &str) {
        let remembers = arm.ends_with("remembered");
        if arm.starts_with("native") {
            match self.type_name {
                "direct" => self.run_natively::<Direct>(remembers),
                "topic" => self.run_natively::<Topic>(remembers),
                _ => self.run_natively::<Headers>(remembers),
            }
            return;
        }
        let memo_bytes_max = if remembers { MEMO_BYTES } else { 0 };
        let inline_times = InlineTimes { turn: PATIENCE, message_max: PATIENCE, call_max: PATIENCE };
        let config = HostConfig { workers: 1, memo_bytes_max, inline_times, ..HostConfig::default() };
        let host = Host::new(config).expect("a host");
        let (before, after) = self.run::<Worker, _>(host.worker(0), Worker::counters);
        let [asked, known] = [after.asked - before.asked, after.remembered - before.remembered];
        let all = (ROUNDS * BATCH) as u64;
        assert_eq!(if remembers { known } else { asked }, all, "the worker itself answers: {after:?}");
    }
}

fn pass<R: Router>(world: &mut World<R>, read: &[u8]) -> usize {
    let routed = world.receive(read);
    assert!(world.deliver() > BATCH, "all are delivered");
    routed
}

#[inline(never)]
fn counted<R: Router>(world: &mut World<R>, read: &[u8]) -> usize {
    pass(world, read)
}

/// Instructions a message.
fn count(type_name: &str, arm: &str) -> Result<f64, String> {
    counted_by(type_name, arm, None)
}

/// The same; which functions they are in is written to a file.
fn counted_by(type_name: &str, arm: &str, told_in: Option<&Path>) -> Result<f64, String> {
    let all = instructions(&["run", type_name, arm], &["*twin*counted*"], told_in)?;
    Ok(all as f64 / (BATCH * ROUNDS) as f64)
}

/// What a component costs: asked, and remembered.
fn guarded() -> Result<Counts, String> {
    let mut counts = Counts::new();
    for kind in &KINDS {
        for (arm, name) in [("component", "asked"), ("component-remembered", "remembered")] {
            counts.insert(format!("{}.{name}", kind.type_name), count(kind.type_name, arm)?.round() as u64);
        }
    }
    served::count(&mut counts)?;
    Ok(counts)
}

fn guard(write: bool) -> ExitCode {
    let guard = Guard {
        bounds: &Path::new(env!("CARGO_MANIFEST_DIR")).join("bounds.txt"),
        command: "target/release/leveret-twin guard",
        pairs: Vec::new(),
        more_percent: 0,
    };
    guard.report(guarded(), write)
}

/// Prints the table of both.
fn compare() -> Result<(), String> {
    println!(
        "Instructions of a message of 16 bytes, from a read to a write; {KEYS} keys, batches of {BATCH}."
    );
    println!("Memory for answers: none, and 8 MiB an exchange (component) or unbounded (native).");
    println!("{:<9}|{:>8}{:>10}{:>8} |{:>8}{:>10}{:>8}", "", "asked", "", "", "remem-", "bered", "");
    println!(
        "{:<9}|{:>8}{:>10}{:>8} |{:>8}{:>10}{:>8}",
        "type", "native", "component", "", "native", "component", ""
    );
    for kind in &KINDS {
        let mut counts = [0.0; ARMS.len()];
        for (count_of_it, arm) in counts.iter_mut().zip(ARMS) {
            *count_of_it = count(kind.type_name, arm)?;
        }
        let [native, component, known, remembered] = counts;
        let more = |than: f64, much: f64| format!("{:+.1} %", (much / than - 1.0) * 100.0);
        println!(
            "{:<9}|{native:>8.0}{component:>10.0}{:>8} |{known:>8.0}{remembered:>10.0}{:>8}",
            kind.type_name,
            more(native, component),
            more(known, remembered),
        );
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if served::is_called_so(&arguments) {
        return leveret_server::cli::run();
    }
    let done = match arguments[..] {
        ["run", type_name, arm] => {
            let kind = KINDS.iter().find(|kind| kind.type_name == type_name);
            kind.expect("a type of the table").run_arm(arm);
            Ok(())
        }
        ["parts", type_name] => parts::print(type_name, false),
        ["functions", type_name] => parts::print(type_name, true),
        ["guard"] => return guard(false),
        ["guard", "--write"] => return guard(true),
        [] => compare(),
        _ => Err(format!("'{}' is nothing to do; see README.md", arguments.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
