//! Persistent messages of durable queues are written, and what becomes of them is told.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{At, Attached, Connection, Disk, PERSISTENT, Random, exchange, message, name, with_dead_letters};
use leveret_broker::{
    BindTo, MemoryAccount, Publish, Published, QueueSpec, Settle, Vhost,
    port::{Intercepted, Wake},
    store::{Durability, KeptId, Ranges, StoreFailure, Written},
};
use leveret_model::{MessageView, Value};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

fn persistent<'a>(exchange: &'a str, key: &'a str, body: &'a [u8]) -> MessageView<'a> {
    MessageView { properties: PERSISTENT, ..message(exchange, key, body) }
}

fn durable(name: &str) -> QueueSpec {
    QueueSpec { durable: true, ..kit::queue(name) }
}

/// A connection whose vhost has these durable queues, each bound to `amq.fanout`.
fn with_queues(names: &[&str]) -> (Connection, Arc<Disk>) {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    for name in names {
        c.vhost.declare_queue(durable(name), c.id).unwrap();
        c.bind("amq.fanout", BindTo::Queue(name.as_bytes()), "");
    }
    (c, disk)
}

fn id(c: &Connection, queue: &str) -> u64 {
    c.vhost.queue(queue.as_bytes()).unwrap().kept_id().unwrap().0
}

/// The bodies that are kept of a queue.
fn kept(c: &Connection, disk: &Disk, queue: &str) -> Vec<String> {
    let id = id(c, queue);
    disk.bodies().into_iter().filter(|(of, ..)| *of == id).map(|(_, _, body)| body).collect()
}

/// Notes what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<(u64, Result<(), StoreFailure>)>>);

impl Written for Told {
    fn written(&self, token: u64, outcome: Result<(), StoreFailure>) {
        self.0.lock().unwrap().push((token, outcome));
    }
}

