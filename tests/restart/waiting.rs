//! Exchanges from before a start whose plugin does not serve, or does not yet: what the operator said of it holds.

use super::*;
use leveret_testkit::{ScratchDirectory, process};
use std::{path::Path, process::Command};

/// Counts its messages, and needs a grant for that.
const COUNTING: &str = "stateful_v1";
const NAME: &str = "counts";

/// What `leveret plugin …` says.
fn plugin(broker: &Broker, arguments: &[&str]) -> String {
    let mut command = Command::new(BINARY);
    command.env_remove("LEVERET_CONFIG").arg("plugin").args(arguments);
    command.arg("--data-dir").arg(broker.data_directory());
    let finished = process::run(&mut command, EVENT_WAIT_MAX).expect("the program is there");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.report());
    finished.stdout
}

fn configured(file: &Path, grants: &str, more: &str) {
    let text = format!(
        "[plugins.{COUNTING}]\ngrants = [{grants}]\non-failure = {{ fallback = \"fanout\" }}\n{more}\n"
    );
    fs::write(file, text).unwrap();
}

/// Declares the exchange with a queue that is bound by `k`.
async fn declare(broker: &Broker) {
    let channel = confirming(&connect(broker).await).await;
    exchange(&channel, NAME, "x-stateful", durable_exchange()).await;
    queue(&channel, "kept", durable_queue()).await;
    bind(&channel, &"kept".into(), &NAME.into(), "k", FieldTable::default()).await;
    assert!(publish(&channel, &NAME.into(), "k", b"x", true).await.unwrap().is_ack());
}

/// Whether a message is accepted, and gets to the queue.
async fn is_routed(broker: &Broker) -> bool {
    let channel = confirming(&connect(broker).await).await;
    let confirmation = publish(&channel, &NAME.into(), "k", b"x", true).await.unwrap();
    confirmation.is_ack() && confirmation.take_message().is_none()
}

/// The lines of `leveret plugin list` about the type.
fn rows(broker: &Broker) -> Vec<String> {
    let list = plugin(broker, &["list"]);
    list.lines().filter(|line| line.starts_with("x-stateful ")).map(str::to_owned).collect()
}

#[test]
fn what_stands_in_for_a_plugin_does_so_after_a_start_too() {
    let configuration = ScratchDirectory::new("waiting");
    let file = configuration.path().join("leveret.toml");
    configured(&file, "\"key-value\"", "");
    let builder = Broker::builder(BINARY).argument("--config").argument(&file);
    let broker = builder.plugin(guests::component(COUNTING)).start();
    on_broker(&broker, async |broker| declare(broker).await);
    plugin(&broker, &["disable", COUNTING]);
    on_broker(&broker, async |broker| assert!(is_routed(broker).await, "switched off"));

    let broker = broker.kill_for_a_while().start();
    on_broker(&broker, async |broker| assert!(is_routed(broker).await, "switched off before the start"));
    let listed = rows(&broker);
    assert!(listed.len() == 1 && listed[0].contains("switched off"), "{listed:?}");
    // By the name of the plugin as by that of the type.
    let info = plugin(&broker, &["info", COUNTING]);
    assert!(info.contains("x-stateful") && info.contains("switched off"), "{info}");
    assert!(!broker.log().contains("no plugin provides the exchange type"), "{}", broker.log());
    plugin(&broker, &["enable", COUNTING]);
    on_broker(&broker, async |broker| assert!(is_routed(broker).await));
    let listed = rows(&broker);
    assert!(listed.len() == 1 && !listed[0].contains("parked"), "{listed:?}");
    assert_eq!(plugin(&broker, &["info", COUNTING]), plugin(&broker, &["info", "x-stateful"]));

    let mut running = broker;
    for (grants, more, why) in
        [("", "", "needs the grant 'key-value'"), ("\"key-value\"", "enabled = false", "switched off")]
    {
        let stopped = running.stop_for_a_while();
        configured(&file, grants, more);
        running = stopped.start();
        on_broker(&running, async |broker| assert!(is_routed(broker).await, "{why}"));
        let listed = rows(&running);
        assert!(listed.len() == 1 && listed[0].contains(why), "{listed:?}");
    }

    // Nothing that could serve instead of a broken file.
    let stopped = running.stop_for_a_while();
    configured(&file, "\"key-value\"", "");
    let place = stopped.plugins_directory().join(format!("{COUNTING}.wasm"));
    let component = fs::read(&place).unwrap();
    fs::write(&place, component.get(..component.len() / 2).unwrap()).unwrap();
    let kept = stopped.data_directory().join("plugins-kept/global").join(COUNTING);
    for entry in fs::read_dir(&kept).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            fs::remove_file(path).unwrap();
        }
    }
    let broker = stopped.start();
    on_broker(&broker, async |broker| assert!(is_routed(broker).await, "a broken file"));
    let listed = rows(&broker);
    assert!(listed.len() == 1 && listed[0].contains("refused at stage read"), "{listed:?}");
    let aside = broker.aside().join("whole.wasm");
    fs::write(&aside, component).unwrap();
    fs::rename(aside, place).unwrap();
    broker.wait_for_log(log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
    assert!(!rows(&broker)[0].contains("parked"));
}

/// A large file whose code is not there any more is compiled beside the broker's start: nobody is refused for that.
#[test]
fn messages_wait_for_a_plugin_that_is_being_compiled() {
    let configuration = ScratchDirectory::new("waiting");
    let file = configuration.path().join("leveret.toml");
    fs::write(&file, format!("[plugins.{COUNTING}]\ngrants = [\"key-value\"]\n")).unwrap();
    let large = configuration.path().join(format!("{COUNTING}.wasm"));
    let mut component = fs::read(guests::component(COUNTING)).unwrap();
    // A custom section of four bytes of length, so that it is not loaded before clients are.
    let size: u32 = 1 << 20;
    component.push(0);
    component.extend((0..4).map(|at| (size >> (7 * at)) as u8 & 0x7f | if at < 3 { 0x80 } else { 0 }));
    component.extend([1, b'p']);
    component.resize(component.len() + size as usize - 2, 0);
    fs::write(&large, component).unwrap();
    let broker = Broker::builder(BINARY).argument("--config").argument(&file).plugin(&large).start();
    broker.wait_for_log(log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
    on_broker(&broker, async |broker| declare(broker).await);
    let stopped = broker.kill_for_a_while();
    fs::remove_dir_all(stopped.data_directory().join("cache/plugins")).unwrap();
    let broker = stopped.start();
    on_broker(&broker, async |broker| {
        assert!(is_routed(broker).await);
    });
}
