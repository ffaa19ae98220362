//! Transient messages for which memory has no room are written to the store, and come back from there.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Ageing as _, Connection, Disk, PERSISTENT, Random, Taken, Wants, message, name, table};
use leveret_amqp091::properties::MessageProperties;
use leveret_broker::{ConsumeSpec, MemoryAccount, QueueSpec, Settle, Vhost};
use leveret_model::{MessageView, Value};
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

const MIB: u64 = 1 << 20;

/// In a virtual host with that memory, whose queues page from a hundredth of it on.
fn with(disk: &Arc<Disk>, watermark_bytes: u64) -> (Connection, Arc<MemoryAccount>) {
    let account = Arc::new(MemoryAccount::new(watermark_bytes).paging_from(1));
    let mut router = kit::Native::default();
    let vhost = Vhost::kept_in(disk.clone(), name("/"), account.clone(), &mut router).unwrap();
    (Connection { router, ..Connection::to(&vhost) }, account)
}

fn declare(c: &Connection, durable: bool, arguments: &[(&str, Value)]) {
    let spec = QueueSpec { durable, arguments: table(arguments), ..kit::queue("q") };
    c.vhost.declare_queue(spec, c.id).unwrap();
}

/// A body of that length, which is that of a record of its own or more, with its number.
fn body(number: u32, length: usize) -> Vec<u8> {
    let mut body = format!("{number:06}").into_bytes();
    body.resize(length.max(6), b'.');
    body
}

fn number_of(body: &str) -> u32 {
    body[..6].parse().unwrap()
}

fn put(c: &mut Connection, number: u32, length: usize, persistent: bool) {
    let body = body(number, length);
    let properties = if persistent { PERSISTENT } else { message("", "q", &[]).properties };
    c.publish_one(MessageView { properties, ..message("", "q", &body) });
}

#[test]
fn a_long_transient_backlog_is_in_pages_and_comes_back_in_order() {
    for (length, count) in [(1000, 20_000), (50_000, 400)] {
        let disk = Disk::new();
        let (mut c, account) = with(&disk, MIB);
        declare(&c, false, &[]);
        for number in 0..count {
            put(&mut c, number, length, false);
            assert!(account.bytes() < 5 * MIB, "{} bytes after {number}", account.bytes());
        }
        assert_eq!(c.ready("q"), u64::from(count));
        assert!(disk.pages() > 10, "{} pages", disk.pages());
        for number in 0..count {
            let (tag, redelivered, found) = c.get("q").unwrap();
            assert_eq!((number_of(&found), found.len(), redelivered), (number, length, false));
            c.client.settle(1, tag, false, Settle::Accepted).unwrap();
            assert!(account.bytes() < 5 * MIB);
        }
        assert_eq!((c.get("q"), account.bytes(), disk.pages()), (None, 0, 0));
    }
}

#[test]
fn of_a_durable_queue_what_is_persistent_survives_and_nothing_else_does() {
    let disk = Disk::new();
    let (mut c, account) = with(&disk, MIB);
    declare(&c, true, &[]);
    (0..10_000).for_each(|number| put(&mut c, number, 1000, number % 3 == 0));
    assert!(disk.pages() > 3 && account.bytes() < 5 * MIB);
    let taken: Vec<u32> = (0..5000)
        .map(|_| {
            let (tag, _, found) = c.get("q").unwrap();
            c.client.settle(1, tag, false, Settle::Accepted).unwrap();
            number_of(&found)
        })
        .collect();
    assert!(taken.into_iter().eq(0..5000));
    c.client.tell_store();
    drop(c);
    let (mut c, _) = with(&disk, MIB);
    let left: Vec<u32> = c.drain_bodies("q").iter().map(|body| number_of(body)).collect();
    assert!(left.into_iter().eq((5000..10_000).filter(|number| number % 3 == 0)));
}

