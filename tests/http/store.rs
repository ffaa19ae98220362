//! What the store on disk tells of itself.

use super::{
    asking::{BINARY, get},
    session::{confirming, connect, on_broker},
};
use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use leveret_testkit::{Broker, EVENT_WAIT_MAX};

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

#[test]
fn a_message_that_is_damaged_is_found_before_and_counted_when_its_turn_comes() {
    const BODY: &[u8] = b"the body that a disk does not keep";
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let broker = Broker::start(BINARY);
    on_broker(&broker, async |broker: &Broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        channel.queue_declare("kept".into(), durable, FieldTable::default()).await.unwrap();
        let persistent = BasicProperties::default().with_delivery_mode(2);
        for body in [BODY, b"another"] {
            let options = BasicPublishOptions::default();
            let publish = channel.basic_publish("".into(), "kept".into(), options, body, persistent.clone());
            assert!(publish.await.unwrap().await.unwrap().is_ack());
        }
    });
    let stopped = broker.stop_for_a_while();
    let mut damaged = 0;
    for entry in std::fs::read_dir(stopped.data_directory().join("store")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(BODY.len()).position(|window| window == BODY) {
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
    let broker = stopped.start();
    let told = broker.wait_for_log("is damaged", EVENT_WAIT_MAX);
    assert!(told.contains("ERROR") && told.contains("damaged-"), "{told}");
    let store = get(&broker, "store");
    assert_eq!(store["damaged_messages"], 1, "{store}");
    let found = &store["damaged"][0];
    assert_eq!((found["vhost"].as_str(), found["queue"].as_str()), (Some("/"), Some("kept")), "{store}");
    assert!(get(&broker, "queues/%2F/kept").get("messages_unreadable").is_none(), "nobody has read it");
    on_broker(&broker, async |broker: &Broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let got = channel.basic_get("kept".into(), BasicGetOptions::default()).await.unwrap();
        assert_eq!(got.unwrap().delivery.data, b"another");
        assert_eq!(get(broker, "queues/%2F/kept")["messages_unreadable"], 1);
    });
}