impl Told {
    fn take(&self) -> Vec<(u64, Result<(), StoreFailure>)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Publishes and has `told` told under a token. Gives how often it will be, and the outcomes.
fn publish_told(
    c: &mut Connection,
    (told, token): (&Arc<Told>, u64),
    messages: &[MessageView<'_>],
) -> (u32, Vec<Published>) {
    let waiter: Arc<dyn Written> = told.clone();
    c.publisher.confirm_to(&waiter, token);
    let outcomes = c.publish_all(messages);
    (c.publisher.groups(), outcomes)
}

#[test]
fn acks_of_several_queues_are_one_group_of_ranges() {
    let (mut c, disk) = with_queues(&["a", "b"]);
    for _ in 0..3 {
        c.publish_one(persistent("amq.fanout", "", b"x"));
    }
    let tags: Vec<u64> = ["a", "b", "b", "a", "a", "b"].iter().map(|queue| c.get(queue).unwrap().0).collect();
    c.client.tell_store();
    disk.take_progress();
    tags.iter().rev().for_each(|tag| c.client.settle(1, *tag, false, Settle::Accepted).unwrap());
    assert_eq!(disk.take_progress(), [] as [Vec<_>; 0], "more may come");
    c.client.tell_store();
    let all = Ranges { first: 0, count: 3 };
    let queues = ["a", "b"].map(|queue| (KeptId(id(&c, queue)), all));
    assert_eq!(disk.take_progress(), [queues.to_vec()]);
    assert!(kept(&c, &disk, "a").is_empty() && kept(&c, &disk, "b").is_empty());
    c.client.tell_store();
    assert_eq!(disk.take_progress().len(), 0, "there is nothing more");
}

#[test]
fn what_is_persistent_in_a_durable_queue_is_written_and_nothing_else() {
    let (mut c, disk) = with_queues(&["q"]);
    c.queue("t");
    c.bind("amq.fanout", BindTo::Queue(b"t"), "");
    assert_eq!(c.publish_one(persistent("", "q", b"1")), Published::Routed);
    assert_eq!(c.publish_one(message("", "q", b"2")), Published::Routed);
    assert_eq!(c.publish_one(persistent("", "t", b"3")), Published::Routed);
    assert_eq!(c.publish_one(persistent("amq.fanout", "", b"4")), Published::Routed);
    assert_eq!(kept(&c, &disk, "q"), ["1", "4"]);
    assert_eq!(disk.bodies().len(), 2);
    assert_eq!((c.drain_bodies("q").len(), c.drain_bodies("t").len()), (3, 2));
    assert!(disk.bodies().is_empty(), "acknowledged as it was got");
}

#[test]
fn who_publishes_is_told_once_it_is_safe_and_only_of_what_is_written() {
    let (mut c, disk) = with_queues(&["q", "r"]);
    let told = Arc::new(Told::default());
    disk.durabilities();
    disk.is_slow(true);
    let batch = [persistent("amq.fanout", "", b"1"), persistent("", "q", b"2"), message("", "q", b"3")];
    assert_eq!(publish_told(&mut c, (&told, 7), &batch), (1, vec![Published::Routed; 3]));
    assert!(told.take().is_empty());
    assert_eq!(c.ready("q"), 3, "delivery does not wait for the disk");
    disk.is_slow(false);
    assert_eq!(told.take(), [(7, Ok(()))]);
    assert_eq!(disk.durabilities(), [Durability::Always]);
    assert_eq!(publish_told(&mut c, (&told, 8), &[message("", "q", b"4")]).0, 0);
    assert_eq!(publish_told(&mut c, (&told, 9), &[persistent("", "nobody", b"5")]).0, 0);
    assert!(told.take().is_empty());
}

#[test]
fn acks_rejections_and_purges_are_told_to_the_store() {
    let (mut c, disk) = with_queues(&["q"]);
    c.publish_all(&["1", "2", "3", "4", "5"].map(|body| persistent("", "q", body.as_bytes())));
    c.consume("q", "c", false);
    assert_eq!(c.deliveries().len(), 5);
    assert_eq!(kept(&c, &disk, "q").len(), 5);
    c.client.settle(1, 2, false, Settle::Accepted).unwrap();
    c.client.tell_store();
    c.client.settle(1, 4, false, Settle::Rejected).unwrap();
    c.client.tell_store();
    assert_eq!(kept(&c, &disk, "q"), ["1", "3", "5"]);
    let delivered = |disk: &Disk| disk.deliveries().iter().map(|(_, _, times)| *times).collect::<Vec<_>>();
    assert_eq!(delivered(&disk), [1, 1, 1]);
    c.client.settle(1, 1, false, Settle::Requeue { failed: false }).unwrap();
    c.client.tell_store();
    assert_eq!(c.bodies(), ["1"]);
    assert_eq!(delivered(&disk), [2, 1, 1]);
    c.client.settle(1, 0, true, Settle::Accepted).unwrap();
    c.client.tell_store();
    assert!(disk.bodies().is_empty());
    c.client.cancel(1, b"c", &mut c.router);
    c.publish_all(&["6", "7"].map(|body| persistent("", "q", body.as_bytes())));
    assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(2));
    assert!(disk.bodies().is_empty());
}

#[test]
fn a_dead_letter_leaves_one_queue_and_is_in_the_other_by_one_group() {
    let disk = Disk::new();
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    let spec = QueueSpec { durable: true, ..with_dead_letters("q", "", Some("dead")) };
    c.vhost.declare_queue(spec, c.id).unwrap();
    c.vhost.declare_queue(durable("dead"), c.id).unwrap();
    c.publish_one(persistent("", "q", b"1"));
    let (tag, ..) = c.get("q").unwrap();
    c.client.settle(1, tag, false, Settle::Rejected).unwrap();
    c.client.tell_store();
    assert_eq!(kept(&c, &disk, "q"), ["1"], "it is there until it is where it should go");
    disk.is_full(true);
    c.client.dead_letter(&mut c.router);
    assert_eq!((kept(&c, &disk, "q").len(), c.ready("dead")), (1, 0), "nor while nothing can be written");
    disk.is_full(false);
    c.pass(1000);
    c.client.dead_letter(&mut c.router);
    assert_eq!((kept(&c, &disk, "q").len(), kept(&c, &disk, "dead").len()), (0, 1));
    assert_eq!(c.drain_bodies("dead"), ["1"]);
    assert!(disk.bodies().is_empty());
}

#[test]
fn a_full_disk_refuses_what_is_to_be_written_and_takes_what_goes() {
    let (mut c, disk) = with_queues(&["q"]);
    c.queue("t");
    c.publish_one(persistent("", "q", b"1"));
    disk.is_full(true);
    let full = Published::Unavailable(Arc::from("the store: no space left on the disk"));
    let batch = [
        persistent("", "q", b"2"),
        message("", "q", b"3"),
        persistent("", "t", b"4"),
        persistent("amq.fanout", "", b"5"),
    ];
    let routed = Published::Routed;
    assert_eq!(c.publish_all(&batch), [full.clone(), routed.clone(), routed, full]);
    assert_eq!((c.drain_bodies("q"), c.drain_bodies("t")), (vec!["1".into(), "3".into()], vec!["4".into()]));
    assert!(disk.bodies().is_empty(), "what was got is gone from the full disk");
    disk.is_full(false);
    assert_eq!(c.publish_one(persistent("", "q", b"6")), Published::Routed);
}

#[test]
fn messages_that_a_type_stored_are_written_for_a_new_binding() {
    let (mut c, disk) = with_queues(&["q"]);
    c.exchange(exchange("x", "store+fanout"));
    assert_eq!(c.publish_one(persistent("x", "", b"1")), Published::Unroutable);
    assert_eq!(c.publish_one(message("x", "", b"2")), Published::Unroutable);
    c.bind("x", BindTo::Queue(b"q"), "");
    assert_eq!(kept(&c, &disk, "q"), ["1"]);
    assert_eq!(c.drain_bodies("q"), ["1", "2"]);
    assert!(disk.bodies().is_empty());
}

#[test]
fn messages_are_there_in_the_next_life_in_order_and_marked() {
    let (mut c, disk) = with_queues(&["q", "r"]);
    c.publish_all(&["1", "2", "3", "4", "5"].map(|body| persistent("amq.fanout", "k", body.as_bytes())));
    c.publish_one(message("", "q", b"transient"));
    let (tag, ..) = c.get("q").unwrap();
    c.get("q").unwrap();
    c.client.settle(1, tag, false, Settle::Accepted).unwrap();
    c.client.tell_store();
    drop(c);
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    assert_eq!((c.ready("q"), c.ready("r")), (4, 5));
    assert_eq!(c.publish_one(persistent("", "q", b"6")), Published::Routed);
    let all: Vec<_> = std::iter::from_fn(|| c.get("q")).map(|(_, again, body)| (again, body)).collect();
    let expected = [(true, "2"), (true, "3"), (true, "4"), (true, "5"), (false, "6")];
    assert_eq!(all, expected.map(|(again, body)| (again, String::from(body))));
    assert_eq!(c.drain("r")[0], ("amq.fanout".into(), "k".into(), "1".into()));
    c.client.settle(1, 0, true, Settle::Accepted).unwrap();
    c.client.tell_store();
    assert!(disk.bodies().is_empty());
    drop(c);
    let c = Connection::kept_in(disk, vec![]);
    assert_eq!((c.ready("q"), c.ready("r")), (0, 0));
}

#[test]
fn a_quorum_queue_keeps_transient_messages_too_and_a_classic_one_beside_it_does_not() {
    let (mut c, disk) = with_queues(&["classic"]);
    let arguments = [(name("x-queue-type"), Value::Text("quorum".into()))].into_iter().collect();
    c.vhost.declare_queue(QueueSpec { arguments, ..durable("quorum") }, c.id).unwrap();
    c.bind("amq.fanout", BindTo::Queue(b"quorum"), "");
    let told = Arc::new(Told::default());
    let (groups, _) = publish_told(&mut c, (&told, 1), &[message("", "quorum", b"1")]);
    assert_eq!((groups, told.take()), (1, vec![(1, Ok(()))]), "its confirm waits for the store");
    c.publish_all(&[message("amq.fanout", "", b"2"), persistent("amq.fanout", "", b"3")]);
    assert_eq!((kept(&c, &disk, "quorum").len(), kept(&c, &disk, "classic")), (3, vec!["3".to_owned()]));
    disk.is_full(true);
    let refused = c.publish_one(message("amq.fanout", "", b"4"));
    assert!(matches!(refused, Published::Unavailable(_)), "{refused:?}");
    disk.is_full(false);
    drop(c);
    let mut c = Connection::kept_in(disk, vec![]);
    assert_eq!(c.drain_bodies("quorum"), ["1", "2", "3"]);
    assert_eq!(c.drain_bodies("classic"), ["3"]);
}

#[test]
fn deliveries_that_count_are_told_at_once() {
    let (mut c, disk) = with_queues(&["classic"]);
    let arguments = [(name("x-queue-type"), Value::Text("quorum".into()))].into_iter().collect();
    c.vhost.declare_queue(QueueSpec { arguments, ..durable("quorum") }, c.id).unwrap();
    for (queue, counted) in [("classic", 0), ("quorum", 1)] {
        c.publish_one(persistent("", queue, b"1"));
        c.consume(queue, queue, false);
        assert_eq!((c.bodies().len(), disk.counted()), (1, counted), "{queue}");
        c.client.settle(1, 0, true, Settle::Accepted).unwrap();
        c.client.tell_store();
        assert_eq!(disk.counted(), counted, "an ack may wait");
    }
}

#[test]
fn what_comes_after_a_start_keeps_its_number_where_the_latest_of_the_life_before_are_gone() {
    let (mut c, disk) = with_queues(&["q"]);
    let large = |number: u8| vec![number; 40_000];
    c.publish_all(&[1, 2, 3].map(large).each_ref().map(|body| persistent("", "q", body)));
    let tags = [(); 3].map(|()| c.get("q").unwrap().0);
    for tag in &tags[1..] {
        c.client.settle(1, *tag, false, Settle::Accepted).unwrap();
        c.client.tell_store();
    }
    drop(c);
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    let get = |c: &mut Connection| {
        let mut got = None;
        let mut note = |one: leveret_broker::Got<'_>| {
            got = Some((one.delivery_tag, one.message.body.first().copied(), one.message.body.len()));
        };
        c.client.get(1, b"q", false, &mut c.router, &mut note).unwrap();
        got.unwrap()
    };
    // The first is read again, so it is in memory when the next ones come.
    let (_, body, bytes) = get(&mut c);
    assert_eq!((body, bytes), (Some(1), 40_000));
    c.publish_all(&[4, 5].map(large).each_ref().map(|body| persistent("", "q", body)));
    for number in [4, 5] {
        let (tag, body, bytes) = get(&mut c);
        assert_eq!((body, bytes), (Some(number), 40_000));
        c.client.settle(1, tag, false, Settle::Accepted).unwrap();
        c.client.tell_store();
    }
    let left: Vec<_> = disk.bodies().into_iter().map(|(_, _, body)| body.as_bytes()[0]).collect();
    assert_eq!(left, [1], "what was settled is gone from the store, and nothing else");
}

