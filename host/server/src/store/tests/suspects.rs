use super::*;
use leveret_broker::store::Suspicion;
use std::{fs, path::PathBuf};

fn list(life: &Life) -> PathBuf {
    life.folder.path().join("suspects/suspects.toml")
}

/// A queue with so many messages.
fn queue(life: &Life, messages: u64) -> KeptId {
    let queue = declare(life.store(), "q");
    let mut group = life.store().group();
    for number in 0..messages {
        group.enqueue(&message(b"m"), None, Noted::default(), &[target(queue, number)]);
    }
    commit(&mut *group, Durability::Always).unwrap();
    queue
}

/// So many unclean ends, with these in hand.
fn end(life: &mut Life, queue: KeptId, in_hand: &[u64], times: u32) {
    for _ in 0..times {
        in_hand.iter().for_each(|number| life.store().handing_out(queue, *number));
        life.crash();
    }
}

fn suspicion(tells: bool, alone: &[u64], aside: &[u64]) -> Option<Suspicion> {
    Some(Suspicion { tells, alone: alone.to_vec(), aside: aside.to_vec() })
}

#[test]
fn what_is_in_hand_at_each_unclean_end_is_handed_out_alone_then_not_at_all() {
    let mut life = Life::begin();
    let queue = queue(&life, 9);
    end(&mut life, queue, &[1, 2], 1);
    assert_eq!(life.store().suspicion(queue), None, "one end says nothing");
    end(&mut life, queue, &[1, 2], 1);
    assert_eq!(life.store().suspicion(queue), suspicion(true, &[], &[]));
    end(&mut life, queue, &[1, 2, 3], 1);
    assert_eq!(life.store().suspicion(queue), suspicion(true, &[1, 2, 3], &[]));
    end(&mut life, queue, &[2], 1);
    assert_eq!(life.store().suspicion(queue), suspicion(true, &[1, 2, 3], &[]));
    end(&mut life, queue, &[2], 1);
    assert_eq!(life.store().suspicion(queue), suspicion(true, &[1, 3], &[2]));
    let told: Vec<_> = life.store().suspects().iter().map(|known| (known.message, known.crashes)).collect();
    assert_eq!(told, [(1, 1), (2, 3), (3, 1)]);
    assert_eq!(life.store().suspicion(KeptId(queue.0 + 1)), suspicion(true, &[], &[]));
    // What was settled is no suspect.
    life.store().settled(queue, &[Ranges { first: 1, count: 1 }]);
    safe(life.store());
    assert_eq!(life.store().suspects().len(), 2);
    life.restart();
    assert_eq!(life.store().suspicion(queue), suspicion(false, &[], &[2]));
    life.store().settled(queue, &[Ranges { first: 2, count: 1 }]);
    life.restart();
    assert_eq!((life.store().suspicion(queue), list(&life).exists()), (None, false));
}

#[test]
fn what_a_thread_has_handed_out_is_not_in_hand() {
    let mut life = Life::begin();
    let queue = queue(&life, 9);
    end(&mut life, queue, &[], 2);
    let store = life.store();
    [0, 1].iter().for_each(|number| store.handing_out(queue, *number));
    std::thread::scope(|scope| {
        scope.spawn(|| store.handing_out(queue, 2));
        scope.spawn(|| {
            store.handing_out(queue, 3);
            store.handed_out();
            store.sending();
            store.handing_out(queue, 4);
        });
    });
    store.sending();
    store.handing_out(queue, 5);
    life.crash();
    let known: Vec<_> = life.store().suspects().iter().map(|known| known.message).collect();
    assert_eq!(known, [2, 4, 5]);
}

#[test]
fn a_process_that_lived_long_ends_the_row() {
    let mut life = Life::begin();
    let queue = queue(&life, 9);
    end(&mut life, queue, &[7], 3);
    assert_eq!(life.store().suspicion(queue), suspicion(true, &[7], &[]));
    life.store().calm();
    life.store().handing_out(queue, 7);
    assert_eq!(life.store().suspicion(queue), None);
    end(&mut life, queue, &[7], 2);
    assert_eq!(life.store().suspicion(queue), suspicion(true, &[], &[]));
    assert_eq!(life.store().suspects(), []);
}

#[test]
fn of_very_many_the_last_ones_are_known() {
    let mut life = Life::begin();
    let queue = queue(&life, 5000);
    let all: Vec<_> = (0..5000).collect();
    end(&mut life, queue, &all, 3);
    let known: Vec<_> = life.store().suspects().iter().map(|known| known.message).collect();
    assert_eq!(known, all[5000 - 4096..]);
}

#[test]
fn another_version_begins_anew_and_what_cannot_be_read_is_written_anew() {
    let mut life = Life::begin();
    let queue = queue(&life, 9);
    end(&mut life, queue, &[7], 5);
    assert_eq!(life.store().suspicion(queue), suspicion(true, &[], &[7]));
    let known = fs::read_to_string(list(&life)).unwrap();
    let version = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(known.contains(&version), "{known}");
    let others = [
        known.replace(&version, "version = \"other\""),
        known.replace("format = 1", "format = 2"),
        "half of".to_owned(),
    ];
    for other in others {
        fs::write(list(&life), &other).unwrap();
        life.restart();
        assert_eq!(life.store().suspicion(queue), None, "{other}");
        assert_eq!(life.store().suspects(), []);
    }
    // Who takes the list away begins anew, whatever was in hand.
    end(&mut life, queue, &[7], 4);
    fs::remove_file(list(&life)).unwrap();
    end(&mut life, queue, &[], 3);
    assert_eq!(life.store().suspects(), []);
    life.restart();
    // A ring that was cut, or has anything else in it.
    fs::write(list(&life).with_file_name("in-hand"), [7; 1000]).unwrap();
    end(&mut life, queue, &[], 1);
    assert_eq!(life.store().suspects(), []);
}
