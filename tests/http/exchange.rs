//! An exchange from the inside, and its arguments changed while it is in use.

use super::{
    asking::{BINARY, get, json_of, put},
    command_line::leveret,
    session::{bind, confirming, connect, get as take, on_broker, own_queue, publish, refusal},
};
use lapin::{
    Channel, ExchangeKind,
    options::ExchangeDeclareOptions,
    types::{AMQPValue, FieldTable, ShortString},
};
use leveret_testkit::{Broker, ScratchDirectory, guests};
use serde_json::{Value, json};

/// A broker with that guest and all that it needs; the configuration goes with the directory.
fn broker_with(guest: &str) -> (Broker, ScratchDirectory) {
    let configuration = ScratchDirectory::new("stateful");
    let file = configuration.path().join("leveret.toml");
    std::fs::write(&file, format!("[plugins.\"{guest}\"]\ngrants = [\"key-value\"]\n")).unwrap();
    let builder =
        Broker::builder(BINARY).argument("--config").argument(file).argument("--workers").argument("2");
    (builder.plugin(guests::component(guest)).start(), configuration)
}

async fn declare(
    channel: &Channel,
    name: &str,
    type_name: &str,
    arguments: &[(&str, i64)],
) -> lapin::Result<()> {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), AMQPValue::LongLongInt(*value));
    }
    let (kind, options) = (ExchangeKind::Custom(type_name.into()), ExchangeDeclareOptions::default());
    channel.exchange_declare(name.into(), kind, options, table).await
}

/// What the only type of an exchange shows.
fn shown(broker: &Broker, exchange: &str) -> Value {
    get(broker, &format!("exchanges-info/%2F/{exchange}"))["types"][0]["info"].clone()
}

fn configure(broker: &Broker, exchange: &str, change: &Value) -> (u16, Value) {
    let answer = put(broker, &format!("exchanges-arguments/%2F/{exchange}"), change);
    (answer.status().as_u16(), json_of(&answer))
}

/// Publishes on several connections, so that each worker's instance is asked; each is confirmed.
async fn publish_on(channels: &[Channel], exchange: &ShortString, key: &str) {
    for channel in channels {
        assert!(publish(channel, exchange, key, b"x", true).await.unwrap().is_ack());
    }
}

async fn channels(broker: &Broker) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(confirming(&connect(broker).await).await);
    }
    channels
}

#[test]
fn arguments_change_in_use_and_what_refuses_them_changes_nothing() {
    for (guest, told) in [("stateful_v1", 0), ("stateful_v2", 1)] {
        let (broker, _configuration) = broker_with(guest);
        on_broker(&broker, async |broker| {
            let channels = channels(broker).await;
            declare(&channels[0], "counted", "x-stateful", &[("x-step", 1)]).await.unwrap();
            let (exchange, queue) = (ShortString::from("counted"), own_queue(&channels[0]).await);
            bind(&channels[0], &queue, &exchange, "", FieldTable::default()).await;
            publish_on(&channels, &exchange, "k").await;
            assert_eq!(shown(broker, "counted")["count"], "4");

            let data = broker.data_directory();
            let set = leveret(&["exchange", "set", "counted", "x-step=10", "--data-dir"], &data);
            assert_eq!(set.status.code(), Some(0), "{}", set.report());
            assert!(set.stdout.contains("x-step = 10"), "{}", set.report());
            // A publish that begins afterwards is decided with it, on whatever worker, and the bindings stay.
            publish_on(&channels, &exchange, "k").await;
            assert_eq!(shown(broker, "counted")["count"], "44");
            publish_on(&channels, &exchange, "inside").await;
            let opened = if told == 0 { 10 } else { 1 };
            let inside = format!("opened with {opened}, told {told} times, now 10");
            assert_eq!(shown(broker, "counted")["inside"], json!(inside), "{guest}");

            let refusing = match told {
                0 => vec![(json!({"x-step": "many"}), "x-step")],
                _ => vec![
                    (json!({"x-step": "many"}), "x-step"),
                    (json!({"x-step": 20, "x-refuse": "not today"}), "not today"),
                    (json!({"x-step": 20, "x-trap": "reconfigure"}), "trapped"),
                ],
            };
            for (change, why) in refusing {
                let (status, refused) = configure(broker, "counted", &json!({"set": change}));
                assert_eq!(status, 409, "{refused}");
                assert!(refused["reason"].as_str().unwrap().contains(why), "{refused}");
            }
            assert_eq!(get(broker, "exchanges/%2F/counted")["arguments"], json!({"x-step": 10}));
            publish_on(&channels, &exchange, "k").await;
            assert_eq!(shown(broker, "counted")["count"], "84");
            publish_on(&channels, &exchange, "inside").await;
            assert_eq!(shown(broker, "counted")["inside"], json!(inside), "as it was, on all instances");

            let (status, configured) = configure(broker, "counted", &json!({"unset": ["x-step"]}));
            assert_eq!((status, &configured), (200, &json!({"arguments": {}, "changes": 2})));
            publish_on(&channels, &exchange, "k").await;
            assert_eq!(shown(broker, "counted")["count"], "88");
        });
    }
}

