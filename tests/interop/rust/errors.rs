//! Refusals as lapin shows them, and logins.

use super::session::*;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, ConnectionProperties};
use leveret_testkit::unique_name;

#[test]
fn an_absent_exchange_closes_the_channel_only() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let name = ShortString::from(unique_name("absent"));
        let error = publish(&channel, &name, "key", b"x", false).await.unwrap_err();
        assert_eq!(refusal(&error), (404, format!("NOT_FOUND - no exchange '{name}' in vhost '/'")));
        own_queue(&confirming(&connection).await).await;
    });
}

#[test]
fn an_absent_queue() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let name = ShortString::from(unique_name("absent"));
        let text = format!("NOT_FOUND - no queue '{name}' in vhost '/'");
        let channel = confirming(&connection).await;
        let error = channel.basic_get(name.clone(), BasicGetOptions::default()).await.unwrap_err();
        assert_eq!(refusal(&error), (404, text.clone()));
        let channel = confirming(&connection).await;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let error = channel.queue_declare(name, options, FieldTable::default()).await.unwrap_err();
        assert_eq!(refusal(&error), (404, text));
    });
}

#[test]
fn a_locked_queue() {
    on_broker_under_test(async |broker| {
        let (owner, other) = (connect(broker).await, connect(broker).await);
        let queue = own_queue(&confirming(&owner).await).await;
        let channel = confirming(&other).await;
        let error = channel
            .basic_consume(queue.clone(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .unwrap_err();
        let (code, text) = refusal(&error);
        assert_eq!(code, 405);
        let begin = format!(
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'."
        );
        assert!(text.starts_with(&begin), "{text}");
    });
}

#[test]
fn an_unknown_exchange_type() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let name = ShortString::from(unique_name("exchange"));
        let error = declare_exchange(&channel, &name, "x-no-such-type").await.unwrap_err();
        let text = "PRECONDITION_FAILED - unknown exchange type 'x-no-such-type'".to_owned();
        assert_eq!(refusal(&error), (406, text));
    });
}

#[test]
fn an_unknown_delivery_tag() {
    on_broker_under_test(async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        channel.basic_ack(99, BasicAckOptions::default()).await.unwrap();
        // The refusal comes without having been asked for; the next call on the channel meets it.
        let error = loop {
            let asked = channel.basic_get("amq.none".into(), BasicGetOptions::default()).await;
            if let Err(error) = asked {
                break error;
            }
        };
        assert_eq!(refusal(&error), (406, "PRECONDITION_FAILED - unknown delivery tag 99".to_owned()));
    });
}

#[test]
fn bad_logins() {
    on_broker_under_test(async |broker| {
        for (user, virtual_host, code, text) in [
            (
                "guest:wrong",
                "%2f",
                403,
                "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
            ),
            (
                "nobody:guest",
                "%2f",
                403,
                "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
            ),
            ("guest:guest", "nowhere", 530, "NOT_ALLOWED - vhost nowhere not found"),
        ] {
            let url = format!("amqp://{user}@{}/{virtual_host}", broker.address());
            let error = Connection::connect(&url, ConnectionProperties::default()).await.unwrap_err();
            assert_eq!(refusal(&error), (code, text.to_owned()));
        }
    });
}
