//! Dead letters of messages from before a start: where they go by what their publishers said.

use super::*;
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, BasicRejectOptions},
    types::{AMQPValue, FieldArray},
};

fn list(keys: &[&str]) -> AMQPValue {
    let keys: Vec<AMQPValue> = keys.iter().map(|key| AMQPValue::LongString((*key).into())).collect();
    AMQPValue::FieldArray(FieldArray::from(keys))
}

#[test]
fn a_letter_goes_by_the_keys_that_nobody_saw() {
    let broker = Broker::builder(BINARY).start();
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        exchange(&channel, "dead", "direct", durable_exchange()).await;
        let arguments = texts(&[("x-dead-letter-exchange", "dead")]);
        channel.queue_declare("dying".into(), durable_queue(), arguments).await.unwrap();
        let mut headers = FieldTable::default();
        headers.insert("CC".into(), list(&["told"]));
        headers.insert("BCC".into(), list(&["hidden"]));
        headers.insert("short".into(), AMQPValue::ShortShortInt(-5));
        let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
        let options = BasicPublishOptions::default();
        let sent = publish_with(&channel, &"".into(), "dying", b"m", options, properties).await;
        assert!(sent.unwrap().is_ack());
    });
    let broker = broker.kill_for_a_while().start();
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        for letters in ["dying-key", "told", "hidden"] {
            queue(&channel, letters, durable_queue()).await;
            let key = if letters == "dying-key" { "dying" } else { letters };
            bind(&channel, &letters.into(), &"dead".into(), key, FieldTable::default()).await;
        }
        let dying = get(&channel, &"dying".into(), false).await.unwrap();
        let headers = dying.properties.headers().clone().unwrap();
        let names: Vec<&str> = headers.inner().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["CC", "short"], "not who else got it");
        assert_eq!(headers.inner()["short"], AMQPValue::ShortShortInt(-5), "as it was sent");
        dying.acker.reject(BasicRejectOptions { requeue: false }).await.unwrap();
        for queue in ["dying-key", "told", "hidden"] {
            let letter = get(&channel, &queue.into(), true).await.unwrap();
            let headers = letter.properties.headers().clone().unwrap();
            assert!(headers.inner().get("BCC").is_none(), "{queue}");
            let AMQPValue::FieldArray(deaths) = &headers.inner()["x-death"] else { panic!("{headers:?}") };
            let AMQPValue::FieldTable(death) = &deaths.as_slice()[0] else { panic!("{deaths:?}") };
            assert_eq!(death.inner()["routing-keys"], list(&["dying", "told"]), "{queue}");
        }
    });
}