#[test]
fn a_recovered_backlog_with_gaps_takes_little_memory() {
    let (mut c, disk, _) = short_of_memory();
    publish_numbers(&mut c, 0..20_000, 1000);
    let mut tags = Vec::new();
    for _ in 0..10_000 {
        c.client.get(1, b"q", false, &mut c.router, &mut |got| tags.push(got.delivery_tag)).unwrap();
    }
    // Of the first half every third stays.
    for tag in tags.into_iter().filter(|tag| tag % 3 != 0) {
        c.client.settle(1, tag, false, Settle::Accepted).unwrap();
        c.client.tell_store();
    }
    drop(c);
    let account = Arc::new(MemoryAccount::new(1));
    let mut router = kit::Native::default();
    let vhost = Vhost::kept_in(disk.clone(), name("/"), account.clone(), &mut router).unwrap();
    let mut c = Connection { router, ..Connection::to(&vhost) };
    assert_eq!((c.ready("q"), account.bytes()), (13_333, 0));
    publish_numbers(&mut c, 20_000..20_100, 1000);
    let mut drained = Vec::new();
    while c
        .client
        .get(1, b"q", true, &mut c.router, &mut |got| drained.push(number_of(got.message.body)))
        .unwrap()
    {
        assert!(account.bytes() < 2 << 20);
    }
    // Tags count from one.
    let expected: Vec<u32> =
        (0..10_000).filter(|number| (number + 1) % 3 == 0).chain(10_000..20_100).collect();
    assert_eq!(drained, expected);
    assert_eq!((c.ready("q"), account.bytes(), disk.bodies().len()), (0, 0, 0));
}