#[test]
fn a_client_may_declare_what_it_always_declared_or_what_is_there_now() {
    let (broker, _configuration) = broker_with("stateful_v2");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        declare(&channel, "counted", "x-stateful", &[("x-step", 1)]).await.unwrap();
        assert_eq!(configure(broker, "counted", &json!({"set": {"x-step": 10}})).0, 200);
        declare(&channel, "counted", "x-stateful", &[("x-step", 1)]).await.unwrap();
        declare(&channel, "counted", "x-stateful", &[("x-step", 10)]).await.unwrap();
        let refused = declare(&channel, "counted", "x-stateful", &[("x-step", 2)]).await.unwrap_err();
        let (code, text) = refusal(&refused);
        assert!(code == 406 && text.contains("'2' but current is '10'"), "{code} {text}");
    });
}

#[test]
fn an_exchange_keeps_its_types_and_what_the_host_handles_itself_can_change() {
    let broker = Broker::start(BINARY);
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let mut delayed = FieldTable::default();
        delayed.insert("x-delayed-type".into(), AMQPValue::LongString("direct".into()));
        let (kind, options) =
            (ExchangeKind::Custom("x-delayed-message".into()), ExchangeDeclareOptions::default());
        channel.exchange_declare("later".into(), kind, options, delayed).await.unwrap();
        let (status, refused) = configure(broker, "later", &json!({"set": {"x-delayed-type": "fanout"}}));
        assert!(status == 409 && refused["reason"].as_str().unwrap().contains("inner type"), "{refused}");

        declare(&channel, "plain", "direct", &[]).await.unwrap();
        let (status, refused) =
            configure(broker, "plain", &json!({"set": {"x-message-deduplication": true}}));
        assert!(status == 409 && refused["reason"].as_str().unwrap().contains("in front"), "{refused}");
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &"amq.fanout".into(), "", FieldTable::default()).await;
        let none = publish(&channel, &"plain".into(), "nobody", b"x", true).await.unwrap();
        assert!(none.take_message().is_some(), "it is returned");
        let change = json!({"set": {"alternate-exchange": "amq.fanout"}});
        assert_eq!(configure(broker, "plain", &change).0, 200);
        let some = publish(&channel, &"plain".into(), "nobody", b"y", true).await.unwrap();
        assert!(some.take_message().is_none(), "the alternate exchange has it");
        assert_eq!(take(&channel, &queue, true).await.unwrap().data, b"y");
        let wrong = json!({"set": {"alternate-exchange": 7}});
        assert_eq!(configure(broker, "plain", &wrong).0, 409);

        assert_eq!(configure(broker, "amq.topic", &change).0, 409);
        assert_eq!(configure(broker, "none", &change).0, 404);
        assert_eq!(configure(broker, "plain", &json!({"arguments": {}})).0, 400);
    });
}

#[test]
fn what_a_type_shows_is_shown_and_a_trap_at_it_harms_nothing() {
    let (broker, _configuration) = broker_with("stateful_v2");
    on_broker(&broker, async |broker| {
        let channels = channels(broker).await;
        declare(&channels[0], "counted", "x-stateful", &[]).await.unwrap();
        let (exchange, queue) = (ShortString::from("counted"), own_queue(&channels[0]).await);
        bind(&channels[0], &queue, &exchange, "", FieldTable::default()).await;
        publish_on(&channels, &exchange, "k").await;
        let data = broker.data_directory();
        let info = leveret(&["exchange", "info", "counted", "--data-dir"], &data);
        assert_eq!(info.status.code(), Some(0), "{}", info.report());
        for line in ["type x-stateful, by the plugin stateful_v2 2", "  count = 4", "bindings   1"] {
            assert!(info.stdout.contains(line), "{line}: {}", info.report());
        }
        let told = get(broker, "exchanges-info/%2F/amq.topic");
        assert_eq!(
            told["types"],
            json!([{"type": "topic", "plugin": "topic", "version": told["types"][0]["version"], "info": {}}])
        );

        assert_eq!(configure(broker, "counted", &json!({"set": {"x-trap": "info"}})).0, 200);
        for _ in 0..10 {
            let told = get(broker, "exchanges-info/%2F/counted");
            assert!(told["types"][0]["error"].as_str().unwrap().contains("trapped"), "{told}");
        }
        let info = leveret(&["exchange", "info", "counted", "--data-dir"], &data);
        assert!(
            info.status.code() == Some(0) && info.stdout.contains("shows nothing: "),
            "{}",
            info.report()
        );
        publish_on(&channels, &exchange, "k").await;
        let seen = get(broker, "plugins/x-stateful/vhosts/%2F");
        assert_eq!((&seen["state"], &seen["failures"]["traps"]), (&json!("serving"), &json!(11)), "{seen}");
        assert_eq!(configure(broker, "counted", &json!({"unset": ["x-trap"]})).0, 200);
        assert_eq!(shown(broker, "counted")["count"], "8");
        let none = leveret(&["exchange", "info", "none", "--data-dir"], &data);
        assert!(
            none.status.code() == Some(1) && none.stderr.contains("no exchange none"),
            "{}",
            none.report()
        );
    });
}
