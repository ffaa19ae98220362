//! What an interceptor sees at each point: all that it declared, as `wit/CONTRACT.md` lays it out, and why a letter is
//! one, whatever the reason.

use super::*;
use lapin::options::{BasicRejectOptions, QueueDeclareOptions};

fn tell(point: &str) -> String {
    format!(
        "[[intercept]]\ninterceptor = \"tell\"\npoint = \"{point}\"\norder = 1\n\
         arguments = {{ header = \"x-{point}\" }}\n"
    )
}

fn properties() -> BasicProperties {
    headers(&[("h", "v")]).with_content_type("text/x".into())
}

/// A queue of that name with these arguments, whose dead letters go to `dead`.
async fn dying(channel: &Channel, name: &str, more: &[(&str, AMQPValue)]) -> ShortString {
    let mut arguments = texts(&[("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "dead")]);
    for (name, value) in more {
        arguments.insert((*name).into(), value.clone());
    }
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), options, arguments).await.unwrap().name().clone()
}

#[test]
fn each_point_shows_what_was_declared() {
    let tables = ["publish", "deliver", "dead-letter"].map(tell).concat();
    let tables = format!("[plugins.tells]\ngrants = [\"publisher\"]\n{tables}");
    let intercepting = Intercepting::without_plugin(&tables);
    intercepting.serve("tells", "tells");
    on(&intercepting, async |_, channel| {
        let dead = queue(channel, "dead").await;
        let number = AMQPValue::LongInt;
        let quorum = AMQPValue::LongString("quorum".into());
        let expired = dying(channel, "expires", &[("x-message-ttl", number(1))]).await;
        let crowded = dying(channel, "crowded", &[("x-max-length", number(0))]).await;
        let tried = [("x-queue-type", quorum), ("x-delivery-limit", number(0))];
        let tried = dying(channel, "tried", &tried).await;
        let rejected = dying(channel, "rejected", &[]).await;
        for (dying, reason) in
            [(expired, "expired"), (crowded, "maxlen"), (tried, "delivery_limit"), (rejected, "rejected")]
        {
            let default = ShortString::from("");
            let (options, key) = (Default::default(), dying.as_str());
            let sent = publish_with(channel, &default, key, b"body", options, properties()).await;
            assert!(sent.unwrap().is_ack(), "{reason}");
            let published = format!("{dying}    guest/amqp-0-9-1 text/x v body");
            let delivered = format!("{dying}  {dying}   text/x v body");
            if ["delivery_limit", "rejected"].contains(&reason) {
                let got = get(channel, &dying, false).await.expect("it is in its queue");
                assert_eq!(header(&got.properties, "x-publish").as_ref(), Some(&published), "{reason}");
                assert_eq!(header(&got.properties, "x-deliver").as_ref(), Some(&delivered), "{reason}");
                // That counts as a failure, unlike basic.nack.
                let options = BasicRejectOptions { requeue: reason == "delivery_limit" };
                channel.basic_reject(got.delivery_tag, options).await.unwrap();
            }
            let letter = loop {
                if let Some(letter) = get(channel, &dead, true).await {
                    break letter;
                }
                tokio::task::yield_now().await;
            };
            let told = format!("dead  {dying} {reason}  text/x v body");
            assert_eq!(header(&letter.properties, "x-dead-letter"), Some(told), "{reason}");
            // What was told on deliver was for that consumer.
            let delivered = String::from("dead  dead   text/x v body");
            assert_eq!(header(&letter.properties, "x-deliver"), Some(delivered), "{reason}");
        }
        // A body that is longer than what is read is none.
        let (default, options) = (ShortString::from(""), Default::default());
        publish_with(channel, &default, "dead", b"longer than that", options, properties()).await.unwrap();
        let got = get(channel, &dead, true).await.unwrap();
        let told = "dead    guest/amqp-0-9-1 text/x v none";
        assert_eq!(header(&got.properties, "x-publish").as_deref(), Some(told));
    });
}
