//! At the port between broker and plugin host, with real guests: answers are kept, dropped and committed as a
//! transaction would.

use leveret_amqp091::form::FORM;
use leveret_broker::{
    BindTo, ConnectionId, ExchangeSpec, MemoryAccount, QueueSpec, Vhost,
    exchange::Exchange,
    port::{Answer, Fate, Layer, Routed, Router, Wake},
};
use leveret_model::{MessageView, Name, Table};
use leveret_plugin::{
    Host, HostConfig, Policies, Worker,
    policy::{Capability, PluginRules, PolicyRules},
};
use leveret_testkit::guests;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Two workers with the guest `x-obeys` behind one exchange, and a queue.
struct World {
    _host: Arc<Host>,
    workers: [Worker; 2],
    exchange: Arc<Exchange>,
    woken: Arc<Woken>,
}

impl World {
    fn new() -> Self {
        let mut rules = PolicyRules::default();
        let grants = Some(Capability::ALL.into_iter().collect());
        rules.plugins.insert("obeys".into(), PluginRules { grants, ..PluginRules::default() });
        let policies = Arc::new(Policies::new(rules).unwrap());
        let host = Host::new(HostConfig { workers: 2, policies, form: Some(FORM), ..HostConfig::default() })
            .unwrap();
        let component = std::fs::read(guests::component("obeys")).unwrap();
        host.registry().offer(Path::new("obeys.wasm"), &component).unwrap();
        let mut workers = [host.worker(0), host.worker(1)];
        let memory = Arc::new(MemoryAccount::new(1 << 30));
        let vhost = Vhost::new(Name::from_static("/"), memory, &mut workers[0]).unwrap();
        let spec = ExchangeSpec {
            name: Name::from_static("x"),
            type_name: Name::from_static("x-obeys"),
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
        };
        vhost.declare_exchange(&mut workers[0], spec).unwrap();
        let by = ConnectionId(1);
        vhost.declare_queue(QueueSpec { name: Name::from_static("q"), ..QueueSpec::default() }, by).unwrap();
        vhost.bind(&mut workers[0], b"x", BindTo::Queue(b"q"), b"", Table::new(), by).unwrap();
        let exchange = vhost.exchange(b"x").unwrap();
        let mut world = Self { _host: host, workers, exchange, woken: Arc::default() };
        // Instances are made beside the workers.
        (0..2).for_each(|worker| drop(world.await_answers(worker, &[])));
        world.woken = Arc::default();
        world
    }

    /// Asks as often as it takes until something is answered.
    fn await_answers(&mut self, worker: usize, commands: &[&str]) -> (Routed, Vec<Answer>) {
        loop {
            let before = self.woken.count();
            let (routed, answers) = self.route(worker, commands);
            if routed != Routed::Pending {
                return (routed, answers);
            }
            while self.woken.count() == before {
                std::thread::yield_now();
            }
        }
    }

    /// Asks a worker about messages with these commands.
    fn route(&mut self, worker: usize, commands: &[&str]) -> (Routed, Vec<Answer>) {
        let messages: Vec<MessageView<'_>> = commands
            .iter()
            .map(|commands| MessageView {
                exchange: b"x",
                routing_key: commands.as_bytes(),
                form: FORM,
                properties: FORM.empty(),
                body: b"body",
                publisher: None,
            })
            .collect();
        let waker: Arc<dyn Wake> = self.woken.clone();
        let mut answers = Vec::new();
        let routed = self.workers[worker].route(
            &self.exchange,
            Layer::FRONT,
            &mut messages.iter(),
            &mut answers,
            &waker,
        );
        (routed, answers)
    }

    /// Asks about one message that is answered at once.
    fn answer(&mut self, worker: usize, commands: &str) -> Answer {
        let (routed, mut answers) = self.route(worker, &[commands]);
        assert_eq!((routed, answers.len()), (Routed::Ready, 1), "{commands}");
        answers.remove(0)
    }
}

fn settle(answer: Answer, fate: Fate) {
    let Answer::Effective(effective) = answer else { panic!("it has effects: {answer:?}") };
    let message = MessageView {
        exchange: b"x",
        routing_key: b"",
        form: FORM,
        properties: FORM.empty(),
        body: b"",
        publisher: None,
    };
    effective.effects.commit(fate, &message, &mut Vec::new());
}

fn is_duplicate(answer: &Answer) -> bool {
    // Where there is state, every answer lasts until somebody is done with it.
    let answer = match answer {
        Answer::Effective(effective) => &effective.answer,
        answer => answer,
    };
    matches!(answer, Answer::Drop(Some(reason), _) if &**reason == "duplicate")
}

#[test]
fn what_is_rolled_back_was_not_seen() {
    let mut world = World::new();
    for worker in [0, 1, 0] {
        // As a transaction that is rolled back: nobody commits.
        drop(world.answer(worker, "once a"));
    }
    // As an enqueue that fails because the queue went meanwhile: the message is unroutable.
    settle(world.answer(0, "once a"), Fate::Unroutable);
    settle(world.answer(1, "once a"), Fate::Routed);
    assert!((0..2).all(|worker| is_duplicate(&world.answer(worker, "once a"))));
}

#[test]
fn of_two_with_the_same_key_at_once_exactly_one_gets_through() {
    for first_is_refused in [false, true] {
        let mut world = World::new();
        let first = world.answer(0, "once a");
        let (routed, answers) = world.route(1, &["once a"]);
        assert_eq!((routed, answers.len(), world.woken.count()), (Routed::Pending, 0, 0), "it is in doubt");
        // Other keys, and the same publisher's, are not concerned, but come in their order.
        settle(world.answer(1, "once b"), Fate::Routed);
        match first_is_refused {
            true => drop(first),
            false => settle(first, Fate::Routed),
        }
        assert!(world.woken.count() >= 1, "whoever waits is told");
        let second = world.answer(1, "once a");
        assert_eq!(is_duplicate(&second), !first_is_refused);
        if first_is_refused {
            settle(second, Fate::Routed);
            assert!(is_duplicate(&world.answer(0, "once a")), "now one has got through");
        }
    }
}

#[test]
fn a_batch_is_cut_where_it_waits_for_itself() {
    let mut world = World::new();
    let (routed, mut answers) = world.route(0, &["once a", "once b", "once a", "once c"]);
    assert_eq!((routed, answers.len()), (Routed::Cut, 2), "the third waits for the first");
    settle(answers.remove(0), Fate::Routed);
    drop(answers);
    assert!(is_duplicate(&world.answer(0, "once a")));
    assert!(!is_duplicate(&world.answer(0, "once b")), "b was never accepted");
}

#[test]
fn a_trap_leaves_the_effects_of_the_messages_before_it() {
    let mut world = World::new();
    let (routed, mut answers) = world.route(0, &["once a", "once b;trap", "once c"]);
    assert_eq!((routed, answers.len()), (Routed::Cut, 2), "the instance is gone");
    assert!(matches!(answers[1], Answer::Failed(_)), "{:?}", answers[1]);
    settle(answers.remove(0), Fate::Routed);
    // The rest is asked beside the worker.
    let (routed, mut answers) = world.await_answers(0, &["once c"]);
    assert_eq!((routed, answers.len()), (Routed::Ready, 1));
    settle(answers.remove(0), Fate::Dropped);
    assert!(is_duplicate(&world.answer(1, "once a")) && is_duplicate(&world.answer(1, "once c")));
    assert!(!is_duplicate(&world.answer(1, "once b")));
}
