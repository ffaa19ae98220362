//! What operators ask of a plugin, and it misbehaves then: to take over state, to take other arguments, to tell
//! of itself. What served goes on serving, the operator is told why, the neighbours notice nothing.
//!
//! (There is no function to validate: declaring and binding ask `open` and `bind`, which `everywhere` has.)

use super::{
    asking::{get, json_of, put},
    everywhere::{Evil, exchange, routes_again},
    session::*,
};
use lapin::{Channel, options::ExchangeDeleteOptions, types::ShortString};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, guests, log_lines};
use serde_json::json;
use std::fs;

/// What each way comes to in a function, as it is said.
const WAYS: [(&str, &str); 7] = [
    ("trap", "unreachable"),
    ("loop", "ms of CPU"),
    ("memory", "MiB of memory"),
    ("recurse", "trapped"),
    ("refuse", "no 2026"),
    // Of no message can a copy be made.
    ("emit", "no message on hand"),
    ("cancel", "only key-value and message-store have effects"),
];

/// Puts the second version into the place of the first; the line that says what became of it.
fn offer_second(broker: &Broker, said: &str) -> String {
    let before = broker.log_length();
    let aside = broker.aside().join("aside");
    fs::copy(guests::component("evil_v2"), &aside).unwrap();
    fs::rename(aside, broker.plugins_directory().join("evil.wasm")).unwrap();
    broker.wait_for_log_after(before, said, EVENT_WAIT_MAX)
}

/// An exchange that keeps something, so that there is something to migrate.
async fn with_state(channel: &Channel, told: &str) -> (ShortString, ShortString) {
    let (exchange, queue) = exchange(channel, &format!("route note; {told}")).await;
    bind(channel, &queue, &exchange, "evil", Default::default()).await;
    while !publish(channel, &exchange, "evil", b"kept", true).await.unwrap().is_ack() {}
    assert_eq!(drain(channel, &queue).await, [b"kept"]);
    (exchange, queue)
}

fn serving_version(broker: &Broker) -> String {
    let told = get(broker, "plugins/x-evil");
    told["version"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
}

#[test]
fn taking_over_the_state_of_an_older_version() {
    let evil = Evil::with("", "");
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let first = serving_version(&evil.broker);
        for (way, word) in WAYS {
            let (exchange, queue) = with_state(&channel, &format!("migrate {way}")).await;
            let line = offer_second(&evil.broker, log_lines::PLUGIN_REFUSED);
            assert!(line.contains("stage=migrate") && line.contains(word), "{way}: {line}");
            assert!(line.contains(exchange.as_str()) && line.len() < 2_000, "{way}: {line}");
            assert_eq!(serving_version(&evil.broker), first, "{way}");
            routes_again(&channel, &exchange, &queue).await;
            channel.exchange_delete(exchange, ExchangeDeleteOptions::default()).await.unwrap();
        }
        // Where nothing speaks against it the same file is taken.
        let (exchange, queue) = with_state(&channel, "migrate note").await;
        let line = offer_second(&evil.broker, log_lines::PLUGIN_SERVES);
        assert!(line.contains("states_migrated=1"), "{line}");
        assert_eq!(serving_version(&evil.broker), "2");
        routes_again(&channel, &exchange, &queue).await;
    });
    let forged = |line: &str| line.starts_with("2026-01-01T00:00:00Z");
    assert!(!evil.broker.log().lines().any(forged), "a line was forged");
}

#[test]
fn telling_of_itself_and_taking_other_arguments() {
    let evil = Evil::with("", "");
    evil.beside_a_neighbour(async |connection| {
        let channel = confirming(connection).await;
        let victim = own_queue(&channel).await;
        bind(&channel, &victim, &"amq.fanout".into(), "", Default::default()).await;
        for told in ["large", "fields", "note"] {
            let (exchange, queue) = exchange(&channel, &format!("info {told}; reconfigure {told}")).await;
            let seen = get(&evil.broker, &format!("exchanges-info/%2F/{exchange}"));
            let of_type = &seen["types"][0];
            let shown = of_type.to_string().len();
            assert!(shown < 1 << 20, "{told}: {shown} bytes are shown");
            let error = of_type["error"].as_str().filter(|error| !error.is_empty());
            // Very many fields take too long, or the first are shown.
            let few = of_type["info"].as_object().is_some_and(|fields| fields.len() <= 64);
            let is_held = told == "note" || error.is_some() || (told == "fields" && few);
            assert!(is_held, "{told}: {of_type}");
            let change = json!({"set": {"x-new": 1}});
            let answer = put(&evil.broker, &format!("exchanges-arguments/%2F/{exchange}"), &change);
            assert!(answer.status() == 200 || answer.status() == 204, "{told}: {}", json_of(&answer));
            routes_again(&channel, &exchange, &queue).await;
        }
        assert!(drain(&channel, &victim).await.is_empty(), "neither has effects");
        // A refusal of a mebibyte, a copy of no message, an effect: the operator gets a text that fits, and
        // nothing is changed.
        let ways =
            [("refuse", "no 2026"), ("emit", "no message on hand"), ("cancel", "effects are not possible")];
        for (way, said) in ways {
            let (exchange, queue) = exchange(&channel, &format!("reconfigure {way}")).await;
            let change = json!({"set": {"x-new": 1}});
            let answer = put(&evil.broker, &format!("exchanges-arguments/%2F/{exchange}"), &change);
            let refused = json_of(&answer);
            let reason = refused["reason"].as_str().unwrap();
            assert_eq!(answer.status(), 409, "{refused}");
            assert!(reason.contains(said) && !reason.contains('\n') && reason.len() < 4_096, "{reason}");
            let seen = get(&evil.broker, &format!("exchanges-info/%2F/{exchange}"));
            assert!(seen["arguments"].get("x-new").is_none(), "{seen}");
            routes_again(&channel, &exchange, &queue).await;
        }
    });
    // Nothing of it is in the state either.
    assert_eq!(evil.seen()["state_entries"], 0, "{}", evil.seen());
    assert_eq!(evil.seen()["emitted"], 0, "{}", evil.seen());
}
