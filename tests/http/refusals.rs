//! Why messages were not accepted, as an operator finds it out: in the log, over HTTP, by the command line.

use super::{
    asking::{BINARY, get},
    command_line::leveret,
    session::{bind, confirming, connect, on_broker, own_queue, publish},
};
use lapin::{ExchangeKind, options::ExchangeDeclareOptions, types::FieldTable};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests};
use serde_json::json;

const CONFIGURATION: &str = r#"
[plugins.every_capability]
grants = ["clock", "random", "log", "metric", "key-value", "message-store", "hold", "timer", "enqueue", "emit",
          "queue-info", "publisher"]
[[intercept]]
interceptor = "by-key"
point = "publish"
order = 1
"#;

#[test]
fn the_reasons_of_a_type_and_of_an_interceptor_are_logged_counted_and_shown() {
    let configuration = ScratchDirectory::new("refusals");
    let file = configuration.path().join("leveret.toml");
    std::fs::write(&file, CONFIGURATION).unwrap();
    let broker = Broker::builder(BINARY).argument("--config").argument(file);
    let broker = broker.plugin(guests::component("every_capability"));
    let broker = broker.plugin(guests::component("interceptors_v1")).start();
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        let (kind, name) = (ExchangeKind::Custom("x-every-capability".into()), "e".into());
        let options = ExchangeDeclareOptions::default();
        channel.exchange_declare("e".into(), kind, options, FieldTable::default()).await.unwrap();
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &name, "queue", FieldTable::default()).await;
        for (key, times) in [("queue", 3), ("random", 20), ("reject", 2), ("queue", 1)] {
            for _ in 0..times {
                let confirm = publish(&channel, &name, key, b"x", false).await.unwrap();
                assert!(!confirm.is_ack(), "{key}: {confirm:?}");
            }
        }
        let said = |at: &str| format!("{at} does not accept a message: ");
        let by_type = broker.wait_for_log(&said("exchange 'e'"), EVENT_WAIT_MAX);
        assert!(by_type.contains("plugin=\"every_capability\"") && by_type.contains("0 ready"), "{by_type}");
        let at = said("the interceptor 'by-key' on publish, every exchange in every vhost");
        let by_interceptor = broker.wait_for_log(&at, EVENT_WAIT_MAX);
        assert!(by_interceptor.contains("asked to"), "{by_interceptor}");
        let lines = broker.log().lines().filter(|line| line.contains("not accept a message")).count();
        assert!(lines < 20, "{lines} lines for 26 messages of two plugins");
        // What is left out is not lost: a later line says how much that was, and here all of it is.
        let seen = get(broker, "plugins/x-every-capability/vhosts/%2F");
        assert_eq!(seen["rejected"], 24, "{seen}");
        let reasons = seen["rejections"].as_array().unwrap();
        assert_eq!(reasons[0], json!({"exchange": "e", "reason": "0 ready", "messages": 4}), "the latest");
        assert_eq!(reasons.len(), 21, "each random number is a reason: {seen}");
        let told = get(broker, "plugins-interceptors");
        let there = &told["attachments"][0];
        assert_eq!(there["rejections"], json!([{"reason": "asked to", "messages": 2}]), "{told}");

        let info = leveret(&["plugin", "info", "x-every-capability", "--data-dir"], broker.data_directory());
        assert!(info.stdout.contains("refused      4 by e: 0 ready\n"), "{}", info.report());
        assert!(info.stdout.contains("for 11 more reasons"), "{}", info.report());
    });
}
