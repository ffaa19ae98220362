//! The operator's way back to the version before: one command, while messages flow.

use super::deploy::{Way, deploy, put};
use super::session::*;
use super::works::{await_count, lasting_exchange, next_number, publish_past, ready};
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use leveret_testkit::process::{self, Finished};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, guests, log_lines};
use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");

/// `leveret plugin …` to its end.
pub(crate) fn plugin(arguments: &[&str], data: &PathBuf) -> Finished {
    let mut command = Command::new(BINARY);
    command.env_remove("LEVERET_CONFIG").arg("plugin").args(arguments).arg("--data-dir").arg(data);
    process::run(&mut command, EVENT_WAIT_MAX).expect("the program is there")
}

/// Version 2 serves, the command goes back to version 1, and each message comes out of exactly one of
/// the two queues, in order: the first ones by version 2 and the last ones by version 1.
#[test]
fn going_back_is_one_command_and_loses_nothing_under_load() {
    let broker = Broker::start(BINARY);
    deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
    deploy(&broker, Way::Renamed, "versioned_v2", "versioned.wasm");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let receiving = connection.create_channel().await.unwrap();
        let exchange = lasting_exchange(&channel, "x-versioned").await;
        let (by_one, by_two) = (own_queue(&receiving).await, own_queue(&receiving).await);
        bind(&channel, &by_one, &exchange, "k.v1", FieldTable::default()).await;
        bind(&channel, &by_two, &exchange, "k.v2", FieldTable::default()).await;

        let data = broker.data_directory();
        let went_back = Cell::new(false);
        let going_back = async {
            await_count(&receiving, &by_two, 200).await;
            let data = data.clone();
            let command = tokio::task::spawn_blocking(move || plugin(&["rollback", "versioned"], &data));
            let finished = command.await.unwrap();
            assert_eq!(finished.status.code(), Some(0), "{}", finished.report());
            // All bindings were taken, and what becomes of the file is said.
            assert!(finished.stdout.contains("2 bindings"), "{}", finished.report());
            assert!(finished.stdout.contains("versioned.wasm stays"), "{}", finished.report());
            await_count(&receiving, &by_one, 1).await;
            went_back.set(true);
        };
        let publishing = publish_past(&channel, &exchange, &went_back);
        let (published, ()) = futures_util::future::join(publishing, going_back).await;

        let (one, two) = (ready(&receiving, &by_one).await, ready(&receiving, &by_two).await);
        assert_eq!(one + two, published, "every message exactly once");
        assert!(two >= 200 && one >= 500, "{two} by version 2, {one} by version 1");
        for (queue, numbers) in [(&by_two, 0..two), (&by_one, two..published)] {
            let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
            let consuming = receiving.basic_consume(queue.clone(), "".into(), options, FieldTable::default());
            let mut consumer = consuming.await.unwrap();
            for number in numbers {
                assert_eq!(next_number(&mut consumer).await, number);
            }
        }
    });
    let data = broker.data_directory();
    let kept = plugin(&["versions", "versioned"], &data);
    let serves: Vec<bool> = kept.stdout.lines().skip(1).map(|line| line.contains("  yes  ")).collect();
    assert_eq!(serves, [false, true], "{}", kept.report());

    // There is nothing before version 1.
    let further = plugin(&["rollback", "versioned"], &data);
    assert_eq!(further.status.code(), Some(1), "{}", further.report());
    assert!(further.stderr.contains("no version from before"), "{}", further.report());

    // The file that was gone back from is seen again, and left alone.
    let bytes = std::fs::read(guests::component("versioned_v2")).unwrap();
    let line = put(&broker, Way::Renamed, &bytes, "versioned.wasm", log_lines::PLUGIN_REFUSED);
    assert!(line.contains("stage=swap") && line.contains("went back"), "{line}");

    // Without its file nothing serves, and nothing is gone to; the list says so.
    std::fs::remove_file(broker.plugins_directory().join("versioned.wasm")).unwrap();
    broker.wait_for_log(log_lines::PLUGIN_REMOVED, EVENT_WAIT_MAX);
    let kept = plugin(&["versions", "versioned"], &data);
    assert!(kept.stdout.contains("none of them serves, so none can be gone to"), "{}", kept.report());
    let back = plugin(&["rollback", "versioned", "--to", "1.0.0"], &data);
    assert!(back.stderr.contains("first put a file of it into the plugins folder"), "{}", back.report());
}
