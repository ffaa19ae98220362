//! Deduplication loses nothing: what counts as seen is what was accepted. (More of it is in
//! `tests/catalogue/deduplication.rs`; what a roll-back would undo, in `port.rs`.)

use crate::*;
use lapin::BasicProperties;

/// Publishes all before the first is confirmed; whether each was accepted.
async fn at_once(peer: &Peer<'_>, commands: &[&str]) -> Vec<bool> {
    let mut confirms = Vec::new();
    for command in commands {
        let (options, properties) = Default::default();
        let body = command.as_bytes();
        let sent =
            peer.channel.basic_publish(peer.exchange.clone(), (*command).into(), options, body, properties);
        confirms.push(sent.await.unwrap());
    }
    let mut accepted = Vec::new();
    for confirm in confirms {
        accepted.push(confirm.await.unwrap().is_ack());
    }
    accepted
}

#[test]
fn a_trap_later_in_the_batch_forgets_nothing_and_remembers_nothing_of_its_own() {
    on_obeys(async |peer| {
        let queue = peer.queue("").await;
        let batch = ["once a", "once b", "once c;trap", "once a", "trap", "once c", "once b", "once d"];
        let accepted = at_once(peer, &batch).await;
        assert_eq!(accepted, [true, true, false, true, false, true, true, true]);
        assert_eq!(peer.drain(&queue).await, ["once a", "once b", "once c", "once d"]);
        assert_eq!(at_once(peer, &["once a", "once b", "once c", "once d"]).await, [true; 4]);
        assert!(peer.drain(&queue).await.is_empty(), "all four were seen");
    });
}

/// Deduplicating in front of a type that rejects: by an argument of the exchange.
#[test]
fn what_a_type_behind_rejects_was_not_seen() {
    on_obeys(async |peer| {
        let exchange = ShortString::from("chain");
        let mut arguments = FieldTable::default();
        arguments.insert("x-message-deduplication".into(), lapin::types::AMQPValue::Boolean(true));
        declare(&peer.channel, &exchange, "x-obeys", arguments).await.unwrap();
        let queue = own_queue(&peer.channel).await;
        bind(&peer.channel, &queue, &exchange, "", FieldTable::default()).await;
        let send = async |id: &str, command: &str| {
            let headers = texts(&[("x-deduplication-header", id)]);
            let properties = BasicProperties::default().with_headers(headers);
            let body = command.as_bytes();
            let sent = publish_with(&peer.channel, &exchange, command, body, Default::default(), properties);
            sent.await.unwrap().is_ack()
        };
        for refused in ["reject no", "trap", "once x;trap"] {
            assert!(!send(refused, refused).await, "{refused}");
            assert!(send(refused, "again").await);
            assert!(send(refused, "duplicate").await, "confirmed, and dropped");
            assert_eq!(peer.drain(&queue).await, ["again"], "{refused}");
        }
        // Held and cancelled: it was accepted, so it was seen.
        assert!(send("held", "hold 3600000").await);
        assert!(send("held", "duplicate").await);
        assert!(peer.drain(&queue).await.is_empty());
    });
}

/// An interceptor that cannot be asked refuses before the exchange is asked; one on the way that rejects does too.
#[test]
fn what_an_interceptor_refuses_was_not_seen() {
    let tables = format!(
        "{}[[intercept]]\ninterceptor = \"by-key\"\npoint = \"publish\"\norder = 2\n\
         [plugins.once]\ngrants = [\"key-value\"]\n\
         [[intercept]]\ninterceptor = \"once\"\npoint = \"publish\"\norder = 1\n",
        all_granted()
    );
    let (broker, _kept) = start(&tables, &["interceptors_v1"]);
    on_broker(&broker, async |broker| {
        let peer = Peer::connect(broker, "/", "x-obeys").await;
        let queue = peer.queue("").await;
        assert!(peer.publish("once a", "").await.is_nack(), "the first interceptor is not there");
        let component = std::fs::read(guests::component("interceptor_once")).unwrap();
        let aside = broker.aside().join("aside");
        std::fs::write(&aside, component).unwrap();
        std::fs::rename(aside, broker.plugins_directory().join("once.wasm")).unwrap();
        broker.wait_for_log("once.wasm", EVENT_WAIT_MAX);
        until("it serves", || broker.log().contains("interceptors=[\"once\"]"));
        for key in ["reject", "trap"] {
            // The first interceptor let them pass, the second did not: so they were not seen by the first.
            assert!(peer.publish(key, "").await.is_nack());
            assert!(peer.publish(key, "").await.is_nack(), "a duplicate would be confirmed");
        }
        peer.tell("once a").await;
        assert!(peer.publish("once a", "").await.is_ack());
        assert_eq!(peer.drain(&queue).await, ["once a"]);
    });
}

/// A message that is to be held and for which there is no room is not accepted, so it was not seen.
#[test]
fn what_there_is_no_room_to_hold_was_not_seen() {
    let tables = format!("{}[plugins.x-delayed-message]\nheld-messages = 1\n", all_granted());
    let (broker, _kept) = start(&tables, &[]);
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        let late = ShortString::from("late");
        let mut arguments = texts(&[("x-delayed-type", "fanout")]);
        arguments.insert("x-message-deduplication".into(), lapin::types::AMQPValue::Boolean(true));
        declare(&channel, &late, "x-delayed-message", arguments).await.unwrap();
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &late, "", FieldTable::default()).await;
        let send = async |id: &str, delay_ms: i32| {
            let mut headers = texts(&[("x-deduplication-header", id)]);
            headers.insert("x-delay".into(), lapin::types::AMQPValue::LongInt(delay_ms));
            let properties = BasicProperties::default().with_headers(headers);
            let sent = publish_with(&channel, &late, "", id.as_bytes(), Default::default(), properties);
            sent.await.unwrap().is_ack()
        };
        const HOUR: i32 = 3_600_000;
        assert!(send("first", HOUR).await);
        assert!(!send("second", HOUR).await, "there is room for one");
        let listed = http(broker, "GET", "holds/%2F/late", None);
        assert_eq!(listed["count"], 1, "{listed}");
        let path = format!("holds/%2F/late/{}", listed["holds"][0]["id"]);
        assert_eq!(http(broker, "DELETE", &path, None)["cancelled"], 1);
        assert!(send("second", HOUR).await, "it is accepted now, and held");
        assert!(send("second", HOUR).await && send("first", HOUR).await, "duplicates are confirmed");
        assert_eq!(http(broker, "GET", "holds/%2F/late", None)["count"], 1, "and dropped");
        // What needs no room goes on at once, and once.
        assert!(send("third", 0).await && send("third", 0).await);
        assert_eq!(drain(&channel, &queue).await, [b"third"]);
    });
}
