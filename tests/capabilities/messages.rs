//! Messages that wait, timers, messages into queues and to exchanges.

use crate::*;

/// Declares a queue that nobody binds; its name.
async fn aside(peer: &Peer<'_>) -> ShortString {
    own_queue(&peer.channel).await
}

#[test]
fn held_messages_are_listed_counted_cancelled_and_let_go() {
    on_obeys(async |peer| {
        let queue = peer.queue("").await;
        for command in ["hold 3600000", "hold 7200000", "hold 20"] {
            assert!(peer.publish(command, command).await.is_ack());
        }
        assert_eq!(peer.next(&queue).await.data, b"hold 20");
        assert_eq!(peer.ask("holds"), "(2, [\"hold 3600000\", \"hold 7200000\"])");
        assert!(peer.publish("cancel;reject no", "").await.is_nack());
        assert_eq!(peer.seen("x-obeys")["held"], 2, "what is not accepted cancels nothing");
        peer.tell("cancel").await;
        assert_eq!(peer.ask("holds"), "(1, [\"hold 7200000\"])");
        let vhost = "holds/%2F";
        let listed = http(peer.broker, "GET", &format!("{vhost}/{}", peer.exchange), None);
        assert_eq!(
            (&listed["count"], &listed["holds"][0]["routing_key"]),
            (&json!(1), &json!("hold 7200000"))
        );
        http(peer.broker, "DELETE", &format!("{vhost}/{}", peer.exchange), None);
        assert_eq!(peer.ask("holds"), "(0, [])");
    });
}

#[test]
fn timers_fire_once_are_replaced_and_cancelled() {
    on_obeys(async |peer| {
        peer.queue("").await;
        let (fired, replaced, cancelled) = (aside(peer).await, aside(peer).await, aside(peer).await);
        peer.tell(&format!("timer {cancelled} 1;untimer {cancelled}")).await;
        assert!(peer.publish(&format!("timer {cancelled} 1;reject no"), "").await.is_nack());
        peer.tell(&format!("timer {replaced} 3600000")).await;
        peer.tell(&format!("timer {replaced} 20")).await;
        peer.tell(&format!("timer {fired} 40")).await;
        assert_eq!(peer.next(&fired).await.data, b"fired");
        // Both were due before it.
        assert_eq!(
            (peer.drain(&replaced).await, peer.drain(&cancelled).await),
            (vec!["fired".into()], vec![])
        );
        // There may be a thousand of an exchange.
        peer.tell("timers 1001 3600000").await;
        peer.broker.wait_for_log("did not set 1 timer", EVENT_WAIT_MAX);
    });
}

#[test]
fn messages_go_into_queues_once_the_message_is_accepted() {
    on_obeys(async |peer| {
        peer.queue("").await;
        let aside = aside(peer).await;
        let commands = format!("enqueue {aside};copy {aside};enqueue nowhere");
        assert!(peer.publish(&format!("{commands};reject no"), "not accepted").await.is_nack());
        let message = json!({"vhost": "/", "exchange": peer.exchange.as_str(), "routing_key": &commands});
        let told = http(peer.broker, "POST", "plugins/explain", Some(&message));
        let into = |queue: &str| format!("a message into queue '{queue}'");
        let expected = json!([into(aside.as_str()), into(aside.as_str()), into("nowhere")]);
        assert_eq!(told["steps"][0]["asked"][0]["effects"], expected, "{told}");
        assert!(peer.publish(&commands, "copied").await.is_ack());
        let made = peer.next(&aside).await;
        assert_eq!((&*made.data, made.exchange.as_str()), (&b"made"[..], ""), "past all exchanges");
        let by =
            made.properties.headers().as_ref().unwrap().inner()["by"].as_long_string().unwrap().to_string();
        assert_eq!(by, "x-obeys");
        let copy = peer.next(&aside).await;
        assert_eq!((&*copy.data, copy.routing_key.as_str()), (&b"copied"[..], commands.as_str()));
        assert!(peer.drain(&aside).await.is_empty());
        peer.broker.wait_for_log("dropped 1 message for queue 'nowhere': it is not there", EVENT_WAIT_MAX);
        assert_eq!(http(peer.broker, "GET", "plugins-effects/%2F", None)["enqueues_lost"], 1);
    });
}

