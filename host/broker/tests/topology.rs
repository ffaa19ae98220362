//! What a virtual host consists of outlives it: exchanges, queues and bindings that are durable, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, Random, exchange, name, queue, text};
use leveret_broker::{
    BindTo, ConsumeSpec, ExchangeSpec, Now, QueueSpec, Receipt, Vhost,
    exchange::{ArgumentsChange, Destination},
    queue::Queue,
    store::{StoreFailure, Written},
};
use leveret_model::{Name, Refusal, Table};
use std::sync::{Arc, Mutex};

const Q: BindTo<'static> = BindTo::Queue(b"q");

fn durable(name: &str, type_name: &str) -> ExchangeSpec {
    ExchangeSpec { durable: true, ..exchange(name, type_name) }
}

fn durable_queue(name: &str) -> QueueSpec {
    QueueSpec { durable: true, ..queue(name) }
}

fn declare_queue(c: &Connection, name: &str) {
    c.vhost.declare_queue(durable_queue(name), c.id).unwrap();
}

/// The virtual host after the process ended, however that was.
fn again(disk: &Arc<Disk>) -> Connection {
    Connection::kept_in(disk.clone(), vec![])
}

/// All that was declared, as lines.
fn seen(vhost: &Vhost) -> Vec<String> {
    let mut seen = Vec::new();
    for exchange in vhost.exchanges() {
        let spec = &exchange.spec;
        if !spec.name.is_empty() && !spec.name.starts_with(b"amq.") {
            let (durable, auto_delete, internal) = (spec.durable, spec.auto_delete, spec.internal);
            let arguments = &exchange.settings().arguments;
            let types: Vec<&Name> = exchange.types().iter().map(|spec| &spec.type_name).collect();
            seen.push(format!(
                "exchange {} {} {durable} {auto_delete} {internal} {arguments:?} {types:?}",
                spec.name, spec.type_name
            ));
        }
        for binding in exchange.all_bindings().1 {
            let to = match &binding.destination {
                Destination::Queue(queue) => format!("queue {}", queue.name()),
                Destination::Exchange(exchange) => format!("exchange {}", exchange.spec.name),
            };
            let arguments = &binding.arguments;
            seen.push(format!("binding {} to {to} by {} {arguments:?}", spec.name, binding.routing_key));
        }
    }
    for queue in vhost.queues() {
        seen.push(format!("queue {:?} kept {}", queue.spec(), queue.kept_id().is_some()));
    }
    seen.sort();
    seen
}

/// A virtual host with some of everything durable.
fn furnished(disk: &Arc<Disk>) -> Connection {
    let mut c = again(disk);
    c.exchange(ExchangeSpec { internal: true, arguments: text("a", "1"), ..durable("x", "topic") });
    c.exchange(durable("y", "fanout"));
    c.vhost.declare_queue(QueueSpec { arguments: text("x-a", "b"), ..durable_queue("q") }, c.id).unwrap();
    declare_queue(&c, "r");
    c.bind("x", Q, "k");
    c.vhost.bind(&mut c.router, b"x", Q, b"k", text("n", "1"), c.id).unwrap();
    c.bind("x", BindTo::Exchange(b"y"), "e");
    c.bind("amq.topic", BindTo::Queue(b"r"), "t");
    c.bind("y", BindTo::Exchange(b"amq.fanout"), "");
    c
}

#[test]
fn what_is_durable_is_there_again_as_it_was() {
    let disk = Disk::new();
    let c = furnished(&disk);
    let before = seen(&c.vhost);
    assert_eq!(before.len(), 9, "{before:#?}");
    let ids = ["q", "r"].map(|name| c.vhost.queue(name.as_bytes()).unwrap().kept_id());
    drop(c);
    for _ in 0..2 {
        disk.changes();
        let mut c = again(&disk);
        assert_eq!(seen(&c.vhost), before);
        assert_eq!(ids, ["q", "r"].map(|name| c.vhost.queue(name.as_bytes()).unwrap().kept_id()));
        let restored = c.vhost.restored();
        assert_eq!((restored.exchanges, restored.queues, restored.bindings, restored.dangling), (2, 2, 5, 0));
        assert!(disk.changes().is_empty(), "nothing is written again");
        // No type is told of it, as if it had been bound just now.
        assert!(c.router.memory.lock().unwrap().changes.is_empty());
        // It routes, and can be redeclared, bound and unbound.
        c.publish("amq.topic", "t", "1");
        assert_eq!(c.drain_bodies("r"), ["1"]);
        c.exchange(durable("y", "fanout"));
        declare_queue(&c, "r");
        c.bind("amq.topic", BindTo::Queue(b"r"), "t");
        assert!(disk.changes().is_empty());
    }
}