/// A vhost that lets go of what it can read again at two megabytes, with one queue.
fn short_of_memory() -> (Connection, Arc<Disk>, Arc<MemoryAccount>) {
    let (disk, account) = (Disk::new(), Arc::new(MemoryAccount::new(1)));
    let mut router = kit::Native::default();
    let vhost = Vhost::kept_in(disk.clone(), name("/"), account.clone(), &mut router).unwrap();
    let c = Connection { router, ..Connection::to(&vhost) };
    c.vhost.declare_queue(durable("q"), c.id).unwrap();
    (c, disk, account)
}

fn publish_numbers(c: &mut Connection, numbers: std::ops::Range<u32>, padding: usize) {
    let bodies: Vec<Vec<u8>> = numbers.map(|number| padded(number, padding)).collect();
    for chunk in bodies.chunks(500) {
        let batch: Vec<Publish<'_>> = chunk
            .iter()
            .map(|body| Publish {
                channel: 1,
                message: persistent("", "q", body),
                mandatory: false,
                more_keys: None,
            })
            .collect();
        let (mut outcomes, waker) = (Vec::new(), c.bell.clone() as Arc<dyn Wake>);
        c.publisher.publish(&c.vhost, &mut c.router, &batch, &mut outcomes, &waker);
        assert!(outcomes.iter().all(|outcome| *outcome == Published::Routed));
    }
}