#[test]
fn messages_go_to_exchanges_and_end_after_so_many_hops() {
    on_obeys(async |peer| {
        let queue = peer.queue("").await;
        let to = ShortString::from("amq.topic");
        let (made, copied) = (own_queue(&peer.channel).await, own_queue(&peer.channel).await);
        bind(&peer.channel, &made, &to, "made.#", FieldTable::default()).await;
        bind(&peer.channel, &copied, &to, "copied.#", FieldTable::default()).await;
        peer.tell("emit amq.topic made.x;emit-copy amq.topic copied.x").await;
        assert_eq!(peer.next(&made).await.data, b"made");
        assert_eq!(peer.next(&copied).await.data, b"emit amq.topic made.x;emit-copy amq.topic copied.x");
        peer.drain(&queue).await;
        // Each emits the next, until it is too much.
        peer.tell(&format!("echo {}", peer.exchange)).await;
        peer.broker.wait_for_log("after 8 emissions", EVENT_WAIT_MAX);
        assert_eq!(peer.drain(&queue).await.len(), 1 + 8);
        assert_eq!(peer.seen("x-obeys")["emitted"], 2 + 9);
    });
}

/// Held messages are the broker's: where the plugin that held them is gone by then, they go where the type behind it
/// decides.
#[test]
fn what_is_held_goes_on_without_the_plugin_that_held_it() {
    on_obeys(async |peer| {
        let queue = peer.queue("").await;
        let file = peer.broker.plugins_directory().join("obeys.wasm");
        let path = format!("holds/%2F/{}", peer.exchange);
        // As long as it takes until the plugin is gone.
        for delay_ms in (0..).map(|round| 1_000_u64 << round) {
            peer.tell(&format!("hold {delay_ms}")).await;
            let before = peer.broker.log_length();
            std::fs::remove_file(&file).unwrap();
            peer.broker.wait_for_log_after(before, log_lines::PLUGIN_REMOVED, EVENT_WAIT_MAX);
            if http(peer.broker, "GET", &path, None)["count"] == 1 {
                break;
            }
            peer.next(&queue).await;
            let before = peer.broker.log_length();
            std::fs::copy(guests::component("obeys"), peer.broker.aside().join("obeys")).unwrap();
            std::fs::rename(peer.broker.aside().join("obeys"), &file).unwrap();
            peer.broker.wait_for_log_after(before, log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
        }
        assert_eq!(peer.seen("x-obeys")["state"], "parked");
        assert!(peer.next(&queue).await.routing_key.as_str().starts_with("hold "));
        assert_eq!(http(peer.broker, "GET", &path, None)["count"], 0);
    });
}

/// What a plugin emits is its own: nobody published it, so nobody's name is on it.
#[test]
fn who_published_is_told_and_what_is_emitted_has_no_publisher() {
    on_obeys(async |peer| {
        peer.queue("").await;
        let who = ShortString::from("who");
        declare(&peer.channel, &who, "x-who", FieldTable::default()).await.unwrap();
        assert!(publish(&peer.channel, &who, "", b"", true).await.unwrap().is_ack());
        peer.tell("emit who k").await;
        until("both are dropped", || peer.seen("x-who")["drops"].as_array().unwrap().len() == 2);
        let drops = peer.seen("x-who")["drops"].clone();
        let reasons: Vec<_> =
            drops.as_array().unwrap().iter().map(|drop| drop["reason"].as_str().unwrap()).collect();
        assert_eq!(reasons[0], "nobody", "the latest first: {drops}");
        let (publisher, connection) = reasons[1].split_once(" on ").unwrap();
        assert_eq!(publisher, "guest by amqp-0-9-1", "{drops}");
        let connections = http(peer.broker, "GET", "connections", None);
        assert_eq!(connections[0]["name"], connection, "as in the management API: {connections}");
    });
}
