//! State that goes from one version of a plugin to the next, and back, while messages write it.
//!
//! `x-stateful` counts its messages in a value whose form is its version's own, and rejects a message where
//! the form is another's. So a message that is confirmed was counted, and one that a version decided with
//! another version's value is seen as a negative confirm.

use super::deploy::{Way, deploy, put};
use super::rollback::plugin;
use super::session::*;
use super::works::lasting_exchange;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation, ExchangeKind};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, log_lines, process};
use std::cell::Cell;
use std::fs;
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
const FILE: &str = "stateful.wasm";

/// A broker in which version 1 serves; the configuration goes with the directory.
fn started() -> (Broker, ScratchDirectory) {
    let configuration = ScratchDirectory::new("migrate");
    let file = configuration.path().join("leveret.toml");
    fs::write(&file, "[plugins.stateful]\ngrants = [\"key-value\"]\n").unwrap();
    let broker =
        Broker::builder(BINARY).argument("--config").argument(file).argument("--workers").argument("2");
    let broker = broker.start();
    deploy(&broker, Way::Renamed, "stateful_v1", FILE);
    (broker, configuration)
}

/// The lines of `leveret exchange info`.
fn shown(broker: &Broker, exchange: &str) -> String {
    leveret(broker, &["exchange", "info", exchange])
}

fn leveret(broker: &Broker, arguments: &[&str]) -> String {
    let mut command = Command::new(BINARY);
    command.env_remove("LEVERET_CONFIG").args(arguments).arg("--data-dir").arg(broker.data_directory());
    let finished = process::run(&mut command, EVENT_WAIT_MAX).expect("the program is there");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.report());
    finished.stdout
}

async fn count(channel: &Channel, exchange: &ShortString, times: usize) {
    for _ in 0..times {
        let confirm = publish(channel, exchange, "k", b"x", false).await.unwrap();
        assert!(confirm.is_ack(), "{confirm:?}");
    }
}

/// Publishes in bursts until `over`, and 100 more; gives how many were confirmed. None may be refused.
async fn count_past(channel: &Channel, exchange: &ShortString, over: &Cell<bool>) -> u64 {
    let (mut counted, mut after) = (0, 0);
    while after < 100 {
        let mut confirms = Vec::new();
        for _ in 0..20 {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let published = channel.basic_publish(exchange.clone(), "k".into(), options, b"x", properties);
            confirms.push(published.await.unwrap());
            after += u64::from(over.get());
        }
        for confirm in confirms {
            let confirm: Confirmation = confirm.await.unwrap();
            assert!(confirm.is_ack(), "{confirm:?}");
            counted += 1;
        }
    }
    counted
}

/// Four connections write the same value while three versions follow each other: each message is counted
/// once, by whichever version, and none is refused.
#[test]
fn no_update_is_lost_while_versions_migrate_under_load() {
    let (broker, _configuration) = started();
    on_broker(&broker, async |broker| {
        let mut channels = Vec::new();
        for _ in 0..4 {
            channels.push(confirming(&connect(broker).await).await);
        }
        let exchange = lasting_exchange(&channels[0], "x-stateful").await;
        let (over, asked) = (Cell::new(false), Cell::new(0));
        let migrating = async {
            for guest in ["stateful_v2", "stateful_v3"] {
                let before = broker.log_length();
                let bytes = fs::read(guests::component(guest)).unwrap();
                let (aside, place) = (broker.aside().join("aside"), broker.plugins_directory().join(FILE));
                fs::write(&aside, bytes).unwrap();
                fs::rename(aside, place).unwrap();
                // Each question is a round trip beside the load.
                loop {
                    count(&channels[0], &exchange, 1).await;
                    asked.set(asked.get() + 1);
                    let log = broker.log();
                    let new: Vec<&str> = log.lines().skip(before).collect();
                    assert!(!new.iter().any(|line| line.contains(log_lines::PLUGIN_REFUSED)), "{new:?}");
                    if new.iter().any(|line| line.contains("states_migrated=1")) {
                        break;
                    }
                }
            }
            over.set(true);
        };
        let publishing = channels.iter().skip(1).map(|channel| count_past(channel, &exchange, &over));
        let (counted, ()) =
            futures_util::future::join(futures_util::future::join_all(publishing), migrating).await;
        let counted: u64 = counted.iter().sum::<u64>() + asked.get();
        let shown = shown(broker, exchange.as_str());
        assert!(
            shown.contains("version = 3") && shown.contains(&format!("count = {counted}\n")),
            "{counted}: {shown}"
        );
    });
}

#[test]
fn a_version_that_does_not_migrate_is_refused_at_that_stage_and_what_served_goes_on() {
    let (broker, _configuration) = started();
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        let exchange = lasting_exchange(&channel, "x-stateful").await;
        count(&channel, &exchange, 3).await;
        for (argument, why) in [("x-refuse=not today", "not today"), ("x-trap=migrate", "trapped")] {
            leveret(broker, &["exchange", "set", exchange.as_str(), argument]);
            let bytes = fs::read(guests::component("stateful_v2")).unwrap();
            let line = put(broker, Way::Renamed, &bytes, FILE, log_lines::PLUGIN_REFUSED);
            assert!(line.contains("stage=migrate") && line.contains(why), "{line}");
            assert!(line.contains("from version 1"), "{line}");
            leveret(
                broker,
                &["exchange", "set", exchange.as_str(), "--unset", argument.split('=').next().unwrap()],
            );
            count(&channel, &exchange, 1).await;
        }
        let shown = shown(broker, exchange.as_str());
        assert!(shown.contains("version = 1") && shown.contains("count = 5\n"), "{shown}");
        // The same file is taken where nothing speaks against it.
        fs::remove_file(broker.plugins_directory().join(FILE)).unwrap();
        broker.wait_for_log(log_lines::PLUGIN_REMOVED, EVENT_WAIT_MAX);
        deploy(broker, Way::Renamed, "stateful_v2", FILE);
        count(&channel, &exchange, 1).await;
        let shown = self::shown(broker, exchange.as_str());
        assert!(shown.contains("version = 2") && shown.contains("count = 6\n"), "{shown}");
    });
}