#[test]
fn a_purge_and_a_deletion_drop_pages() {
    for durable in [false, true] {
        let disk = Disk::new();
        let (mut c, account) = with(&disk, MIB);
        declare(&c, durable, &[]);
        (0..5000).for_each(|number| put(&mut c, number, 1000, number % 2 == 0));
        assert!(disk.pages() > 0);
        assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(5000));
        assert_eq!((c.ready("q"), disk.pages(), disk.bodies().len()), (0, 0, 0), "{durable}");
        (0..5000).for_each(|number| put(&mut c, number, 1000, number % 2 == 0));
        assert!(disk.pages() > 0);
        c.vhost.delete_queue(&mut c.router, b"q", false, false, c.id).unwrap();
        assert_eq!((disk.pages(), account.bytes()), (0, 0), "{durable}");
    }
}

/// A store remembers for ever what is settled before it comes.
#[test]
fn a_purge_settles_what_the_store_has_and_not_what_lay_beside_it() {
    let disk = Disk::new();
    let (mut c, _) = with(&disk, MIB);
    declare(&c, true, &[]);
    (0..9000).for_each(|number| put(&mut c, number, 1000, number % 3 == 0));
    // Those in the front are read from their pages again, one page in part.
    for _ in 0..4000 {
        let (tag, ..) = c.get("q").unwrap();
        c.client.settle(1, tag, false, Settle::Accepted).unwrap();
    }
    c.client.tell_store();
    assert!(disk.pages() > 1);
    assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(5000));
    assert_eq!((disk.settled_numbers(), disk.bodies().len(), disk.pages()), (3000, 0, 0));
}

#[test]
fn where_the_disk_takes_nothing_messages_stay_in_memory() {
    let disk = Disk::new();
    let (mut c, account) = with(&disk, MIB);
    declare(&c, false, &[]);
    disk.is_full(true);
    (0..6000).for_each(|number| put(&mut c, number, 1000, false));
    assert_eq!((disk.pages(), account.bytes() > 5 * MIB), (0, true));
    assert!(account.over_watermark(), "publishers are held back");
    // Whoever waits is relieved once there is room.
    disk.is_full(false);
    c.vhost.set_housekeeper(Arc::new(kit::Bell::default()));
    let waiter: Arc<dyn leveret_broker::port::Wake> = Arc::new(kit::Bell::default());
    assert!(account.wake_when_below(&waiter));
    for _ in 0..3 {
        c.pass(1000);
    }
    assert!(disk.pages() > 2 && account.bytes() < 3 * MIB, "{} bytes", account.bytes());
    assert!(c.drain_bodies("q").iter().map(|body| number_of(body)).eq(0..6000));
}

/// Others publish to the same disk, and consumers wait for the queue's lock.
#[test]
fn what_is_paged_in_one_go_is_little_and_the_next_goes_on() {
    let disk = Disk::new();
    let (mut c, account) = with(&disk, MIB);
    declare(&c, false, &[]);
    disk.is_full(true);
    (0..40_000).for_each(|number| put(&mut c, number, 1000, false));
    disk.is_full(false);
    c.vhost.set_housekeeper(Arc::new(kit::Bell::default()));
    let (mut rounds, mut before) = (0, 0);
    while account.over_watermark() {
        c.pass(1000);
        rounds += 1;
        // What is let go again is not written again.
        let written = disk.pages_written() - before;
        // The first segments of a queue are short.
        assert!(written < 20, "{written} pages in round {rounds}");
        before += written;
        assert!(rounds < 20, "it does not go on");
    }
    assert!(before > 35, "{before} pages");
    assert!(c.drain_bodies("q").iter().map(|body| number_of(body)).eq(0..40_000));
}

