//! That nothing that happens to an instance changes where messages go: after any binds, unbinds, lost
//! instances, traps, kills and reloads, a worker routes as a fresh one does, and as is known to be right.

use super::{
    tests_of_keeping::{BY, Core, TOPIC_PATTERNS},
    *,
};
use crate::{
    builtin::BUILTINS,
    policy::Switch,
    registry::Lookup,
    testing::{self, Guest, World},
};
use leveret_broker::{BindTo, ExchangeSpec, QueueSpec};
use leveret_model::Table;
use proptest::prelude::*;
use std::{collections::BTreeSet, path::Path};

/// An exchange type next to how it is known to decide.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// One of the four that came with the broker.
    Core(Core),
    /// A file whose state follows from its bindings; said to be pure or not, asked in batches or not.
    File { pure: bool, batch: bool },
}

#[derive(Clone, Debug)]
enum Step {
    Bind(usize, usize),
    Unbind(usize, usize),
    /// The instance of a worker is gone: by a trap, where the type can be asked to.
    Lose(usize),
    /// The kill switch, there and back.
    Kill,
    /// Another version of the file takes over; a core type is loaded anew.
    Reload,
    /// The file is taken away and put back.
    Park,
    Route(usize, Vec<usize>),
}

/// How many bindings and how many messages are known.
const NUMBERS: usize = TOPIC_PATTERNS.len();

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Core(Core::Direct)),
        Just(Kind::Core(Core::Fanout)),
        Just(Kind::Core(Core::Topic)),
        Just(Kind::Core(Core::Headers)),
        any::<(bool, bool)>().prop_map(|(pure, batch)| Kind::File { pure, batch }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (worker, number) = (0_usize..2, 0_usize..NUMBERS);
    let step = prop_oneof![
        6 => (worker.clone(), number.clone()).prop_map(|(w, n)| Step::Bind(w, n)),
        4 => (worker.clone(), number.clone()).prop_map(|(w, n)| Step::Unbind(w, n)),
        2 => worker.clone().prop_map(Step::Lose),
        1 => Just(Step::Kill),
        2 => Just(Step::Reload),
        1 => Just(Step::Park),
        8 => (worker, proptest::collection::vec(number, 1..12)).prop_map(|(w, n)| Step::Route(w, n)),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A world with one exchange of that kind, and what is bound to it.
struct Replayed {
    world: World,
    kind: Kind,
    versions: Vec<Vec<u8>>,
    serving: usize,
    bound: BTreeSet<usize>,
}

impl Replayed {
    fn new(kind: Kind) -> Self {
        let mut world = World::empty(2);
        let versions = match kind {
            Kind::Core(_) => Vec::new(),
            Kind::File { pure, batch } => [1, 2]
                .map(|version| Guest { version, pure, batch, ..Guest::default() }.component())
                .into_iter()
                .collect(),
        };
        if let Some(first) = versions.first() {
            world.offer("guest.wasm", first).unwrap();
        }
        let type_name = match kind {
            Kind::Core(core) => core.type_name(),
            Kind::File { .. } => "x-test",
        };
        let spec = ExchangeSpec {
            name: Name::from_static("x"),
            type_name: Name::from_static(type_name),
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
        };
        world.vhost.declare_exchange(&mut world.workers[0], spec).unwrap();
        for number in 0..NUMBERS {
            let spec = QueueSpec {
                name: Name::new(number.to_string().as_bytes()).unwrap(),
                durable: false,
                exclusive: false,
                auto_delete: false,
                arguments: Table::new(),
            };
            world.vhost.declare_queue(spec, BY).unwrap();
        }
        Self { world, kind, versions, serving: 0, bound: BTreeSet::new() }
    }

    /// Key and arguments of a binding.
    fn binding(&self, number: usize) -> (&'static str, Table) {
        match self.kind {
            Kind::Core(core) => core.binding(number),
            Kind::File { .. } => Core::Direct.binding(number),
        }
    }

    fn message(&self, number: usize) -> MessageView<'static> {
        match self.kind {
            Kind::Core(core) => core.message(number),
            Kind::File { .. } => Core::Direct.message(number),
        }
    }

    fn expected(&self, message: usize) -> String {
        let matches = |binding: usize| match self.kind {
            Kind::Core(core) => core.matches(binding, message),
            Kind::File { .. } => Core::Direct.matches(binding, message),
        };
        let names = self.bound.iter().filter(|binding| matches(**binding)).map(usize::to_string);
        names.collect::<Vec<_>>().join(",")
    }

    fn bind(&mut self, worker: usize, number: usize) {
        let ((key, arguments), queue) = (self.binding(number), number.to_string());
        let (router, to) = (&mut self.world.workers[worker], BindTo::Queue(queue.as_bytes()));
        self.world.vhost.bind(router, b"x", to, key.as_bytes(), arguments, BY).unwrap();
        self.bound.insert(number);
    }

    fn unbind(&mut self, worker: usize, number: usize) {
        let ((key, arguments), queue) = (self.binding(number), number.to_string());
        let (router, to) = (&mut self.world.workers[worker], BindTo::Queue(queue.as_bytes()));
        self.world.vhost.unbind(router, b"x", to, key.as_bytes(), arguments, BY).unwrap();
        self.bound.remove(&number);
    }

    fn lose(&mut self, worker: usize) {
        match self.kind {
            Kind::Core(core) => {
                let registry = self.world.host.registry();
                let Lookup::Serving(version) =
                    registry.lookup(self.world.vhost.name(), core.type_name().as_bytes())
                else {
                    panic!("it serves")
                };
                self.world.workers[worker].homes.discard(version.id);
            }
            Kind::File { .. } => {
                let answers = self.world.route(worker, "x", &["!t"]);
                assert!(answers[0].contains("trapped"), "{}", answers[0]);
                // A success keeps it from being set aside.
                assert_eq!(self.world.route(worker, "x", &["!d"]), ["drop"]);
            }
        }
    }

    fn kill(&mut self) {
        let plugin = match self.kind {
            // Nobody can switch these off.
            Kind::Core(_) => return,
            Kind::File { .. } => "guest",
        };
        let registry = self.world.host.registry().clone();
        let switch = Switch::Plugin(plugin.into());
        assert!(registry.disable(&switch));
        let answers = self.world.route(0, "x", &["a"]);
        assert!(answers[0].contains("switched off"), "{}", answers[0]);
        assert!(registry.enable(&switch));
    }

    fn reload(&mut self) {
        match self.kind {
            Kind::Core(core) => {
                let registry = self.world.host.registry();
                let builtin = BUILTINS.iter().find(|builtin| builtin.name == core.type_name()).unwrap();
                registry.add_builtin(builtin).unwrap();
                self.world.exchange("x").type_changed();
            }
            Kind::File { .. } => {
                self.serving = 1 - self.serving;
                self.world.offer("guest.wasm", &self.versions[self.serving]).unwrap();
            }
        }
    }

    fn park(&mut self) {
        if let Kind::File { .. } = self.kind {
            self.world.host.registry().remove(Path::new("guest.wasm")).unwrap();
            let answers = self.world.route(1, "x", &["a"]);
            assert!(answers[0].contains("parked"), "{}", answers[0]);
            self.world.offer("guest.wasm", &self.versions[self.serving]).unwrap();
        }
    }

    fn route(&mut self, worker: usize, numbers: &[usize]) -> Vec<String> {
        let messages: Vec<_> = numbers.iter().map(|number| self.message(*number)).collect();
        let exchange = self.world.exchange("x");
        testing::route_messages(&mut self.world.workers[worker], &exchange, &messages, &self.world.woken)
    }

    /// What a worker answers that was not there before.
    fn fresh(&self, numbers: &[usize]) -> Vec<String> {
        let messages: Vec<_> = numbers.iter().map(|number| self.message(*number)).collect();
        let mut worker = self.world.host.worker(usize::MAX);
        testing::route_messages(&mut worker, &self.world.exchange("x"), &messages, &self.world.woken)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn after_anything_routing_equals_a_fresh_instances_and_a_native_models(kind in kinds(), steps in steps()) {
        let mut replayed = Replayed::new(kind);
        for step in steps {
            match step {
                Step::Bind(worker, number) => replayed.bind(worker, number),
                Step::Unbind(worker, number) => replayed.unbind(worker, number),
                Step::Lose(worker) => replayed.lose(worker),
                Step::Kill => replayed.kill(),
                Step::Reload => replayed.reload(),
                Step::Park => replayed.park(),
                Step::Route(worker, numbers) => {
                    let answers = replayed.route(worker, &numbers);
                    for (answer, message) in answers.iter().zip(&numbers) {
                        prop_assert_eq!(answer, &replayed.expected(*message), "message {}", message);
                    }
                }
            }
        }
        let all: Vec<usize> = (0..NUMBERS).collect();
        let expected: Vec<String> = all.iter().map(|message| replayed.expected(*message)).collect();
        prop_assert_eq!(&replayed.fresh(&all), &expected);
        for worker in 0..2 {
            prop_assert_eq!(&replayed.route(worker, &all), &expected, "worker {}", worker);
        }
        let dead = replayed.world.workers.iter().map(|worker| worker.counters().dead_ids);
        prop_assert_eq!(dead.sum::<u64>(), 0);
    }
}
