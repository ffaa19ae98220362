//! Messages that cannot be read are left out; a purge is the end of them too.
#![allow(clippy::unwrap_used, reason = "a test may panic, and need not be fast")]

mod kit;

use kit::{Connection, Disk, six_kept};
use leveret_broker::Settle;
use std::sync::Arc;

/// A broker that was started with six messages in its queue, of which the third cannot be read.
fn damaged() -> (Connection, Arc<Disk>) {
    let disk = six_kept();
    disk.is_damaged_at(Some(2));
    (Connection::kept_in(disk.clone(), vec![]), disk)
}

#[test]
fn a_message_that_cannot_be_read_is_left_out_and_stays_for_another_start() {
    let (mut c, disk) = damaged();
    c.consume("q", "c", true);
    assert_eq!(c.bodies(), ["1", "2", "4", "5", "6"]);
    assert_eq!(c.ready("q"), 0);
    c.client.tell_store();
    drop(c);
    let left: Vec<_> = disk.bodies().into_iter().map(|(.., body)| body).collect();
    assert_eq!(left, ["3"]);
    disk.is_damaged_at(None);
    let mut c = Connection::kept_in(disk, vec![]);
    c.consume("q", "c", true);
    assert_eq!(c.bodies(), ["3"]);
}

#[test]
fn a_purge_is_the_end_of_what_was_left_out() {
    for (read, purged) in [(0, 6), (1, 4), (5, 0)] {
        let (mut c, disk) = damaged();
        for _ in 0..read {
            let (tag, ..) = c.get("q").unwrap();
            c.client.settle(1, tag, false, Settle::Accepted).unwrap();
        }
        assert_eq!(c.vhost.purge_queue(b"q", c.id), Ok(purged), "{read}");
        c.client.tell_store();
        assert!(disk.bodies().is_empty(), "{read}: {:?}", disk.bodies());
    }
}
