//! What a confirm stands for: the system was asked to put on disk what was written, and said that it did.
//!
//! Seen from outside, as calls of the broker's process to its C library, so that a broker which only believes that it
//! syncs does not pass.

use crate::{BINARY, session, session::on_broker, simple};
use lapin::{BasicProperties, options::BasicPublishOptions, types::ShortString};
use leveret_testkit::{Broker, WatchedDisk, disk::Call};
use std::{collections::BTreeSet, fs, os::unix::fs::FileExt as _};

/// A number that is EIO everywhere.
const EIO: u32 = 5;

/// Which calls wrote a file that has these bytes there now; by their places in the trace.
fn writes_of(broker: &Broker, calls: &[Call], body: &[u8]) -> Vec<usize> {
    let folder = broker.data_directory().join("store");
    let has = |name: &str, offset: u64, bytes: u64| {
        // What was written to it before it got another name is not asked for.
        let Ok(file) = fs::File::open(folder.join(name)) else { return false };
        let mut written = vec![0; bytes as usize];
        file.read_exact_at(&mut written, offset).is_ok()
            && written.windows(body.len()).any(|window| window == body)
    };
    let of = |(at, call): (usize, &Call)| match call {
        Call::Write { name, offset, bytes, .. } if keeps(name) => has(name, *offset, *bytes).then_some(at),
        _ => None,
    };
    calls.iter().enumerate().filter_map(of).collect()
}

/// Whether messages are in such a file.
fn keeps(name: &str) -> bool {
    name.starts_with("segment-") || name.starts_with("extent-")
}

/// Whether the file of a write was synced after it, from the beginning to the end of a sync.
pub(crate) fn is_synced(calls: &[Call], write: usize) -> bool {
    let Some(Call::Write { inode: written, .. }) = calls.get(write) else { return false };
    let mut after = calls
        .iter()
        .skip(write)
        .skip_while(|call| !matches!(call, Call::SyncBegins { inode, .. } if inode == written));
    after.any(|call| matches!(call, Call::SyncEnds { inode, error: 0, .. } if inode == written))
}

/// Fails unless what has these bytes was written and synced by now, after so many calls. Gives how many there were.
fn assert_is_on_disk(broker: &Broker, disk: &WatchedDisk, from: usize, body: &[u8], what: &str) -> usize {
    let all = disk.calls();
    let calls = &all[from..];
    let writes = writes_of(broker, calls, body);
    assert!(!writes.is_empty(), "{what} was confirmed and not written");
    assert!(writes.iter().any(|write| is_synced(calls, *write)), "{what} was confirmed and not synced");
    all.len()
}

#[test]
fn every_confirm_comes_after_the_sync_of_what_it_confirms() {
    let disk = WatchedDisk::new();
    let broker = disk.watch(Broker::builder(BINARY)).start();
    on_broker(&broker, async |broker| {
        let (connection, channel) = simple::connect(broker).await;
        simple::declare(&channel).await;
        let mut seen = assert_is_on_disk(broker, &disk, 0, simple::QUEUE.as_bytes(), "the queue");
        for number in 0..30 {
            // Of different lengths, some of them bodies of their own.
            let bytes = if number % 10 == 9 { 300_000 } else { 100 + 1000 * number as usize };
            simple::publish(&channel, number, bytes, true).await;
            let what = format!("message {number}");
            seen = assert_is_on_disk(broker, &disk, seen, &simple::body(number, 90), &what);
        }
        connection.close(200, "done".into()).await.unwrap();
    });
}

#[test]
fn a_commit_is_answered_after_the_sync_of_all_of_it() {
    let disk = WatchedDisk::new();
    let broker = disk.watch(Broker::builder(BINARY)).start();
    on_broker(&broker, async |broker| {
        let (connection, confirming) = simple::connect(broker).await;
        simple::declare(&confirming).await;
        let channel = connection.create_channel().await.unwrap();
        channel.tx_select().await.unwrap();
        for commit in 0..5 {
            for number in commit * 10..commit * 10 + 10 {
                let properties = BasicProperties::default()
                    .with_message_id(number.to_string().into())
                    .with_delivery_mode(2);
                let (options, body) = (BasicPublishOptions::default(), simple::body(number, 2000));
                let exchange = ShortString::from("");
                session::publish_with(&channel, &exchange, simple::QUEUE, &body, options, properties)
                    .await
                    .unwrap();
            }
            let before = disk.calls().len();
            channel.tx_commit().await.unwrap();
            for number in commit * 10..commit * 10 + 10 {
                let what = format!("message {number}");
                assert_is_on_disk(broker, &disk, before, &simple::body(number, 90), &what);
            }
        }
        connection.close(200, "done".into()).await.unwrap();
    });
}

#[test]
fn while_syncs_fail_nothing_is_confirmed_and_no_file_is_asked_twice() {
    let disk = WatchedDisk::new();
    let broker = disk.watch(Broker::builder(BINARY)).start();
    // Segments have numbers that do not come again.
    let failed = |calls: &[Call]| -> Vec<String> {
        let of = |call: &Call| match call {
            Call::SyncEnds { name, error: 5, .. } if name.starts_with("segment-") => Some(name.clone()),
            _ => None,
        };
        calls.iter().filter_map(of).collect()
    };
    on_broker(&broker, async |broker| {
        let (_connection, channel) = simple::connect(broker).await;
        simple::declare(&channel).await;
        simple::publish(&channel, 0, 1000, true).await;
        disk.fail_syncs(EIO);
        let publish = simple::publish(&channel, 1, 1000, true);
        let tried = async {
            while failed(&disk.calls()).len() < 4 {
                tokio::task::yield_now().await;
            }
        };
        tokio::pin!(publish);
        tokio::select! {
            () = &mut publish => panic!("it was confirmed although no sync succeeded"),
            () = tried => {}
        }
        disk.fail_syncs(0);
        publish.await;
        let calls = disk.calls();
        let asked = failed(&calls);
        assert_eq!(
            asked.iter().collect::<BTreeSet<_>>().len(),
            asked.len(),
            "a file was asked again: {calls:?}"
        );
        assert_is_on_disk(broker, &disk, 0, &simple::body(1, 90), "message 1");
    });
    let broker = broker.kill_for_a_while().start();
    on_broker(&broker, async |broker| {
        let (_connection, channel) = simple::connect(broker).await;
        let came: Vec<_> = simple::drain(&channel).await.into_iter().map(|(number, _)| number).collect();
        assert_eq!(came, [0, 1]);
    });
}
