//! What the shipped types keep outlives the process where their exchange is durable, and is not lost where a
//! disk fails. The store and the types are the real ones.

use crate::{disk::Disk, life::Life};
use leveret_broker::{
    Published,
    port::Layer,
    store::{StateChange, Store},
};
use leveret_model::Value;
use leveret_plugin::{
    Scope,
    registry::{GoTo, PinTo},
};
use std::sync::Arc;

fn full() -> Published {
    Published::Unavailable(Arc::from("the store: no space left on the disk"))
}

fn deduplicates(persistence: &str) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Text(text.into());
    vec![
        ("x-cache-size", Value::Integer(100)),
        ("x-cache-persistence", text(persistence)),
        ("x-inner-type", text("direct")),
    ]
}

#[test]
fn deduplication_loses_nothing_and_forgets_nothing_when_the_disk_fails() {
    let disk = Disk::new();
    let mut life = Life::with(&disk, "x-message-deduplication", &deduplicates("disk"));
    assert_eq!(life.publish("k", "1"), Published::Routed);
    disk.is_full(true);
    assert_eq!([life.publish("k", "2"), life.publish("k", "2")], [full(), full()]);
    assert_eq!(life.publish("k", "1"), Published::Dropped, "what was seen stays seen");
    disk.is_full(false);
    assert_eq!(life.publish("k", "2"), Published::Routed, "it is no duplicate of what was refused");
    assert_eq!(life.publish("k", "2"), Published::Dropped);
    assert_eq!(life.count("q"), 2);
    drop(life);

    let mut life = Life::with(&disk, "x-message-deduplication", &deduplicates("disk"));
    let again = ["1", "2", "3"].map(|id| life.publish("k", id));
    assert_eq!(again, [Published::Dropped, Published::Dropped, Published::Routed]);
}

#[test]
fn what_goes_because_there_are_too_many_goes_from_the_disk_too() {
    let disk = Disk::new();
    let mut life = Life::with(&disk, "x-message-deduplication", &deduplicates("disk"));
    for id in 0..300 {
        assert_eq!(life.publish("k", &id.to_string()), Published::Routed);
    }
    let holder = life.vhost.exchange(b"x").unwrap().state_holder(Layer::FRONT).unwrap();
    drop(life);
    disk.open_again();
    let kept = disk.load(&holder).unwrap();
    let values = kept.iter().filter(|change| matches!(change, StateChange::Set { .. })).count();
    // The last one that went was gone only when it was told of.
    assert!((100..=101).contains(&values), "{values} of 300 with room for 100");
}

#[test]
fn what_need_not_outlive_the_process_is_not_written() {
    for (durable, persistence) in [(false, "disk"), (true, "memory")] {
        let disk = Disk::new();
        for _ in 0..2 {
            let mut life = Life::begin(&disk);
            life.declare("x-message-deduplication", durable, &deduplicates(persistence)).unwrap();
            life.bind("q", "k");
            assert_eq!(life.publish("k", "1"), Published::Routed);
            assert_eq!(life.publish("k", "1"), Published::Dropped);
        }
        assert_eq!(disk.len(), 0, "{durable} {persistence}");
    }
}

#[test]
fn messages_kept_for_later_bindings_are_there_after_a_start() {
    let history = [("x-recent-history-length", Value::Integer(2))];
    for (type_name, arguments, expected) in [("x-recent-history", &history[..], 2), ("x-lvc", &[], 3)] {
        let disk = Disk::new();
        let mut life = Life::with(&disk, type_name, arguments);
        for (key, id) in [("a", "1"), ("b", "2"), ("k", "3"), ("k", "4")] {
            assert_ne!(life.publish(key, id), full());
        }
        disk.is_full(true);
        assert_eq!(life.publish("k", "5"), full(), "{type_name}");
        disk.is_full(false);
        drop(life);

        let mut life = Life::begin(&disk);
        life.declare(type_name, true, arguments).unwrap();
        for key in ["a", "b", "k"] {
            life.bind("late", key);
        }
        let once = if type_name == "x-lvc" { 1 } else { 3 };
        assert_eq!(life.count("late"), expected * once, "{type_name}");
    }
}

#[test]
fn what_a_deleted_exchange_kept_never_comes_back() {
    let disk = Disk::new();
    let begin = || Life::with(&disk, "x-message-deduplication", &deduplicates("disk"));
    let mut life = begin();
    let declare = |life: &mut Life| life.declare("x-message-deduplication", true, &deduplicates("disk"));
    assert_eq!(life.publish("k", "1"), Published::Routed);
    disk.is_full(true);
    life.vhost.delete_exchange(&mut life.worker, b"x", false).unwrap();
    let refused = declare(&mut life).unwrap_err().to_string();
    assert!(refused.contains("the store: no space left on the disk"), "{refused}");
    disk.is_full(false);
    declare(&mut life).unwrap();
    life.bind("q", "k");
    assert_eq!(life.publish("k", "1"), Published::Routed, "another exchange of the same name");
    drop(life);
    let mut life = begin();
    assert_eq!(life.publish("k", "1"), Published::Dropped);
}

