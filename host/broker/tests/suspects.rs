//! Messages that were in hand when earlier processes ended: they are handed out alone, or to nobody.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, letters, message, quorum, six_kept};
use leveret_broker::{QueueSpec, Settle, store::Suspicion};
use leveret_model::MessageView;
use std::sync::Arc;

/// A broker that was started with six messages in its queue, of which these are suspected.
fn suspecting(alone: &[u64], aside: &[u64]) -> (Connection, Arc<Disk>) {
    let disk = six_kept();
    disk.suspects(Suspicion { tells: true, alone: alone.to_vec(), aside: aside.to_vec() });
    (Connection::kept_in(disk.clone(), vec![]), disk)
}

/// Of two consumers each comes for its own.
fn sorted(mut bodies: Vec<String>) -> Vec<String> {
    bodies.sort();
    bodies
}

fn settle(c: &mut Connection, tag: u64, outcome: Settle) {
    c.client.settle(1, tag, false, outcome).unwrap();
}

#[test]
fn the_store_knows_what_is_handed_out_before_it_is_and_when_that_has_gone() {
    let (mut c, disk) = suspecting(&[], &[]);
    c.publish_one(MessageView { properties: kit::PERSISTENT, ..message("", "q", b"7") });
    c.get("q").unwrap();
    assert_eq!(disk.in_hand(), [[0]]);
    c.get("q").unwrap();
    c.consume("q", "c", false);
    assert_eq!(c.bodies().len(), 5);
    assert_eq!(disk.in_hand(), [vec![1], vec![2, 3, 4, 5]], "the seventh came after the start");
    c.vhost.end_suspicion();
    settle(&mut c, 1, Settle::Requeue { failed: true });
    assert_eq!(c.bodies(), ["1"]);
    assert!(disk.in_hand().is_empty());
}

#[test]
fn a_suspect_is_handed_out_in_a_burst_of_its_own() {
    for how_many in [1, 2] {
        for no_ack in [false, true] {
            let (mut c, disk) = suspecting(&[0, 2, 3], &[]);
            (0..how_many).for_each(|number| c.consume("q", &format!("c{number}"), no_ack));
            assert_eq!(sorted(c.bodies()), ["1", "2", "3", "4", "5", "6"]);
            let in_hand = disk.in_hand();
            assert!([0, 2, 3].iter().all(|suspect| in_hand.contains(&vec![*suspect])), "{in_hand:?}");
            assert_eq!(in_hand.concat().len(), 6, "{in_hand:?}");
            if how_many == 1 {
                assert_eq!(in_hand, [vec![0], vec![1], vec![2], vec![3], vec![4, 5]]);
            }
        }
    }
}

#[test]
fn once_the_process_has_lived_long_enough_suspects_are_as_others_are() {
    let (mut c, disk) = suspecting(&[0, 3], &[]);
    c.vhost.end_suspicion();
    c.consume("q", "c", false);
    assert_eq!(c.bodies(), ["1", "2", "3", "4", "5", "6"]);
    assert!(disk.in_hand().is_empty());
}

#[test]
fn what_is_set_aside_is_given_to_nobody_and_stays_until_a_purge() {
    for how_many in [0, 1, 2] {
        let (mut c, disk) = suspecting(&[], &[1, 5]);
        (0..how_many).for_each(|number| c.consume("q", &format!("c{number}"), true));
        let given = if how_many == 0 { c.drain_bodies("q") } else { c.bodies() };
        assert_eq!(sorted(given), ["1", "3", "4", "5"], "{how_many}");
        let queue = c.vhost.queue(b"q").unwrap();
        assert_eq!((queue.status().messages, queue.unsettled()), (0, 2));
        c.vhost.end_suspicion();
        assert!(c.bodies().is_empty());
        c.client.tell_store();
        let left: Vec<_> = disk.bodies().into_iter().map(|(.., body)| body).collect();
        assert_eq!(left, ["2", "6"], "they are kept");
        assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(2));
        c.client.tell_store();
        assert!(disk.bodies().is_empty());
        assert_eq!(queue.unsettled(), 0);
    }
}

#[test]
fn what_is_set_aside_dies_where_what_dies_has_somewhere_to_go() {
    for kind in [vec![], vec![quorum()]] {
        let disk = Disk::new();
        let mut c = Connection::kept_in(disk.clone(), vec![]);
        let spec = |name: &str, arguments: &[_]| QueueSpec {
            durable: true,
            arguments: kit::table(arguments),
            ..kit::queue(name)
        };
        c.vhost.declare_queue(spec("q", &[&letters()[..], &kind].concat()), c.id).unwrap();
        c.vhost.declare_queue(spec("dead", &[]), c.id).unwrap();
        let persistent = |body| MessageView { properties: kit::PERSISTENT, ..message("", "q", body) };
        c.publish_all(&[persistent(b"1"), persistent(b"2")]);
        drop(c);
        disk.suspects(Suspicion { tells: true, alone: vec![], aside: vec![0] });
        let mut c = Connection::kept_in(disk.clone(), vec![]);
        assert_eq!(c.get("q").map(|(.., body)| body).as_deref(), Some("2"));
        c.pass(0);
        assert_eq!(c.drain_bodies("dead"), ["1"]);
    }
}
