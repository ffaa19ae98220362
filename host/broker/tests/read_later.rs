//! Messages that cannot be read now, for want of a resource, are read later; nobody loses them, and nobody spins.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, six_kept};
use std::sync::Arc;

/// A connection to a broker that was started with six messages in its queue, of which those from the third on cannot be
/// read now.
fn short() -> (Connection, Arc<Disk>) {
    let disk = six_kept();
    disk.is_short_from(Some(2));
    (Connection::kept_in(disk.clone(), vec![]), disk)
}

/// Delivers when it is due, not before.
fn look_again(c: &mut Connection) -> Vec<String> {
    let due = c.client.deliver_due_ms().unwrap();
    c.pass(due - leveret_broker::port::Router::now_ms(&c.router));
    c.bodies()
}

#[test]
fn the_only_consumer_gets_what_could_not_be_read_once_it_can_be() {
    let (mut c, disk) = short();
    c.consume("q", "c", true);
    assert_eq!(c.bodies(), ["1", "2"]);
    let reads = disk.reads();
    // Nobody wakes it, and neither it nor the housekeeper asks all the time.
    assert_eq!((c.bodies().len(), c.ready("q")), (0, 4));
    assert_eq!(look_again(&mut c), [""; 0]);
    assert!(disk.reads() - reads <= 3, "{} reads", disk.reads() - reads);
    disk.is_short_from(Some(4));
    assert_eq!(look_again(&mut c), ["3", "4"]);
    disk.is_short_from(None);
    assert_eq!(look_again(&mut c), ["5", "6"]);
    assert_eq!((c.client.deliver_due_ms(), c.ready("q")), (None, 0));
    c.client.tell_store();
    assert!(disk.bodies().is_empty(), "all of them were settled");
}

#[test]
fn what_is_published_meanwhile_comes_behind_it_and_does_not_make_it_spin() {
    let (mut c, disk) = short();
    c.consume("q", "c", true);
    assert_eq!(c.bodies(), ["1", "2"]);
    let reads = disk.reads();
    for _ in 0..50 {
        c.publish("", "q", "new");
    }
    assert_eq!(disk.reads(), reads, "a publish does not try it again");
    disk.is_short_from(None);
    let mut bodies = look_again(&mut c);
    assert_eq!(bodies.drain(..4).collect::<Vec<_>>(), ["3", "4", "5", "6"]);
    assert_eq!((bodies.len(), bodies.iter().all(|body| body == "new")), (50, true));
}

#[test]
fn of_several_consumers_one_looks_again_also_if_another_goes() {
    for leaves in [false, true] {
        let (mut c, disk) = short();
        let mut other = c.sibling();
        c.consume("q", "c", true);
        other.consume("q", "d", true);
        let mut all = c.bodies();
        all.extend(other.bodies());
        all.sort();
        assert_eq!(all, ["1", "2"]);
        let looks = |c: &Connection| c.client.deliver_due_ms().is_some();
        assert!(looks(&c) || looks(&other));
        if leaves {
            let (gone, left) = if looks(&c) { (c, other) } else { (other, c) };
            drop(gone);
            other = left;
            c = other.sibling();
            // It hears of it, and looks itself from now on.
            assert_eq!(other.bodies(), [""; 0]);
        }
        disk.is_short_from(None);
        let mut rest = Vec::new();
        for c in [&mut c, &mut other] {
            if looks(c) {
                rest.extend(look_again(c));
            }
        }
        rest.extend(c.bodies());
        rest.extend(other.bodies());
        rest.sort();
        assert_eq!(rest, ["3", "4", "5", "6"], "{leaves}");
    }
}

#[test]
fn who_gets_one_by_one_gets_none_now_and_the_next_once_it_can_be_read() {
    let (mut c, disk) = short();
    let get = |c: &mut Connection| c.get("q").map(|(.., body)| body);
    assert_eq!([(); 3].map(|()| get(&mut c)), [Some("1".into()), Some("2".into()), None]);
    assert_eq!(c.ready("q"), 4);
    disk.is_short_from(None);
    assert_eq!(get(&mut c), Some("3".into()));
    // A purge reads nothing.
    disk.is_short_from(Some(0));
    let reads = disk.reads();
    assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(3));
    assert_eq!(disk.reads(), reads);
}