/// As one that came by AMQP 1.0 may be.
#[test]
fn a_message_that_is_too_long_for_a_page_holds_up_none_behind_it() {
    const LONG: usize = 19 << 20;
    let disk = Disk::new();
    let (mut c, account) = with(&disk, MIB);
    declare(&c, false, &[]);
    for number in 0..10_000 {
        put(&mut c, number, if number == 4000 { LONG } else { 1000 }, false);
    }
    assert!(disk.longest_of_pages() < LONG, "it stays in memory");
    assert!(account.bytes() < LONG as u64 + 6 * MIB, "{} bytes", account.bytes());
    for number in 0..10_000 {
        let (tag, _, found) = c.get("q").unwrap();
        assert_eq!((number_of(&found), found.len()), (number, if number == 4000 { LONG } else { 1000 }));
        c.client.settle(1, tag, false, Settle::Accepted).unwrap();
    }
    assert_eq!((c.get("q"), account.bytes(), disk.pages()), (None, 0, 0));
}

#[test]
fn from_a_hundred_percent_on_nothing_is_paged() {
    let disk = Disk::new();
    let account = Arc::new(MemoryAccount::new(MIB).paging_from(100));
    let mut router = kit::Native::default();
    let vhost = Vhost::kept_in(disk.clone(), name("/"), account.clone(), &mut router).unwrap();
    let mut c = Connection { router, ..Connection::to(&vhost) };
    declare(&c, false, &[]);
    (0..6000).for_each(|number| put(&mut c, number, 1000, false));
    assert_eq!((disk.pages(), account.bytes() > 5 * MIB), (0, true));
}

#[test]
fn what_is_paged_still_expires_and_counts_for_limits() {
    let disk = Disk::new();
    let (mut c, _) = with(&disk, MIB);
    c.router.memory.lock().unwrap().now_ms = 1_700_000_000_000;
    declare(&c, false, &[("x-max-length-bytes", Value::Integer(4_000_000))]);
    let wide = "w".repeat(1000);
    for number in 0..4000 {
        let properties =
            MessageProperties { expiration: (number % 2 == 0).then_some(&b"1000"[..]), ..Default::default() };
        let (properties, body) = (properties.encode(), body(number, wide.len()));
        c.publish_one(MessageView { properties: &properties, ..message("", "q", &body) });
    }
    assert!(disk.pages() > 0);
    assert_eq!(c.ready("q"), 4000);
    (4000..5000).for_each(|number| put(&mut c, number, 1000, false));
    assert_eq!(c.ready("q"), 4000, "the oldest went");
    c.router.memory.lock().unwrap().now_ms += 2000;
    let left: Vec<u32> = c.drain_bodies("q").iter().map(|body| number_of(body)).collect();
    assert!(left.into_iter().eq((1000..5000).filter(|number| *number >= 4000 || number % 2 == 1)));
    assert_eq!(disk.pages(), 0);
}

#[test]
fn whatever_is_done_with_it_a_queue_that_pages_is_as_one_in_memory() {
    for seed in 0..6 {
        let mut random = Random(seed + 1);
        let disk = Disk::new();
        let (mut c, _) = with(&disk, MIB);
        declare(&c, seed % 2 == 0, &[]);
        let (mut next, mut ready, mut out, mut most) = (0, VecDeque::new(), Vec::new(), 0);
        for _ in 0..500 {
            match random.below(10) {
                0..5 => {
                    for _ in 0..random.below(120) {
                        let length = [10, 1000, 40_000][random.below(20).min(2) as usize];
                        put(&mut c, next, length, random.below(3) == 0);
                        ready.push_back(next);
                        next += 1;
                    }
                }
                5..8 => {
                    for _ in 0..random.below(100) {
                        let Some((tag, _, found)) = c.get("q") else { break };
                        assert_eq!(Some(number_of(&found)), ready.pop_front(), "seed {seed}");
                        out.push((tag, number_of(&found)));
                    }
                }
                8 => {
                    for _ in 0..random.below(60) {
                        if out.is_empty() {
                            break;
                        }
                        let at = random.below(out.len() as u64) as usize;
                        let (tag, _) = out.swap_remove(at);
                        c.client.settle(1, tag, false, Settle::Accepted).unwrap();
                    }
                }
                _ => {
                    for (tag, number) in out.drain(..) {
                        c.requeue(tag, false);
                        let at = ready.partition_point(|other| *other < number);
                        ready.insert(at, number);
                    }
                    if random.below(12) == 0 {
                        assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(ready.len() as u64));
                        ready.clear();
                    }
                }
            }
            most = most.max(disk.pages());
            assert_eq!(c.ready("q"), ready.len() as u64, "seed {seed}");
        }
        assert!(most > 0, "seed {seed}: it never paged");
        let left: Vec<u32> = c.drain_bodies("q").iter().map(|body| number_of(body)).collect();
        assert!(left.into_iter().eq(ready), "seed {seed}");
        out.iter().for_each(|(tag, _)| c.client.settle(1, *tag, false, Settle::Accepted).unwrap());
        c.client.tell_store();
        assert_eq!((disk.pages(), disk.bodies().len()), (0, 0), "seed {seed}");
    }
}

