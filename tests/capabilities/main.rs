//! What a plugin can do besides deciding: each capability by a guest against the running broker, as
//! `wit/0.2.0/capabilities.wit` describes it; and what becomes of it where the message is not accepted, the
//! plugin fails, or the operator did not grant it.
//!
//! The guest is `x-obeys` (`tests/guests/peaceful/guests/obeys.rs`): a fanout that does what the routing key
//! says. What it finds out it tells by rejecting the message, which the broker explains.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod grants;
mod lost;
mod messages;
mod poison;
mod port;
mod seen;
#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;
mod values;

use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, log_lines};
use serde_json::{Value, json};
use session::*;
use std::time::Instant;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
/// All that can be granted.
pub(crate) const ALL: [&str; 12] = [
    "clock",
    "random",
    "log",
    "metric",
    "key-value",
    "message-store",
    "hold",
    "timer",
    "enqueue",
    "emit",
    "queue-info",
    "publisher",
];

/// The grants of the guest but for one, as its table in the configuration has them.
pub(crate) fn grants_without(denied: &str) -> String {
    let granted: Vec<String> =
        ALL.iter().filter(|grant| **grant != denied).map(|grant| format!("\"{grant}\"")).collect();
    format!("grants = [{}]\n", granted.join(", "))
}

/// The table of the guest, with all grants.
pub(crate) fn all_granted() -> String {
    format!("[plugins.obeys]\n{}", grants_without("none"))
}

/// Starts a broker with this configuration and the guest, and others.
pub(crate) fn start(configuration: &str, more: &[&str]) -> (Broker, ScratchDirectory) {
    let kept = ScratchDirectory::new("capabilities");
    let file = kept.path().join("leveret.toml");
    std::fs::write(&file, configuration).unwrap();
    let mut builder = Broker::builder(BINARY).argument("--config").argument(file);
    for guest in [&["obeys"], more].concat() {
        builder = builder.plugin(guests::component(guest));
    }
    (builder.start(), kept)
}

/// Runs a test with an exchange of the guest's type in the virtual host `/`.
pub(crate) fn on_obeys(test: impl AsyncFnOnce(&Peer<'_>)) {
    let (broker, _kept) = start(&all_granted(), &[]);
    on_broker(&broker, async |broker| test(&Peer::connect(broker, "/", "x-obeys").await).await);
}

/// A connection to a virtual host, and an exchange there.
pub(crate) struct Peer<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) vhost: String,
    /// Kept, for with it everything that is exclusive goes.
    _connection: Connection,
    pub(crate) channel: Channel,
    pub(crate) exchange: ShortString,
}

impl<'a> Peer<'a> {
    pub(crate) async fn connect(broker: &'a Broker, vhost: &str, kind: &str) -> Self {
        let name = if vhost == "/" { "%2f" } else { vhost };
        let url = format!("amqp://guest:guest@{}/{name}", broker.address());
        let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
        let channel = confirming(&connection).await;
        let exchange = ShortString::from(leveret_testkit::unique_name("obeys"));
        declare(&channel, &exchange, kind, FieldTable::default()).await.unwrap();
        Self { broker, vhost: vhost.to_owned(), _connection: connection, channel, exchange }
    }

    /// A queue that is bound with this key.
    pub(crate) async fn queue(&self, key: &str) -> ShortString {
        let queue = own_queue(&self.channel).await;
        bind(&self.channel, &queue, &self.exchange, key, FieldTable::default()).await;
        queue
    }

    /// Publishes commands; what the broker confirmed.
    pub(crate) async fn publish(&self, commands: &str, body: &str) -> Confirmation {
        publish(&self.channel, &self.exchange, commands, body.as_bytes(), true).await.unwrap()
    }

    /// Publishes commands that are to be accepted and routed.
    pub(crate) async fn tell(&self, commands: &str) {
        let confirmation = self.publish(commands, commands).await;
        assert!(confirmation.is_ack(), "{commands}: {confirmation:?}");
        assert!(confirmation.take_message().is_none(), "{commands} is routed nowhere");
    }

    /// What the guest found out; nothing else comes of it.
    pub(crate) fn ask(&self, commands: &str) -> String {
        let message =
            json!({"vhost": self.vhost, "exchange": self.exchange.as_str(), "routing_key": commands});
        let told = http(self.broker, "POST", "plugins/explain", Some(&message));
        assert_eq!(told["outcome"], "rejected", "{commands}: {told}");
        told["reason"].as_str().unwrap().to_owned()
    }

    /// What is seen of the type in the virtual host.
    pub(crate) fn seen(&self, kind: &str) -> Value {
        let vhost = if self.vhost == "/" { "%2F" } else { &self.vhost };
        http(self.broker, "GET", &format!("plugins/{kind}/vhosts/{vhost}"), None)
    }

    pub(crate) async fn drain(&self, queue: &ShortString) -> Vec<String> {
        let bodies = drain(&self.channel, queue).await;
        bodies.into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }

    /// The next message of a queue.
    pub(crate) async fn next(&self, queue: &ShortString) -> lapin::message::Delivery {
        next(&self.channel, queue).await
    }
}

/// The next message of a queue.
pub(crate) async fn next(channel: &Channel, queue: &ShortString) -> lapin::message::Delivery {
    loop {
        if let Some(delivery) = get(channel, queue, true).await {
            return delivery;
        }
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn declare(
    channel: &Channel,
    exchange: &ShortString,
    kind: &str,
    arguments: FieldTable,
) -> lapin::Result<()> {
    let kind = ExchangeKind::Custom(kind.into());
    channel.exchange_declare(exchange.clone(), kind, Default::default(), arguments).await
}

/// Waits until something holds, asking again and again.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < EVENT_WAIT_MAX, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// Asks the HTTP API as guest.
pub(crate) fn http(broker: &Broker, method: &str, path: &str, body: Option<&Value>) -> Value {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(EVENT_WAIT_MAX)).build().into();
    let url = format!("http://{}/api/{path}", broker.http_address());
    let guest = ("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
    let answer = match (method, body) {
        ("GET", _) => agent.get(url).header(guest.0, guest.1).call(),
        ("DELETE", _) => agent.delete(url).header(guest.0, guest.1).call(),
        (_, body) => agent
            .post(url)
            .header(guest.0, guest.1)
            .header("content-type", "application/json")
            .send(body.unwrap().to_string()),
    };
    serde_json::from_slice(&answer.unwrap().into_body().read_to_vec().unwrap()).unwrap()
}