#[test]
fn state_that_a_version_migrated_is_there_after_a_start_in_its_form() {
    let disk = Disk::new();
    let mut life = Life::counting(&disk, &[1]);
    life.count_more(3);
    disk.is_full(true);
    let refused = life.deploy(2).unwrap_err();
    assert!(refused.contains("the store: no space left on the disk"), "{refused}");
    disk.is_full(false);
    life.count_more(1);
    drop(life);

    // The file is another one when the broker starts: what is there is migrated.
    let mut life = Life::counting(&disk, &[1]);
    life.count_more(1);
    life.deploy(2).unwrap();
    life.count_more(1);
    drop(life);

    let mut life = Life::counting(&disk, &[2]);
    life.count_more(1);
    assert_eq!(life.counted(), 7);
}

#[test]
fn after_a_start_one_goes_back_from_a_version_that_migrates_as_before() {
    let disk = Disk::new();
    let mut life = Life::counting(&disk, &[1]);
    life.count_more(3);
    life.deploy(2).unwrap();
    life.count_more(1);
    assert_eq!(life.counted(), 4);
    drop(life);

    let mut life = Life::counting(&disk, &[2]);
    let exchange = life.vhost.exchange(b"x").unwrap();
    let to = PinTo::Named(String::from("1"));
    let refused = life.host.registry().pin(&exchange, &to).unwrap_err().to_string();
    assert!(refused.contains("its state was migrated"), "{refused}");
    life.count_more(1);
    assert_eq!(life.counted(), 5);
    disk.is_full(true);
    let refused = life.host.registry().rollback(&Scope::Global, "stateful").unwrap_err().to_string();
    assert!(refused.contains("the store: no space left on the disk"), "{refused}");
    assert_eq!(life.counted(), 5, "nothing has changed");
    disk.is_full(false);
    life.roll_back();
    assert_eq!(life.counted(), 3, "what the older version left");
    life.count_more(1);
    drop(life);

    // Which is what there is in the next life too, and nothing was left but that.
    let mut life = Life::counting(&disk, &[1]);
    life.count_more(1);
    assert_eq!(life.counted(), 5);
    let holder = life.vhost.exchange(b"x").unwrap().state_holder(Layer::FRONT).unwrap();
    assert!(disk.load_aside(&holder).unwrap().is_empty());
    life.vhost.delete_exchange(&mut life.worker, b"x", false).unwrap();
    assert!(disk.load(&holder).unwrap().is_empty());
}

#[test]
fn after_a_start_an_exchange_that_began_with_the_newer_version_goes_back_to_nothing() {
    let disk = Disk::new();
    let mut life = Life::counting(&disk, &[1, 2]);
    life.count_more(3);
    drop(life);
    let mut life = Life::counting(&disk, &[2]);
    life.roll_back();
    life.count_more(1);
    assert_eq!(life.counted(), 1);
}

#[test]
fn what_a_version_left_goes_with_its_exchange_and_when_it_is_forgotten() {
    let left = |disk: &Disk, life: &Life| {
        let holder = life.vhost.exchange(b"x").unwrap().state_holder(Layer::FRONT).unwrap();
        (disk.load_aside(&holder).unwrap().len(), holder)
    };
    let disk = Disk::new();
    let mut life = Life::counting(&disk, &[1]);
    life.count_more(1);
    life.deploy(2).unwrap();
    life.count_more(1);
    drop(life);
    let mut life = Life::counting(&disk, &[2]);
    let (count, holder) = left(&disk, &life);
    assert_eq!(count, 1);
    life.vhost.delete_exchange(&mut life.worker, b"x", false).unwrap();
    assert!(disk.load_aside(&holder).unwrap().is_empty());

    // Of a plugin three versions are kept: with the fourth the first is forgotten.
    life.deploy(1).unwrap();
    life.declare("x-stateful", true, &[]).unwrap();
    life.bind("q", "k");
    life.count_more(1);
    life.deploy(2).unwrap();
    drop(life);
    let life = Life::counting(&disk, &[2]);
    for (number, expected) in [(0, 1), (1, 1), (2, 0)] {
        // Like the first, in other bytes.
        if number > 0 {
            life.deploy_file(1, &[0, 3, 1, b'n', number]).unwrap();
        }
        assert_eq!(left(&disk, &life).0, expected, "{number}");
    }
}

#[test]
fn after_going_back_and_forth_the_store_knows_who_wrote_last() {
    let disk = Disk::new();
    let mut life = Life::counting(&disk, &[1, 2]);
    life.count_more(3);
    life.roll_back();
    life.host.registry().go_to(&Scope::Global, "stateful", &GoTo::Newest).unwrap();
    life.count_more(2);
    drop(life);

    let mut life = Life::counting(&disk, &[2]);
    life.count_more(1);
    assert_eq!(life.counted(), 3);
}
