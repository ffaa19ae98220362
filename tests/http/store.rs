//! What the store on disk tells of itself.

use super::{
    asking::{BINARY, get},
    session::{confirming, connect, on_broker},
};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use leveret_testkit::Broker;

#[test]
fn the_store_tells_what_it_has_and_did() {
    let broker = Broker::start(BINARY);
    on_broker(&broker, async |broker: &Broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare("kept".into(), durable, FieldTable::default()).await.unwrap();
        let persistent = BasicProperties::default().with_delivery_mode(2);
        for body in [b"one", b"two"] {
            let options = BasicPublishOptions::default();
            let publish = channel.basic_publish("".into(), "kept".into(), options, body, persistent.clone());
            assert!(publish.await.unwrap().await.unwrap().is_ack());
        }
        let store = get(broker, "store");
        assert_eq!((store["state"].as_str(), store["messages"].as_u64()), (Some("running"), Some(2)));
        assert!(store.get("reason").is_none());
        for counted in ["syncs", "groups", "batches", "journal_bytes", "message_bytes", "segment_bytes"] {
            assert!(store[counted].as_u64().unwrap() > 0, "{counted} in {store}");
        }
    });
}
