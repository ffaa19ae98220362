//! A start without the plugin of an exchange: the rest serves, and with the plugin back it goes on where it was.

use crate::{BINARY, session, simple};
use lapin::{
    Channel, ExchangeKind,
    options::ExchangeDeclareOptions,
    types::{FieldTable, ShortString},
};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, log_lines};
use serde_json::Value;
use session::{bind, drain, on_broker, publish, refusal};
use std::fs;

/// Counts its messages in a value that is to outlive the process.
const GUEST: &str = "stateful_v1";

async fn count_one(channel: &Channel) {
    assert!(publish(channel, &"counts".into(), "k", b"counted", true).await.unwrap().is_ack());
}

/// How many messages the exchange says that it counted.
fn counted(broker: &Broker) -> String {
    let url = format!("http://{}/api/exchanges-info/%2F/counts", broker.http_address());
    let request = ureq::get(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
    let body = request.call().unwrap().into_body().read_to_vec().unwrap();
    let told: Value = serde_json::from_slice(&body).unwrap();
    told["types"][0]["info"]["count"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
}

#[test]
fn a_plugin_that_is_missing_at_a_start_finds_its_state_when_it_is_back() {
    let configuration = ScratchDirectory::new("durability");
    let file = configuration.path().join("leveret.toml");
    fs::write(&file, format!("[plugins.\"{GUEST}\"]\ngrants = [\"key-value\"]\n")).unwrap();
    let component = guests::component(GUEST);
    let builder = Broker::builder(BINARY).argument("--config").argument(&file).plugin(&component);
    let broker = builder.start();
    on_broker(&broker, async |broker| {
        let (_connection, channel) = simple::connect(broker).await;
        simple::declare(&channel).await;
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let (name, kind) = (ShortString::from("counts"), ExchangeKind::Custom("x-stateful".into()));
        channel.exchange_declare(name.clone(), kind, options, FieldTable::default()).await.unwrap();
        bind(&channel, &simple::QUEUE.into(), &name, "k", FieldTable::default()).await;
        for _ in 0..3 {
            count_one(&channel).await;
        }
        drain(&channel, &simple::QUEUE.into()).await;
        // Its confirm says that what was counted before is safe too.
        simple::publish(&channel, 1, 10, true).await;
    });
    let stopped = broker.kill_for_a_while();
    fs::remove_file(stopped.plugins_directory().join(format!("{GUEST}.wasm"))).unwrap();

    let broker = stopped.start();
    broker.wait_for_log("no plugin provides the exchange type 'x-stateful'", EVENT_WAIT_MAX);
    on_broker(&broker, async |broker| {
        let (connection, channel) = simple::connect(broker).await;
        let refused = publish(&channel, &"counts".into(), "k", b"refused", false).await.unwrap_err();
        let (code, text) = refusal(&refused);
        assert!(code == 406 && text.contains("its plugin stateful_v1 is not there"), "{code} {text}");
        let channel = session::confirming(&connection).await;
        simple::publish(&channel, 2, 10, true).await;
        let there = simple::drain(&channel).await;
        assert_eq!(there.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
    });

    // A life in which nobody could use it changes nothing of it.
    let broker = broker.stop_for_a_while().start();
    let aside = broker.aside().join("aside.wasm");
    fs::copy(&component, &aside).unwrap();
    fs::rename(aside, broker.plugins_directory().join(format!("{GUEST}.wasm"))).unwrap();
    broker.wait_for_log(log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
    assert_eq!(counted(&broker), "3");
    on_broker(&broker, async |broker| {
        let (_connection, channel) = simple::connect(broker).await;
        count_one(&channel).await;
        assert_eq!(drain(&channel, &simple::QUEUE.into()).await, [b"counted".to_vec()]);
    });
    assert_eq!(counted(&broker), "4");
}