fn padded(number: u32, padding: usize) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(4 + padding, b'.');
    body
}

fn number_of(body: &[u8]) -> u32 {
    u32::from_le_bytes(*body.first_chunk().unwrap())
}

#[test]
fn a_long_backlog_takes_little_memory_and_comes_in_order() {
    let (mut c, disk, account) = short_of_memory();
    publish_numbers(&mut c, 0..30_000, 1000);
    assert_eq!(c.ready("q"), 30_000);
    assert!(account.bytes() < 8 << 20, "{} bytes of 30 million", account.bytes());
    c.consume("q", "c", false);
    let mut next = 0;
    while next < 30_000 {
        let deliveries = c.deliveries();
        assert!(!deliveries.is_empty(), "at {next}");
        for delivery in deliveries {
            assert_eq!((number_of(&delivery.body), delivery.body.len()), (next, 1004));
            next += 1;
            c.client.settle(1, delivery.tag, false, Settle::Accepted).unwrap();
            c.client.tell_store();
        }
        assert!(account.bytes() < 40 << 20);
    }
    assert_eq!((c.ready("q"), account.bytes()), (0, 0));
    assert!(disk.bodies().is_empty());
}

#[test]
fn a_backlog_that_is_read_while_it_grows_loses_nothing() {
    for seed in 1..=4 {
        let (mut c, disk, account) = short_of_memory();
        let mut random = Random(seed);
        let (mut published, mut expected) = (0, VecDeque::new());
        let mut unacked: Vec<(u64, u32)> = Vec::new();
        for _ in 0..25 {
            let more = random.below(4000) as u32;
            publish_numbers(&mut c, published..published + more, 1000);
            expected.extend(published..published + more);
            published += more;
            for _ in 0..random.below(3000) {
                let mut got = None;
                c.client
                    .get(1, b"q", false, &mut c.router, &mut |message| {
                        got = Some((message.delivery_tag, number_of(message.message.body)));
                    })
                    .unwrap();
                let Some((tag, number)) = got else { break };
                assert_eq!(Some(number), expected.pop_front(), "seed {seed}");
                unacked.push((tag, number));
            }
            for _ in 0..random.below(3000).min(unacked.len() as u64) {
                let at = random.below(unacked.len() as u64) as usize;
                let (tag, _) = unacked.swap_remove(at);
                c.client.settle(1, tag, false, Settle::Accepted).unwrap();
                c.client.tell_store();
            }
        }
        let mut left: Vec<u32> = unacked.iter().map(|(_, number)| *number).chain(expected).collect();
        left.sort_unstable();
        let mut on_disk: Vec<u32> =
            disk.bodies().iter().map(|(_, _, body)| number_of(body.as_bytes())).collect();
        on_disk.sort_unstable();
        assert_eq!(on_disk.len(), left.len(), "seed {seed}");
        c.client.recover(1);
        let mut drained = Vec::new();
        while c
            .client
            .get(1, b"q", true, &mut c.router, &mut |got| drained.push(number_of(got.message.body)))
            .unwrap()
        {}
        assert_eq!(drained, left, "seed {seed}: what was returned comes first, in order");
        assert_eq!((c.ready("q"), account.bytes(), disk.bodies().len()), (0, 0, 0), "seed {seed}");
    }
}

