//! What a publisher sees while a core type stands in for a plugin that fails, is set aside, or is gone.

use super::*;
use leveret_testkit::{ScratchDirectory, log_lines};

#[test]
fn a_core_type_stands_in_for_a_plugin_that_fails_is_set_aside_or_is_gone() {
    let configuration = ScratchDirectory::new("fallback");
    let file = configuration.path().join("leveret.toml");
    std::fs::write(&file, "[plugins.traps_in_route]\non-failure = { fallback = \"fanout\" }\n").unwrap();
    let component = guests::component("traps_in_route");
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret"))
        .argument("--config")
        .argument(file)
        .plugin(&component)
        .start();
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-traps-in-route").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "good", FieldTable::default()).await;
        // What was routed is accepted, what was not is returned.
        let routed = async |key: &str| {
            let confirmation = publish(&channel, &exchange, key, key.as_bytes(), true).await.unwrap();
            assert!(confirmation.is_ack(), "{key}: {confirmation:?}");
            confirmation.take_message().is_none()
        };
        assert!(routed("good").await && !routed("other").await, "the plugin decides");
        assert!(routed("trap").await, "where it fails a fanout decides");
        assert!(!routed("other").await, "and only there");
        // Set aside, the plugin is not asked about anything; what it said before is remembered and stays.
        let (mut traps, mut keys) = (1, 0..);
        while !routed(&format!("other {:?}", keys.next())).await {
            for _ in 0..20 {
                assert!(routed("trap").await);
                traps += 1;
            }
        }
        let expected: usize = drain(&channel, &queue).await.len();
        assert!(expected > traps, "nothing is lost");
        // Gone, it takes no bindings and no new exchanges, and messages are routed by those that there are.
        let before = broker.log_length();
        std::fs::remove_file(broker.plugins_directory().join("traps_in_route.wasm")).unwrap();
        broker.wait_for_log_after(before, log_lines::PLUGIN_REMOVED, EVENT_WAIT_MAX);
        assert!(routed("other").await && routed("good").await, "what was remembered of it is forgotten");
        assert_eq!(drain(&channel, &queue).await, [b"other".to_vec(), b"good".to_vec()]);
        let refused = confirming(&connection).await;
        let error = declare_exchange(&refused, &"new".into(), "x-traps-in-route").await.unwrap_err();
        assert_eq!(refusal(&error).0, 406);
        // Back again, it decides again.
        let before = broker.log_length();
        std::fs::copy(&component, broker.aside().join("aside")).unwrap();
        std::fs::rename(broker.aside().join("aside"), broker.plugins_directory().join("traps_in_route.wasm"))
            .unwrap();
        broker.wait_for_log_after(before, log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
        assert!(routed("good").await && !routed("other").await);
    });
}
