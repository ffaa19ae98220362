//! Interceptors, attached by the configuration of a broker, and what publishers and consumers see.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod dead_letter;
mod deliver;
mod publish;
mod seen;
#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;

use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Connection};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, log_lines, process};
use session::*;
use std::fs;
use std::process::Command;

/// A broker, and the configuration that keeps it.
pub(crate) struct Intercepting {
    pub(crate) broker: Broker,
    _configuration: ScratchDirectory,
}

impl Intercepting {
    /// With these tables in its configuration, and the plugin `interceptors`.
    pub(crate) fn with(tables: &str) -> Self {
        let this = Self::without_plugin(tables);
        this.serve("interceptors_v1", "interceptors");
        this
    }

    /// With these tables in its configuration.
    pub(crate) fn without_plugin(tables: &str) -> Self {
        let configuration = ScratchDirectory::new("interceptors");
        let file = configuration.path().join("leveret.toml");
        fs::write(&file, tables).unwrap();
        let broker =
            Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--config").argument(file).start();
        Self { broker, _configuration: configuration }
    }

    /// Puts a guest into the plugins folder and gives the line of the log that says what became of it.
    pub(crate) fn put(&self, guest: &str, plugin: &str, awaited: &str) -> String {
        let (aside, before) = (self.broker.aside().join("written-aside"), self.broker.log_length());
        let file = format!("{plugin}.wasm");
        fs::copy(guests::component(guest), &aside).unwrap();
        fs::rename(aside, self.broker.plugins_directory().join(&file)).unwrap();
        let line = self.broker.wait_for_log_after(before, awaited, EVENT_WAIT_MAX);
        assert!(line.contains(&file), "the line does not name the file: {line}");
        line
    }

    pub(crate) fn serve(&self, guest: &str, plugin: &str) -> String {
        self.put(guest, plugin, log_lines::PLUGIN_SERVES)
    }

    pub(crate) fn remove(&self, plugin: &str) {
        let before = self.broker.log_length();
        fs::remove_file(self.broker.plugins_directory().join(format!("{plugin}.wasm"))).unwrap();
        self.broker.wait_for_log_after(before, log_lines::PLUGIN_REMOVED, EVENT_WAIT_MAX);
    }
}

/// Runs a test with a connection and a channel in confirm mode.
pub(crate) fn on(intercepting: &Intercepting, test: impl AsyncFnOnce(&Connection, &Channel)) {
    on_broker(&intercepting.broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        test(&connection, &channel).await;
    });
}

/// The text of a header of a message.
pub(crate) fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        other => panic!("a text wanted, not {other:?}"),
    }
}

/// A queue of a name.
pub(crate) async fn queue(channel: &Channel, name: &str) -> ShortString {
    let options = lapin::options::QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap().name().clone()
}

/// An exchange of a name, and a queue bound with these keys.
pub(crate) async fn exchange(channel: &Channel, name: &str, keys: &[&str]) -> (ShortString, ShortString) {
    let exchange = ShortString::from(name);
    let queue = own_queue(channel).await;
    declare_exchange(channel, &exchange, "direct").await.unwrap();
    for key in keys {
        bind(channel, &queue, &exchange, key, FieldTable::default()).await;
    }
    (exchange, queue)
}

/// What `append` is attached with.
pub(crate) fn append(point: &str, order: i64, names: &str, header: &str, value: &str) -> String {
    format!(
        "[[intercept]]\ninterceptor = \"append\"\npoint = \"{point}\"\norder = {order}\n{names}\n\
         arguments = {{ header = \"{header}\", value = \"{value}\" }}\n"
    )
}

/// The interceptor that does what the key says.
pub(crate) fn by_key(point: &str, more: &str) -> String {
    format!("[[intercept]]\ninterceptor = \"by-key\"\npoint = \"{point}\"\norder = 50\n{more}\n")
}

/// Two with the same order that a message can meet end the start, and are both named.
#[test]
fn conflicts_are_refused_at_start() {
    let folder = ScratchDirectory::new("conflict");
    let file = folder.path().join("leveret.toml");
    let tables = format!(
        "{}{}",
        append("publish", 1, "exchange = \"orders.*\"", "a", "x"),
        by_key("publish", "exchange = \"*.eu\"").replace("order = 50", "order = 1")
    );
    fs::write(&file, tables).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.arg("--config").arg(file).arg("--data-dir").arg(folder.path());
    let ended = process::run(&mut command, EVENT_WAIT_MAX).unwrap();
    assert!(!ended.status.success());
    let said = ended.report().to_string();
    for part in ["line 7", "'append'", "orders.*", "'by-key'", "*.eu", "the same order, 1"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// A table of texts.
pub(crate) fn headers(fields: &[(&str, &str)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert((*name).into(), AMQPValue::LongString(LongString::from(*value)));
    }
    BasicProperties::default().with_headers(table)
}