/// What a consumer of some messages is given, until there is nothing more for it.
fn take(
    c: &mut Connection,
    wants: impl Fn(u32) -> bool + Send + Sync + 'static,
    settles: bool,
    mut each: impl FnMut(),
) -> Vec<(u64, u32)> {
    let number = |body: &[u8]| number_of(std::str::from_utf8(body).unwrap());
    let wants = Wants::by(move |body| wants(number(body)));
    let spec =
        ConsumeSpec { queue: name("q"), tag: name("t"), selector: Some(wants), ..ConsumeSpec::default() };
    c.client.consume(1, spec).unwrap();
    let (mut came, mut rings) = (Vec::new(), None);
    while rings != Some(c.bell.rings.load(Ordering::SeqCst)) {
        rings = Some(c.bell.rings.load(Ordering::SeqCst));
        let mut taken = Taken::default();
        c.client.deliver(&mut c.router, &mut taken);
        came.extend(taken.deliveries.iter().map(|delivery| (delivery.tag, number(&delivery.body))));
        if settles {
            c.client.settle(1, 0, true, Settle::Accepted).unwrap();
            c.client.tell_store();
        }
        each();
    }
    came
}

/// What is taken out of turn does not keep what it lay among in memory, settled or not, and nothing is written again for it.
#[test]
fn what_is_taken_out_of_turn_is_no_part_of_its_page_any_more() {
    for (persistent, settles) in [(false, false), (false, true), (true, false), (true, true)] {
        let disk = Disk::new();
        let (mut c, account) = with(&disk, MIB);
        declare(&c, persistent, &[]);
        (0..10_000).for_each(|number| put(&mut c, number, 1000, persistent));
        let written = disk.pages_written();
        assert_eq!(written > 0, !persistent);
        let came = take(
            &mut c,
            |number| number % 10 == 3,
            settles,
            || {
                assert!(account.bytes() < 6 * MIB, "{} bytes: {persistent}, {settles}", account.bytes());
            },
        );
        let numbers = |came: &[(u64, u32)]| came.iter().map(|(_, number)| *number).collect::<Vec<_>>();
        assert!(numbers(&came).into_iter().eq((0..10_000).filter(|number| number % 10 == 3)));
        // The last segments were not written before.
        assert!(disk.pages_written() <= written + 3, "{} and {written}", disk.pages_written());
        c.client.cancel(1, b"t", &mut c.router);
        if !settles {
            // Half of them come back, to where they were.
            for (at, (tag, _)) in came.iter().enumerate() {
                let back = Settle::Requeue { failed: false };
                c.client.settle(1, *tag, false, if at % 2 == 0 { back } else { Settle::Accepted }).unwrap();
            }
        }
        let is_left = |number: &u32| number % 10 != 3 || (!settles && number % 20 == 3);
        let left: Vec<u32> = c.drain_bodies("q").iter().map(|body| number_of(body)).collect();
        assert!(left.into_iter().eq((0..10_000).filter(is_left)), "{persistent}, {settles}");
        c.client.tell_store();
        assert_eq!((account.bytes(), disk.pages(), disk.bodies().len()), (0, 0, 0));
    }
}

