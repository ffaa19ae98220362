//! Interceptors as an operator sees them: provided, attached, and what came of the messages that met them.

use super::{
    asking::{BINARY, get},
    command_line::leveret,
    session::{confirming, connect, on_broker, own_queue, publish},
};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, log_lines};
use serde_json::json;

const GUEST: &str = "interceptors_v1";

#[test]
fn an_interceptor_is_seen_where_it_is_attached_and_when_its_plugin_is_gone() {
    let configuration = ScratchDirectory::new("interceptors");
    let file = configuration.path().join("leveret.toml");
    let attached = "[[intercept]]\ninterceptor = \"append\"\npoint = \"publish\"\norder = 7\n\
                    arguments = { header = \"x-seen\", value = \"v%\" }\non-failure = \"bypass\"\n";
    std::fs::write(&file, attached).unwrap();
    let broker = Broker::builder(BINARY).argument("--config").argument(file);
    let broker = broker.plugin(guests::component(GUEST)).start();
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        let queue = own_queue(&channel).await;
        for _ in 0..5 {
            assert!(publish(&channel, &"".into(), queue.as_str(), b"x", true).await.unwrap().is_ack());
        }
        let told = get(broker, "plugins-interceptors");
        let names: Vec<_> =
            told["interceptors"].as_array().unwrap().iter().map(|it| &it["interceptor"]).collect();
        assert_eq!(names, [&json!("append"), &json!("by-key")]);
        let there = &told["attachments"][0];
        assert_eq!((&there["state"], &there["plugin"]), (&json!("serving"), &json!(GUEST)), "{told}");
        assert_eq!((&there["point"], &there["order"]), (&json!("publish"), &json!(7)));
        assert_eq!(there["arguments"], json!({"header": "x-seen", "value": "v%"}));
        let messages = there["remembered"].as_u64().unwrap() + there["asked"].as_u64().unwrap();
        assert_eq!((messages, &there["changed"], &there["failed"]), (5, &json!(5), &json!(0)), "{there}");

        let data = broker.data_directory();
        let list = leveret(&["plugin", "list", "--data-dir"], &data);
        let line = |name: &str| list.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        assert!(
            line("append").contains("serving") && line("append").contains("all in /"),
            "{}",
            list.report()
        );
        assert!(line("by-key").contains("not attached"), "{}", list.report());

        std::fs::remove_file(broker.plugins_directory().join(GUEST).with_extension("wasm")).unwrap();
        broker.wait_for_log(log_lines::PLUGIN_REMOVED, EVENT_WAIT_MAX);
        assert!(
            publish(&channel, &"".into(), queue.as_str(), b"x", true).await.unwrap().is_ack(),
            "bypassed"
        );
        let told = get(broker, "plugins-interceptors");
        let there = &told["attachments"][0];
        assert_eq!((&told["interceptors"], &there["state"]), (&json!([]), &json!("parked")), "{told}");
        assert!(there["reason"].as_str().unwrap().contains("no plugin provides"), "{told}");
        assert_eq!(there["failed"], json!(1));
        let shown = leveret(&["plugin", "interceptors", "--data-dir"], &data);
        assert!(shown.stdout.contains("parked"), "{}", shown.report());
    });
}