#[test]
fn what_is_not_durable_at_both_ends_is_not_there_again() {
    let disk = Disk::new();
    let mut c = again(&disk);
    c.exchange(exchange("x", "direct"));
    c.exchange(durable("d", "direct"));
    c.queue("q");
    c.vhost.declare_queue(QueueSpec { exclusive: true, ..durable_queue("e") }, c.id).unwrap();
    declare_queue(&c, "r");
    for source in ["x", "d", "amq.direct"] {
        for to in [Q, BindTo::Queue(b"e"), BindTo::Queue(b"r"), BindTo::Exchange(b"d")] {
            if source != "d" || to != BindTo::Exchange(b"d") {
                c.bind(source, to, "k");
            }
        }
    }
    c.bind("d", BindTo::Exchange(b"x"), "k");
    let written = disk.changes().concat();
    assert_eq!(
        written,
        [
            "+exchange d",
            "+queue r",
            "+binding d to queue r by k",
            "+binding amq.direct to queue r by k",
            "+binding amq.direct to exchange d by k"
        ]
    );
    assert!(c.vhost.queue(b"e").unwrap().kept_id().is_none());
    drop(c);
    let c = again(&disk);
    assert_eq!(seen(&c.vhost).len(), 5, "{:#?}", seen(&c.vhost));
    assert!(
        c.vhost.queue(b"q").is_none() && c.vhost.queue(b"e").is_none() && c.vhost.exchange(b"x").is_none()
    );
}

#[test]
fn a_delete_takes_with_it_what_belongs_to_it_in_one_group() {
    let disk = Disk::new();
    let mut c = furnished(&disk);
    c.exchange(ExchangeSpec { auto_delete: true, ..durable("auto", "direct") });
    c.exchange(ExchangeSpec { auto_delete: true, ..durable("auto2", "direct") });
    c.bind("auto", Q, "k");
    c.bind("auto2", BindTo::Exchange(b"auto"), "k");
    disk.changes();
    c.vhost.delete_queue(&mut c.router, b"q", false, false, c.id).unwrap();
    assert_eq!(disk.changes(), [["-queue q", "-exchange auto", "-exchange auto2"]]);
    c.vhost.delete_exchange(&mut c.router, b"x", false).unwrap();
    assert_eq!(disk.changes(), [["-exchange x"]]);
    // What is not there is not written.
    c.vhost.delete_exchange(&mut c.router, b"x", false).unwrap();
    c.vhost.delete_queue(&mut c.router, b"q", false, false, c.id).unwrap();
    assert!(disk.changes().is_empty());
    let before = seen(&c.vhost);
    drop(c);
    assert_eq!(seen(&again(&disk).vhost), before);
    assert_eq!(before.len(), 4, "{before:#?}");
}

#[test]
fn what_went_is_not_there_when_it_is_declared_anew() {
    let disk = Disk::new();
    let mut c = furnished(&disk);
    c.vhost.delete_queue(&mut c.router, b"q", false, false, c.id).unwrap();
    c.vhost.delete_exchange(&mut c.router, b"x", false).unwrap();
    declare_queue(&c, "q");
    c.exchange(durable("x", "direct"));
    drop(c);
    let c = again(&disk);
    assert_eq!(c.vhost.exchange(b"x").unwrap().binding_count(), 0);
    assert_eq!(c.vhost.exchange(b"x").unwrap().spec.type_name, name("direct"));
    assert!(c.vhost.queue(b"q").unwrap().spec().arguments.is_empty());
}

