//! What a type of an exchange dropped, did not accept or held is that type's own, not that of the others
//! beside it.

use super::{
    asking::{BINARY, TYPES, get},
    session::{bind, confirming, connect, on_broker, own_queue, publish_with},
};
use lapin::{
    BasicProperties, ExchangeKind,
    options::ExchangeDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use leveret_testkit::{Broker, ScratchDirectory, guests};
use serde_json::{Value, json};

const CONFIGURATION: &str = r#"
[plugins.every_capability]
grants = ["clock", "random", "log", "metric", "key-value", "message-store", "hold", "timer", "enqueue", "emit",
          "queue-info", "publisher"]
"#;

fn table(fields: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// For how many messages a type gave a reason.
fn messages(reasons: &Value) -> u64 {
    reasons.as_array().unwrap().iter().map(|reason| reason["messages"].as_u64().unwrap()).sum()
}

#[test]
fn what_one_type_decided_is_not_told_of_the_others_of_its_exchange() {
    let configuration = ScratchDirectory::new("decided");
    let file = configuration.path().join("leveret.toml");
    std::fs::write(&file, CONFIGURATION).unwrap();
    let broker = Broker::builder(BINARY).argument("--config").argument(file);
    let broker = broker.plugin(guests::component("every_capability")).start();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let text = |text: &str| AMQPValue::LongString(text.into());
        let in_front = ("x-message-deduplication", AMQPValue::Boolean(true));
        let exchanges = [
            ("later", "x-delayed-message", vec![in_front.clone(), ("x-delayed-type", text("direct"))]),
            ("every", "x-every-capability", vec![in_front]),
        ];
        for (name, kind, arguments) in exchanges {
            let (kind, options) = (ExchangeKind::Custom(kind.into()), ExchangeDeclareOptions::default());
            channel.exchange_declare(name.into(), kind, options, table(&arguments)).await.unwrap();
        }
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &"later".into(), "k", FieldTable::default()).await;
        let once = |id: &str| ("x-deduplication-header", text(id));
        let delay = ("x-delay", AMQPValue::LongInt(3_600_000));
        let sent = [
            ("later", "k", vec![once("a")], true),
            ("later", "k", vec![once("a")], true),
            ("later", "k", vec![once("a"), delay.clone()], true),
            ("later", "k", vec![once("b"), delay.clone()], true),
            ("later", "k", vec![delay], true),
            ("every", "random", vec![], false),
        ];
        for (exchange, key, headers, accepted) in sent {
            let properties = BasicProperties::default().with_headers(table(&headers));
            let to = exchange.into();
            let sent = publish_with(&channel, &to, key, b"x", Default::default(), properties).await.unwrap();
            assert_eq!(sent.is_ack(), accepted, "{exchange} {headers:?}");
        }
        let (mut dropped, mut rejected, mut held) = (0, 0, 0);
        for kind in TYPES.iter().copied().chain(["x-every-capability"]) {
            let there = get(broker, &format!("plugins/{kind}/vhosts/%2F"));
            dropped += messages(&there["drops"]);
            rejected += messages(&there["rejections"]);
            assert_eq!(there["rejected"], messages(&there["rejections"]), "{there}");
            held += there["held"].as_u64().unwrap();
        }
        assert_eq!((dropped, rejected, held), (2, 1, 2), "each is one type's");
        let dropping = get(broker, "plugins/x-message-deduplication/vhosts/%2F");
        assert_eq!((messages(&dropping["drops"]), &dropping["held"]), (2, &json!(0)), "{dropping}");
        assert_eq!(get(broker, "plugins/x-delayed-message/vhosts/%2F")["held"], 2);
        assert_eq!(get(broker, "plugins/x-every-capability/vhosts/%2F")["rejected"], 1);
        assert_eq!(get(broker, "exchanges-info/%2F/every")["rejected"], 1);
    });
}