#[test]
fn going_back_restores_what_the_older_version_had_and_says_what_it_discards() {
    let (broker, _configuration) = started();
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        let (old, new) =
            (lasting_exchange(&channel, "x-stateful").await, lasting_exchange(&channel, "x-stateful").await);
        count(&channel, &old, 5).await;
        deploy(broker, Way::Renamed, "stateful_v2", FILE);
        count(&channel, &old, 10).await;
        // Without state until version 2.
        count(&channel, &new, 2).await;
        deploy(broker, Way::Renamed, "stateful_v3", FILE);
        count(&channel, &old, 20).await;
        let shown_now = |exchange: &ShortString| shown(broker, exchange.as_str());
        assert!(shown_now(&old).contains("count = 35\n") && shown_now(&new).contains("count = 2\n"));

        let back = plugin(&["rollback", "stateful"], &broker.data_directory());
        assert_eq!(back.status.code(), Some(0), "{}", back.report());
        assert!(
            back.stdout.contains("2 states are again what was left in the form of version 2"),
            "{}",
            back.report()
        );
        // The count of each, and where it was migrated from.
        assert!(back.stdout.contains(": 4 entries of "), "{}", back.report());
        assert!(shown_now(&old).contains("count = 15\n"), "{}", shown_now(&old));
        count(&channel, &old, 1).await;
        count(&channel, &new, 1).await;
        assert!(shown_now(&old).contains("count = 16\n") && shown_now(&new).contains("count = 3\n"));

        let back = plugin(&["rollback", "stateful"], &broker.data_directory());
        assert!(
            back.stdout.contains("1 states are again what was left in the form of version 1"),
            "{}",
            back.report()
        );
        assert!(back.stdout.contains("1 states are empty again"), "{}", back.report());
        assert!(shown_now(&old).contains("count = 5\n"), "{}", shown_now(&old));
        assert!(shown_now(&new).contains("count = 0\n"), "it had none: {}", shown_now(&new));
        count(&channel, &old, 1).await;
        count(&channel, &new, 1).await;
        assert!(shown_now(&old).contains("count = 6\n") && shown_now(&new).contains("count = 1\n"));
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &old, "", FieldTable::default()).await;
        count(&channel, &old, 1).await;
        assert_eq!(drain(&channel, &queue).await, [b"x"]);
    });
}

/// What versions left outlives the process, however it ends: going back is what it was before.
#[test]
fn going_back_restores_what_the_older_version_had_also_after_a_restart() {
    let (broker, _configuration) = started();
    let (old, new) = (ShortString::from("old"), ShortString::from("new"));
    let declare = async |channel: &Channel, exchange: &ShortString| {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let kind = ExchangeKind::Custom("x-stateful".into());
        channel.exchange_declare(exchange.clone(), kind, options, FieldTable::default()).await.unwrap();
    };
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        declare(&channel, &old).await;
        declare(&channel, &new).await;
        count(&channel, &old, 5).await;
        deploy(broker, Way::Renamed, "stateful_v2", FILE);
        count(&channel, &old, 10).await;
        // Without state until version 2.
        count(&channel, &new, 2).await;
        deploy(broker, Way::Renamed, "stateful_v3", FILE);
        count(&channel, &old, 20).await;
    });
    let broker = broker.kill_for_a_while().start();
    let shown_now = |broker: &Broker, exchange: &ShortString| shown(broker, exchange.as_str());
    assert!(shown_now(&broker, &old).contains("count = 35\n"), "{}", shown_now(&broker, &old));
    let back = plugin(&["rollback", "stateful"], &broker.data_directory());
    assert_eq!(back.status.code(), Some(0), "{}", back.report());
    assert!(
        back.stdout.contains("2 states are again what was left in the form of version 2"),
        "{}",
        back.report()
    );
    assert!(shown_now(&broker, &old).contains("count = 15\n"), "{}", shown_now(&broker, &old));
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        count(&channel, &old, 1).await;
    });

    let broker = broker.stop_for_a_while().start();
    assert!(shown_now(&broker, &old).contains("count = 16\n"), "{}", shown_now(&broker, &old));
    let back = plugin(&["rollback", "stateful"], &broker.data_directory());
    assert!(
        back.stdout.contains("1 states are again what was left in the form of version 1"),
        "{}",
        back.report()
    );
    assert!(shown_now(&broker, &old).contains("count = 5\n"), "{}", shown_now(&broker, &old));
    assert!(shown_now(&broker, &new).contains("count = 0\n"), "it had none: {}", shown_now(&broker, &new));
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        count(&channel, &old, 1).await;
    });
    let broker = broker.kill_for_a_while().start();
    assert!(shown_now(&broker, &old).contains("count = 6\n"), "{}", shown_now(&broker, &old));
}
