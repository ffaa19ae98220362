//! On dead-letter: what arrives of a letter, what stays in its queue, what interceptors remember.

use super::*;
use lapin::options::{BasicRejectOptions, QueueDeclareOptions};

/// A queue of that name whose dead letters go to the exchange `graves`, and from there by their keys to a
/// queue, which is given.
async fn graves(channel: &Channel, name: &str, keys: &[&str]) -> (ShortString, ShortString) {
    let (_, dead) = exchange(channel, "graves", keys).await;
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let arguments = texts(&[("x-dead-letter-exchange", "graves")]);
    let dying = channel.queue_declare(name.into(), options, arguments).await.unwrap().name().clone();
    let work = ShortString::from("work");
    declare_exchange(channel, &work, "fanout").await.unwrap();
    bind(channel, &dying, &work, "", FieldTable::default()).await;
    (dying, dead)
}

/// Publishes with these keys, and rejects what comes of it.
async fn reject(channel: &Channel, dying: &ShortString, keys: &[&str]) {
    for key in keys {
        let confirm = publish(channel, &"work".into(), key, key.as_bytes(), true).await.unwrap();
        assert!(confirm.is_ack());
        let got = get(channel, dying, false).await.expect("it is in its queue");
        channel.basic_reject(got.delivery_tag, BasicRejectOptions { requeue: false }).await.unwrap();
    }
}

/// The next letter.
async fn letter(channel: &Channel, dead: &ShortString) -> lapin::message::Delivery {
    loop {
        if let Some(letter) = get(channel, dead, true).await {
            return letter;
        }
    }
}

#[test]
fn letters_are_changed_dropped_and_kept_back() {
    let append = |order, value| append("dead-letter", order, "queue = \"dying*\"", "x-seen", value);
    let by_key = by_key("dead-letter", "queue = \"dying*\"");
    let tables = [append(20, "b"), append(10, "a"), by_key];
    let intercepting = Intercepting::without_plugin(&tables.concat());
    on(&intercepting, async |_, channel| {
        let (dying, dead) = graves(channel, "dying.1", &["plain", "moved", "drop", "reject", "trap"]).await;
        // Without its plugin the letter stays where it is.
        reject(channel, &dying, &["plain"]).await;
        assert!(get(channel, &dead, true).await.is_none());
        intercepting.serve("interceptors_v1", "interceptors");
        let first = letter(channel, &dead).await;
        assert_eq!(header(&first.properties, "x-seen").as_deref(), Some("ab"));
        // Those that are rejected, or trap, stay behind and hold up no other.
        reject(channel, &dying, &["drop", "reject", "trap", "move", "plain"]).await;
        for (key, body) in [("moved", "move"), ("plain", "plain")] {
            let letter = letter(channel, &dead).await;
            assert_eq!((letter.routing_key.as_str(), &*letter.data), (key, body.as_bytes()));
            assert_eq!(header(&letter.properties, "x-seen").as_deref(), Some("ab"));
            assert_eq!(header(&letter.properties, "x-first-death-queue").as_deref(), Some("dying.1"));
        }
        assert!(get(channel, &dead, true).await.is_none());
    });
}

#[test]
fn only_letters_that_arrived_are_remembered() {
    let tables = "[plugins.once]\ngrants = [\"key-value\"]\n\
                  [[intercept]]\ninterceptor = \"once\"\npoint = \"dead-letter\"\norder = 1\n";
    let intercepting = Intercepting::without_plugin(tables);
    intercepting.serve("interceptor_once", "once");
    on(&intercepting, async |_, channel| {
        let (dying, dead) = graves(channel, "dying", &["a"]).await;
        // Nobody is bound with that key: it is gone, and does not count as seen.
        reject(channel, &dying, &["b", "a", "a"]).await;
        assert_eq!(letter(channel, &dead).await.data, b"a");
        bind(channel, &dead, &"graves".into(), "b", FieldTable::default()).await;
        reject(channel, &dying, &["a", "b", "b", "a"]).await;
        assert_eq!(letter(channel, &dead).await.data, b"b");
        assert!(get(channel, &dead, true).await.is_none(), "each once");
    });
}
