//! On deliver: what consumers see, what is settled, plugins that come late.

use super::*;
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions};

/// The queue `work`, to which these keys lead.
async fn work(channel: &Channel, keys: &[&str]) -> (ShortString, ShortString) {
    let queue = super::queue(channel, "work").await;
    let exchange = ShortString::from("work");
    declare_exchange(channel, &exchange, "direct").await.unwrap();
    for key in keys {
        bind(channel, &queue, &exchange, key, FieldTable::default()).await;
    }
    (exchange, queue)
}

async fn count(channel: &Channel, queue: &ShortString) -> u32 {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await.unwrap().message_count()
}

#[test]
fn consumers_and_getters_see_what_passes() {
    let tables =
        [by_key("deliver", "queue = \"work\""), append("deliver", 60, "queue = \"w*\"", "x-seen", "%")];
    on(&Intercepting::with(&tables.concat()), async |_, channel| {
        let (exchange, queue) = work(channel, &["plain", "drop", "reject", "move", "trap"]).await;
        for key in ["drop", "plain", "reject", "trap", "move", "drop", "plain", "move", "drop"] {
            let confirm = publish(channel, &exchange, key, key.as_bytes(), true).await.unwrap();
            assert!(confirm.is_ack() && confirm.take_message().is_none(), "nothing happens on publish");
        }
        let got = get(channel, &queue, true).await.unwrap();
        assert_eq!((got.routing_key.as_str(), got.delivery_tag), ("plain", 1));
        assert_eq!(header(&got.properties, "x-seen").as_deref(), Some("1"));
        let options = BasicConsumeOptions::default();
        let mut consumer =
            channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await.unwrap();
        for (key, body) in [("moved", "move"), ("plain", "plain"), ("moved", "move")] {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!((delivery.routing_key.as_str(), &*delivery.data), (key, body.as_bytes()));
            assert_eq!(header(&delivery.properties, "x-seen").as_deref(), Some("1"));
            assert!(!delivery.redelivered);
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
        assert_eq!(count(channel, &queue).await, 0);
        assert!(get(channel, &queue, true).await.is_none(), "what did not pass is settled");
    });
}

/// While there is no plugin the messages stay where they are; when it comes they are delivered.
#[test]
fn without_its_plugin_messages_wait_in_their_queue() {
    let tables = [
        by_key("deliver", "queue = \"work\""),
        by_key("deliver", "queue = \"open\"\non-failure = \"bypass\""),
    ];
    let intercepting = Intercepting::without_plugin(&tables.concat());
    on(&intercepting, async |_, channel| {
        let (exchange, queue) = work(channel, &["plain", "move"]).await;
        let open = super::queue(channel, "open").await;
        bind(channel, &open, &exchange, "plain", FieldTable::default()).await;
        for _ in 0..20 {
            assert!(publish(channel, &exchange, "plain", b"x", true).await.unwrap().is_ack());
        }
        assert_eq!(drain(channel, &open).await.len(), 20);
        assert!(get(channel, &queue, true).await.is_none());
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut consumer =
            channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await.unwrap();
        assert_eq!(count(channel, &queue).await, 20);
        intercepting.serve("interceptors_v1", "interceptors");
        for _ in 0..20 {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert!(!delivery.redelivered);
        }
        assert_eq!(count(channel, &queue).await, 0);
    });
}

#[test]
fn state_is_kept_of_what_was_delivered() {
    let tables = "[plugins.once]\ngrants = [\"key-value\"]\n\
                  [[intercept]]\ninterceptor = \"once\"\npoint = \"deliver\"\norder = 1\nqueue = \"work\"\n";
    let intercepting = Intercepting::without_plugin(tables);
    intercepting.serve("interceptor_once", "once");
    on(&intercepting, async |_, channel| {
        let (exchange, queue) = work(channel, &["a", "b"]).await;
        for key in ["a", "a", "b", "a", "b"] {
            assert!(publish(channel, &exchange, key, key.as_bytes(), true).await.unwrap().is_ack());
        }
        assert_eq!(drain(channel, &queue).await, [b"a", b"b"]);
        assert_eq!(count(channel, &queue).await, 0);
    });
}

/// The plugin is set aside for messages that it fails on: those meet the policy, what comes behind them waits
/// for it in its queue and is delivered, though nobody looked at it meanwhile.
#[test]
fn messages_behind_those_that_trap_wait_while_the_plugin_is_set_aside() {
    on(&Intercepting::with(&by_key("deliver", "queue = \"work\"")), async |_, channel| {
        let (exchange, queue) = work(channel, &["plain", "trap"]).await;
        for round in 0..3 {
            for key in ["trap"; 12].iter().chain(&["plain"; 20]) {
                assert!(publish(channel, &exchange, key, key.as_bytes(), true).await.unwrap().is_ack());
            }
            if round == 0 {
                // Nor does whoever gets messages one by one take any away.
                let mut got = 0;
                while got < 20 {
                    got += usize::from(get(channel, &queue, true).await.is_some());
                }
                assert_eq!(count(channel, &queue).await, 0);
                continue;
            }
            let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
            let tag = ShortString::from(format!("round {round}"));
            let consumed = channel.basic_consume(queue.clone(), tag.clone(), options, FieldTable::default());
            let mut consumer = consumed.await.unwrap();
            for _ in 0..20 {
                assert_eq!(consumer.next().await.unwrap().unwrap().data, b"plain");
            }
            assert_eq!(count(channel, &queue).await, 0);
            channel.basic_cancel(tag, Default::default()).await.unwrap();
        }
    });
}

/// Whatever it is for a message, the operator forgot something: nothing is lost for that, and it is told.
#[test]
fn what_lacks_the_grant_for_the_body_waits_and_says_so() {
    let intercepting = Intercepting::with(&by_key("deliver", "queue = \"work\""));
    on(&intercepting, async |_, channel| {
        let (exchange, queue) = work(channel, &["body"]).await;
        publish(channel, &exchange, "body", b"kept", true).await.unwrap();
        assert!(get(channel, &queue, false).await.is_none());
        assert_eq!(count(channel, &queue).await, 1, "it is in its queue");
        let url = format!("http://{}/api/plugins-interceptors", intercepting.broker.http_address());
        let asked = ureq::get(url).header("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=").call().unwrap();
        let told = asked.into_body().read_to_vec().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        let there = &told["attachments"][0];
        let why = there["failures"]["last_error"].as_str().unwrap();
        assert!(why.contains("needs the grant 'modify-body'"), "{there}");
        assert!(there["failures"]["bad_answers"].as_u64() >= Some(1), "{there}");
        assert_eq!(there["changed"].as_u64().unwrap_or_default(), 0, "{there}");
    });
    let line = intercepting.broker.wait_for_log("what the plugin answered cannot be done", EVENT_WAIT_MAX);
    assert!(line.contains("needs the grant 'modify-body'"), "{line}");
}