#[test]
fn a_long_backlog_is_purged_and_deleted_without_being_read() {
    let (mut c, disk, account) = short_of_memory();
    publish_numbers(&mut c, 0..20_000, 1000);
    assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(20_000));
    assert_eq!((c.ready("q"), account.bytes(), disk.bodies().len()), (0, 0, 0));
    publish_numbers(&mut c, 0..3, 10);
    assert_eq!(c.drain_bodies("q").len(), 3);
}

/// A persistent message to be held for so long.
fn delayed_persistent<'a>(exchange: &'a str, key: &'a str, ms: &'a str, body: &'a str) -> MessageView<'a> {
    let properties = [PERSISTENT, ms.as_bytes()].concat();
    MessageView { properties: properties.leak(), ..message(exchange, key, body.as_bytes()) }
}

/// A connection whose vhost has a durable exchange `x` that holds, bound to the durable queue `q` by `k`.
fn with_holds() -> (Connection, Arc<Disk>) {
    let (mut c, disk) = with_queues(&["q"]);
    c.exchange(leveret_broker::ExchangeSpec { durable: true, ..exchange("x", "hold+direct") });
    c.bind("x", BindTo::Queue(b"q"), "k");
    (c, disk)
}

#[test]
fn what_is_held_is_written_and_goes_on_by_one_group() {
    let (mut c, disk) = with_holds();
    let told = Arc::new(Told::default());
    let batch = [delayed_persistent("x", "k", "10", "1"), kit::delayed("x", "k", "10", "2")];
    assert_eq!(publish_told(&mut c, (&told, 1), &batch), (1, vec![Published::Routed; 2]));
    assert_eq!(told.take(), [(1, Ok(()))]);
    assert_eq!(disk.bodies().iter().map(|(_, _, body)| body.as_str()).collect::<Vec<_>>(), ["1"]);
    c.pass(10);
    assert_eq!(kept(&c, &disk, "q"), ["1"]);
    assert_eq!((disk.bodies().len(), c.drain_bodies("q")), (1, vec!["1".into(), "2".into()]));
    assert!(disk.bodies().is_empty());
}

#[test]
fn what_is_held_is_held_in_the_next_life_and_can_be_cancelled_there() {
    let (mut c, disk) = with_holds();
    for (ms, body) in [("30", "3"), ("10", "1"), ("20", "2")] {
        assert_eq!(c.publish_one(delayed_persistent("x", "k", ms, body)), Published::Routed);
    }
    assert_eq!(c.publish_one(kit::delayed("x", "k", "15", "transient")), Published::Routed);
    let before = c.vhost.held();
    drop(c);
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    assert_eq!((c.vhost.held().0, before.0), (3, 4));
    let holds = c.vhost.holds(b"x", 0, 10);
    assert_eq!(holds.iter().map(|hold| hold.due_ms).collect::<Vec<_>>(), [10, 20, 30]);
    assert!(c.vhost.cancel_hold(holds[1].id));
    assert_eq!(c.publish_one(delayed_persistent("x", "k", "25", "new")), Published::Routed);
    drop(c);
    let mut c = Connection::kept_in(disk.clone(), vec![]);
    c.pass(30);
    assert_eq!(c.drain_bodies("q"), ["1", "new", "3"]);
    assert_eq!((c.vhost.held(), disk.bodies().len()), ((0, 0), 0));
}

#[test]
fn a_full_disk_holds_nothing_that_is_to_be_written_and_lets_go() {
    let (mut c, disk) = with_holds();
    c.publish_one(delayed_persistent("x", "k", "10", "1"));
    disk.is_full(true);
    let full = Published::Unavailable(Arc::from("the store: no space left on the disk"));
    assert_eq!(c.publish_one(delayed_persistent("x", "k", "10", "2")), full);
    assert_eq!(c.publish_one(kit::delayed("x", "k", "10", "3")), Published::Routed);
    c.pass(10);
    assert_eq!(c.ready("q"), 1, "what is transient goes on");
    assert_eq!(c.vhost.held().0, 1, "and the other is held until there is room where it goes");
    disk.is_full(false);
    c.pass(60_000);
    assert_eq!(c.drain_bodies("q"), ["3", "1"]);
    assert!(disk.bodies().is_empty());
}