#[test]
fn an_unbind_takes_an_auto_delete_source_with_it() {
    let disk = Disk::new();
    let mut c = again(&disk);
    c.exchange(ExchangeSpec { auto_delete: true, ..durable("x", "direct") });
    declare_queue(&c, "q");
    c.bind("x", Q, "1");
    c.bind("x", Q, "2");
    disk.changes();
    c.unbind("x", Q, "1");
    c.unbind("x", Q, "no");
    assert_eq!(disk.changes(), [["-binding x to queue q by 1"]]);
    let before = seen(&c.vhost);
    assert_eq!(seen(&again(&disk).vhost), before);
    let mut c = again(&disk);
    c.unbind("x", Q, "2");
    assert_eq!(disk.changes(), [["-binding x to queue q by 2", "-exchange x"]]);
    let c = again(&disk);
    assert!(c.vhost.exchange(b"x").is_none() && c.vhost.queue(b"q").is_some());
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer_and_not_with_the_process() {
    let disk = Disk::new();
    let c = again(&disk);
    c.vhost.declare_queue(QueueSpec { auto_delete: true, ..durable_queue("q") }, c.id).unwrap();
    drop(c);
    let mut c = again(&disk);
    c.bind("amq.direct", Q, "k");
    c.consume("q", "tag", false);
    disk.changes();
    assert!(c.client.cancel(1, b"tag", &mut c.router));
    assert_eq!(disk.changes(), [["-queue q"]]);
    assert!(seen(&again(&disk).vhost).is_empty());
}

#[test]
fn a_queue_that_takes_the_place_of_one_that_goes_is_another() {
    let disk = Disk::new();
    let mut c = again(&disk);
    c.vhost.declare_queue(QueueSpec { auto_delete: true, ..durable_queue("q") }, c.id).unwrap();
    c.bind("amq.direct", Q, "k");
    let first = c.vhost.queue(b"q").unwrap().kept_id();
    let mut other = c.sibling();
    let spec = ConsumeSpec { queue: name("q"), tag: name("t"), ..ConsumeSpec::default() };
    other.client.consume(1, spec).unwrap();
    assert!(other.client.cancel(1, b"t", &mut other.router));
    declare_queue(&c, "q");
    assert_ne!(c.vhost.queue(b"q").unwrap().kept_id(), first);
    drop((c, other));
    let c = again(&disk);
    assert_eq!(seen(&c.vhost).len(), 1, "{:#?}", seen(&c.vhost));
    assert!(!c.vhost.queue(b"q").unwrap().spec().auto_delete);
}

#[test]
fn a_queue_that_is_declared_while_the_one_of_its_name_goes_is_another() {
    let disk = Disk::new();
    let mut c = again(&disk);
    for queue in ["q", "r"] {
        c.vhost.declare_queue(QueueSpec { auto_delete: true, ..durable_queue(queue) }, c.id).unwrap();
        c.bind("amq.direct", BindTo::Queue(queue.as_bytes()), "k");
        c.consume(queue, queue, false);
    }
    // Both go at once, and while types are told of the first there is the second again.
    let (vhost, by) = (c.vhost.clone(), c.id);
    c.router.after_unbound = Some(Box::new(move || {
        vhost.declare_queue(durable_queue("r"), by).unwrap();
    }));
    disk.changes();
    c.client.close_channel(1, &mut c.router);
    assert_eq!(disk.changes(), [vec!["-queue q"], vec!["-queue r", "+queue r"]]);
    let before = seen(&c.vhost);
    assert_eq!(before.len(), 1, "{before:#?}");
    drop(c);
    assert_eq!(seen(&again(&disk).vhost), before);
}

#[test]
fn exchanges_that_go_with_an_exclusive_queue_are_gone() {
    let disk = Disk::new();
    let mut c = again(&disk);
    c.exchange(ExchangeSpec { auto_delete: true, ..durable("x", "direct") });
    c.vhost.declare_queue(QueueSpec { exclusive: true, ..queue("e") }, c.id).unwrap();
    c.bind("x", BindTo::Queue(b"e"), "k");
    assert_eq!(disk.changes(), [["+exchange x"]]);
    c.client.close(&mut c.router);
    assert_eq!(disk.changes(), [["-exchange x"]]);
    assert!(again(&disk).vhost.exchange(b"x").is_none());
}

#[test]
fn arguments_that_an_operator_changed_count_and_locks_nobody_out() {
    let disk = Disk::new();
    let mut c = again(&disk);
    let declared = ExchangeSpec { arguments: text("a", "1"), ..durable("x", "x+direct") };
    c.exchange(ExchangeSpec { type_name: name("dedup+direct"), ..declared.clone() });
    let change = ArgumentsChange { set: text("a", "2"), unset: vec![] };
    c.vhost.configure_exchange(&mut c.router, b"x", &change).unwrap();
    assert_eq!(disk.changes(), [["+exchange x"], ["+exchange x"]]);
    c.vhost.configure_exchange(&mut c.router, b"x", &change).unwrap();
    assert!(disk.changes().is_empty(), "it changes nothing");
    drop(c);
    let mut c = again(&disk);
    assert_eq!(c.vhost.exchange(b"x").unwrap().settings().arguments, text("a", "2"));
    for value in ["1", "2"] {
        let arguments = text("a", value);
        c.exchange(ExchangeSpec { arguments, type_name: name("dedup+direct"), ..declared.clone() });
    }
    let other = ExchangeSpec { arguments: text("a", "3"), type_name: name("dedup+direct"), ..declared };
    assert!(matches!(
        c.vhost.declare_exchange(&mut c.router, other),
        Err(Refusal::Inequivalent { argument, .. }) if argument == "a"
    ));
}

fn not_kept<T>(what: &str) -> Result<T, Refusal> {
    let why = String::from("the store: no space left on the disk");
    Err(Refusal::NotKept { what: String::from(what), vhost: name("/"), why })
}

#[test]
fn a_full_disk_takes_what_goes_and_nothing_that_comes() {
    let disk = Disk::new();
    let mut c = furnished(&disk);
    let before = seen(&c.vhost);
    disk.changes();
    disk.is_full(true);
    let vhost = c.vhost.clone();
    assert_eq!(vhost.declare_exchange(&mut c.router, durable("new", "direct")), not_kept("exchange 'new'"));
    assert_eq!(vhost.declare_queue(durable_queue("new"), c.id), not_kept("queue 'new'"));
    let bound = vhost.bind(&mut c.router, b"y", Q, b"new", Table::new(), c.id);
    assert_eq!(bound, not_kept("a binding of exchange 'y'"));
    let change = ArgumentsChange { set: text("a", "2"), unset: vec![] };
    let changed = vhost.configure_exchange(&mut c.router, b"x", &change);
    assert_eq!(changed.map(drop), not_kept("what changes of exchange 'x'"));
    assert_eq!((seen(&vhost), disk.changes()), (before, Vec::<Vec<String>>::new()));
    assert_eq!(c.router.closed, [name("new")], "its type was told that it did not come to be");
    // What is there is declared again, and what is not durable is none of the disk's business.
    c.exchange(durable("y", "fanout"));
    declare_queue(&c, "r");
    c.exchange(exchange("t", "direct"));
    c.queue("tq");
    c.bind("t", BindTo::Queue(b"tq"), "k");
    c.bind("t", Q, "k");
    c.unbind("x", Q, "k");
    c.vhost.delete_queue(&mut c.router, b"r", false, false, c.id).unwrap();
    c.vhost.delete_exchange(&mut c.router, b"y", false).unwrap();
    assert_eq!(disk.changes().len(), 3);
    assert_eq!(seen(&again(&disk).vhost).len(), 3, "{:#?}", seen(&again(&disk).vhost));
    disk.is_full(false);
    c.exchange(durable("new", "direct"));
    assert!(again(&disk).vhost.exchange(b"new").is_some());
}

#[derive(Default)]
struct Told(Mutex<Vec<u64>>);

impl Written for Told {
    fn written(&self, token: u64, outcome: Result<(), StoreFailure>) {
        outcome.unwrap();
        self.0.lock().unwrap().push(token);
    }
}

#[test]
fn what_is_durable_is_made_at_once_and_safe_when_the_store_says_so() {
    let disk = Disk::new();
    let mut c = again(&disk);
    disk.is_slow(true);
    let told = Arc::new(Told::default());
    let waiter: Arc<dyn Written> = told.clone();
    let receipt = c.vhost.declare_exchange(&mut c.router, durable("x", "direct")).unwrap();
    assert!(c.vhost.exchange(b"x").is_some() && receipt.is_pending());
    receipt.when_safe(&waiter, 1);
    let (_, receipt) = c.vhost.declare_queue_kept(durable_queue("q"), c.id).unwrap();
    receipt.when_safe(&waiter, 2);
    // Another that declares the same is not told before it is safe either.
    let (_, same) = c.vhost.declare_queue_kept(durable_queue("q"), c.id).unwrap();
    assert!(same.is_pending());
    let Ok(Now::Done((), receipt)) = c.vhost.bind_now(&mut c.router, b"x", Q, b"k", Table::new(), c.id)
    else {
        panic!("direct is quick");
    };
    receipt.when_safe(&waiter, 3);
    // For what is not durable there is nothing to wait for.
    let none = Ok(Receipt::default());
    assert_eq!(c.vhost.declare_exchange(&mut c.router, exchange("t", "direct")), none);
    assert_eq!(c.vhost.declare_queue_kept(queue("t"), c.id).unwrap().1, Receipt::default());
    assert_eq!(c.vhost.bind(&mut c.router, b"x", BindTo::Queue(b"t"), b"k", Table::new(), c.id), none);
    assert!(told.0.lock().unwrap().is_empty());
    disk.is_slow(false);
    assert_eq!(*told.0.lock().unwrap(), [1, 2, 3]);
    assert_eq!(c.vhost.declare_exchange(&mut c.router, durable("x", "direct")), none, "it is safe");
    assert!(!same.is_pending());
}

#[test]
fn what_somebody_else_took_away_is_gone_once_that_is_safe() {
    let disk = Disk::new();
    let mut c = furnished(&disk);
    let other = again(&Disk::new()).id;
    c.publish("", "q", "1");
    type Take = fn(&mut Connection, leveret_broker::ConnectionId) -> Receipt;
    let takes: [(&str, Take); 4] = [
        ("purge", |c, id| c.vhost.purge_queue_kept(b"q", id).unwrap().1),
        ("unbind", |c, id| made(c.vhost.unbind_now(&mut c.router, b"x", Q, b"k", Table::new(), id))),
        ("delete a queue", |c, id| made(c.vhost.delete_queue_now(&mut c.router, b"q", false, false, id))),
        ("delete an exchange", |c, _| made(c.vhost.delete_exchange_now(&mut c.router, b"x", false))),
    ];
    for (what, take) in takes {
        let id = c.id;
        disk.is_slow(true);
        let first = take(&mut c, id);
        let second = take(&mut c, other);
        assert!(first.is_pending() && second.is_pending(), "{what}");
        disk.is_slow(false);
        assert!(first.is_safe() && second.is_safe(), "{what}");
        assert!(take(&mut c, other).is_safe(), "{what}: nothing is to be waited for");
    }
}

fn made<T: std::fmt::Debug>(now: Result<Now<T>, Refusal>) -> Receipt {
    match now {
        Ok(Now::Done(_, receipt) | Now::Tell(_, receipt)) => receipt,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hundred_thousand_bindings_are_there_again() {
    let disk = Disk::new();
    let mut c = again(&disk);
    c.exchange(durable("x", "direct"));
    declare_queue(&c, "q");
    for n in 0..100_000 {
        c.vhost.bind(&mut c.router, b"x", Q, format!("{n}").as_bytes(), Table::new(), c.id).unwrap();
    }
    drop(c);
    let mut c = again(&disk);
    assert_eq!(c.vhost.restored().bindings, 100_000);
    c.publish("x", "99999", "1");
    c.unbind("x", Q, "99999");
    c.publish("x", "99999", "2");
    assert_eq!(c.drain_bodies("q"), ["1"]);
}

/// What of a virtual host must be there again, read off the one that is there.
fn durable_part(vhost: &Vhost) -> Vec<String> {
    let lasts = |queue: &Queue| queue.spec().durable && !queue.spec().exclusive;
    let is_durable = |destination: &Destination| match destination {
        Destination::Queue(queue) => lasts(queue),
        Destination::Exchange(exchange) => exchange.spec.durable,
    };
    let mut part = Vec::new();
    for exchange in vhost.exchanges().iter().filter(|exchange| exchange.spec.durable) {
        let (name, arguments) = (&exchange.spec.name, &exchange.settings().arguments);
        part.push(format!("exchange {name} {:?} {arguments:?}", exchange.spec));
        for binding in exchange.all_bindings().1.iter().filter(|it| is_durable(&it.destination)) {
            let (to, key, arguments) = (&binding.destination, &binding.routing_key, &binding.arguments);
            part.push(format!("binding {name} to {to:?} by {key} {arguments:?}"));
        }
    }
    for queue in vhost.queues().iter().filter(|queue| lasts(queue)) {
        part.push(format!("queue {:?} {:?}", queue.kept_id().unwrap(), queue.spec()));
    }
    part.sort();
    part
}

const NAMES: [&str; 4] = ["a", "b", "c", "amq.fanout"];

/// One change of anything; whether it is refused does not matter.
fn change(c: &mut Connection, random: &mut Random) {
    let (vhost, by) = (c.vhost.clone(), c.id);
    let mut pick = || NAMES[random.below(4) as usize].as_bytes();
    let (one, other) = (pick(), pick());
    let key = NAMES[random.below(2) as usize].as_bytes();
    let to = if random.below(3) > 0 { BindTo::Queue(other) } else { BindTo::Exchange(other) };
    let arguments = if random.below(4) > 0 { Table::new() } else { text("n", "1") };
    let [durable, auto_delete, exclusive] = [3, 2, 0].map(|odds| random.below(4) < odds.max(1));
    match random.below(13) {
        0..=2 => {
            let type_name = if random.below(2) == 0 { "direct" } else { "dedup+direct" };
            let (name, arguments) = (Name::new(one).unwrap(), arguments);
            let spec = ExchangeSpec { name, auto_delete, durable, arguments, ..exchange("", type_name) };
            let _ = vhost.declare_exchange(&mut c.router, spec);
        }
        3..=4 => {
            let name = Name::new(one).unwrap();
            let _ = vhost.declare_queue(QueueSpec { name, durable, exclusive, auto_delete, arguments }, by);
        }
        5..=7 => drop(vhost.bind(&mut c.router, one, to, key, arguments, by)),
        8 => drop(vhost.unbind(&mut c.router, one, to, key, arguments, by)),
        9 => drop(vhost.delete_exchange(&mut c.router, one, random.below(2) == 0)),
        10 => drop(vhost.delete_queue(&mut c.router, one, false, false, by)),
        11 => {
            let change = ArgumentsChange { set: arguments, unset: vec![name("n")] };
            let _ = vhost.configure_exchange(&mut c.router, one, &change);
        }
        _ => {
            let spec =
                ConsumeSpec { queue: Name::new(one).unwrap(), tag: name("t"), ..ConsumeSpec::default() };
            let _ = c.client.consume(1, spec);
            c.client.cancel(1, b"t", &mut c.router);
        }
    }
}

#[test]
fn after_any_changes_what_is_durable_is_there_again_wherever_it_ends() {
    for seed in 1..=60 {
        let (disk, mut random) = (Disk::new(), Random(seed));
        let mut c = again(&disk);
        for step in 0..150 {
            disk.is_full(random.below(10) == 0);
            change(&mut c, &mut random);
            let next = again(&disk);
            assert_eq!(durable_part(&next.vhost), durable_part(&c.vhost), "seed {seed} step {step}");
            drop(next);
            if random.below(20) == 0 {
                drop(c);
                c = again(&disk);
            }
        }
    }
}