/// What was settled out of turn may be in the store for a moment more, and what lay beside it not yet.
#[test]
fn what_was_settled_out_of_turn_is_not_read_again() {
    let disk = Disk::new();
    let (mut c, _) = with(&disk, 1);
    declare(&c, true, &[]);
    // Of those about 4000 as many are not written yet as are settled and not told; what comes before stays in memory.
    for number in 0..5500 {
        disk.withhold([1500, 2500].contains(&number) || (4000..4010).contains(&number));
        put(&mut c, number, 1000, true);
    }
    let mut other = c.sibling();
    let came = take(&mut other, |number| (4020..4030).contains(&number), false, || {});
    assert_eq!(came.len(), 10);
    came.iter().for_each(|(tag, _)| other.client.settle(1, *tag, false, Settle::Accepted).unwrap());
    (5500..7500).for_each(|number| put(&mut c, number, 1000, true));
    disk.write_withheld();
    let left: Vec<u32> = c.drain_bodies("q").iter().map(|body| number_of(body)).collect();
    assert!(left.into_iter().eq((0..7500).filter(|number| !(4020..4030).contains(number))));
}

#[test]
fn messages_of_each_priority_come_back_in_their_order() {
    let disk = Disk::new();
    let (mut c, account) = with(&disk, MIB);
    declare(&c, false, &[("x-max-priority", Value::Integer(3))]);
    let wide = ".".repeat(1000);
    for number in 0..9000 {
        let priority = Some((number % 3) as u8);
        let properties = MessageProperties { priority, ..MessageProperties::default() }.encode();
        let body = body(number, wide.len());
        c.publish_one(MessageView { properties: &properties, ..message("", "q", &body) });
    }
    assert!(disk.pages() > 3 && account.bytes() < 6 * MIB, "{} bytes", account.bytes());
    let left: Vec<u32> = c.drain_bodies("q").iter().map(|body| number_of(body)).collect();
    let of = |priority| (0..9000).filter(move |number| number % 3 == priority);
    assert!(left.into_iter().eq(of(2).chain(of(1)).chain(of(0))));
    assert_eq!((account.bytes(), disk.pages()), (0, 0));
}

/// Of age, of length, and at a client's hand.
#[test]
fn what_is_paged_dies_and_is_sent_on_as_any() {
    let disk = Disk::new();
    let (mut c, account) = with(&disk, MIB);
    c.router.memory.lock().unwrap().now_ms = 1_700_000_000_000;
    c.vhost.set_housekeeper(c.bell.clone());
    let text = |text: &str| Value::Text(text.into());
    let letters = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))];
    let limits = [("x-message-ttl", Value::Integer(1000)), ("x-max-length", Value::Integer(8000))];
    declare(&c, false, &[letters, limits].concat());
    c.queue("dead");
    for number in 0..12_000 {
        put(&mut c, number, 1000, false);
        c.client.dead_letter(&mut c.router);
    }
    assert!(disk.pages() > 3 && account.bytes() < 8 * MIB, "{} bytes", account.bytes());
    assert_eq!((c.ready("q"), c.ready("dead")), (8000, 4000), "the oldest went");
    for _ in 0..1000 {
        c.reject("q");
    }
    c.pass(2000);
    assert_eq!((c.ready("q"), c.ready("dead")), (0, 12_000));
    let came: Vec<u32> = c.drain_bodies("dead").iter().map(|body| number_of(body)).collect();
    assert!(came.into_iter().eq(0..12_000));
    assert_eq!((account.bytes(), disk.pages()), (0, 0));
}