#[test]
fn a_purge_and_cancelled_holds_have_a_receipt() {
    let (mut c, disk) = with_holds();
    for due in ["10", "20", "30"] {
        c.publish_one(delayed_persistent("x", "k", due, due));
    }
    c.vhost.declare_queue(durable("p"), c.id).unwrap();
    c.publish_one(persistent("", "p", b"1"));
    disk.is_slow(true);
    let (purged, of_purge) = c.vhost.purge_queue_kept(b"p", c.id).unwrap();
    let one = c.vhost.cancel_hold_kept(c.vhost.holds(b"x", 0, 1)[0].id).unwrap();
    let (cancelled, rest) = c.vhost.cancel_holds_kept(b"x");
    assert_eq!((purged, cancelled), (1, 2));
    let receipts = [of_purge, one, rest];
    assert!(receipts.iter().all(leveret_broker::Receipt::is_pending), "none of it is on disk");
    disk.is_slow(false);
    assert!(receipts.iter().all(leveret_broker::Receipt::is_safe));
    assert!(disk.bodies().is_empty());
    disk.is_slow(true);
    let nothing = (c.vhost.purge_queue_kept(b"p", c.id).unwrap().1, c.vhost.cancel_holds_kept(b"x").1);
    assert!(nothing.0.is_pending() && nothing.1.is_pending(), "somebody else may have emptied it just now");
    disk.is_slow(false);
    assert!(nothing.0.is_safe() && nothing.1.is_safe());
}

#[test]
fn what_a_deleted_exchange_held_is_gone() {
    let (mut c, disk) = with_holds();
    c.publish_one(delayed_persistent("x", "k", "10", "1"));
    c.publish_one(delayed_persistent("x", "k", "20", "2"));
    c.vhost.delete_exchange(&mut c.router, b"x", false).unwrap();
    assert!(disk.bodies().is_empty());
    drop(c);
    assert_eq!(Connection::kept_in(disk, vec![]).vhost.held(), (0, 0));
}

#[test]
fn a_queue_is_written_before_anybody_finds_it() {
    let (c, disk) = with_queues(&[]);
    disk.watch(&c.vhost, "q");
    c.vhost.declare_queue(durable("q"), c.id).unwrap();
    assert!(disk.seen().is_empty(), "the store has the queue before a message can go there");
    assert!(c.vhost.queue(b"q").is_some());
}

#[test]
fn a_duplicate_is_confirmed_with_what_it_is_a_duplicate_of() {
    let disk = Disk::new();
    duplicate(Connection::kept_in(disk.clone(), vec![]), &disk);
    let passes = |_: &MessageView<'_>| Intercepted::Continue;
    let disk = Disk::new();
    duplicate(Connection::kept_in(disk.clone(), vec![Attached::new(At::Publish("x"), passes)]), &disk);
}

fn duplicate(mut c: Connection, disk: &Disk) {
    c.vhost.declare_queue(durable("q"), c.id).unwrap();
    c.exchange(leveret_broker::ExchangeSpec { durable: true, ..exchange("x", "dedup+direct") });
    c.bind("x", BindTo::Queue(b"q"), "k");
    let told = Arc::new(Told::default());
    disk.is_slow(true);
    assert_eq!(publish_told(&mut c, (&told, 1), &[persistent("x", "k", b"1")]), (1, vec![Published::Routed]));
    let mut other = c.sibling();
    assert_eq!(
        publish_told(&mut other, (&told, 2), &[persistent("x", "k", b"1")]),
        (1, vec![Published::Dropped])
    );
    assert!(told.take().is_empty(), "neither is safe yet");
    disk.is_slow(false);
    assert_eq!(told.take(), [(1, Ok(())), (2, Ok(()))]);
    assert_eq!(c.publish_one(persistent("x", "k", b"2")), Published::Routed);
    assert!(told.take().is_empty(), "who was told of one batch is not told of the next");
}
