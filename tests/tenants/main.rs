//! Tenants: plugins of several virtual hosts in one broker, what the operator allows each, and that one
//! tenant's plugin is no concern of another's.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod fair;
mod hostile;
#[allow(dead_code, reason = "shared with the interop suite; a part is used here")]
#[path = "../interop/rust/session.rs"]
mod session;
mod whose;

use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, log_lines, process};
use session::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// A broker with the virtual hosts `a` and `b`, and the configuration that keeps it.
struct Tenants {
    broker: Broker,
    _configuration: ScratchDirectory,
}

impl Tenants {
    /// With these tables in its configuration.
    fn with(tables: &str) -> Self {
        let configuration = ScratchDirectory::new("tenants");
        let file = configuration.path().join("leveret.toml");
        fs::write(&file, format!("vhosts = [\"/\", \"a\", \"b\"]\n{tables}")).unwrap();
        let broker =
            Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--config").argument(file).start();
        Self { broker, _configuration: configuration }
    }

    /// The folder of a virtual host's plugins, or with `""` the one for all.
    fn folder(&self, vhost: &str) -> PathBuf {
        match vhost {
            "" => self.broker.plugins_directory(),
            vhost => self.broker.aside().join("data/vhosts").join(vhost).join("plugins"),
        }
    }

    /// Puts a guest there and gives the line of the log that says what became of it.
    fn put(&self, vhost: &str, guest: &str, file: &str, awaited: &str) -> String {
        let (aside, before) = (self.broker.aside().join("written-aside"), self.broker.log_length());
        fs::copy(guests::component(guest), &aside).unwrap();
        fs::rename(aside, self.folder(vhost).join(file)).unwrap();
        let line = self.broker.wait_for_log_after(before, awaited, EVENT_WAIT_MAX);
        assert!(line.contains(file), "the line does not name the file: {line}");
        line
    }

    fn serve(&self, vhost: &str, guest: &str) -> String {
        self.put(vhost, guest, &format!("{guest}.wasm"), log_lines::PLUGIN_SERVES)
    }

    fn remove(&self, vhost: &str, guest: &str) -> String {
        let before = self.broker.log_length();
        fs::remove_file(self.folder(vhost).join(guest).with_extension("wasm")).unwrap();
        self.broker.wait_for_log_after(before, log_lines::PLUGIN_REMOVED, EVENT_WAIT_MAX)
    }

    /// A connection to a virtual host, with `""` to the default one.
    async fn connect(&self, vhost: &str) -> Connection {
        let vhost = if vhost.is_empty() { "%2f" } else { vhost };
        let url = format!("amqp://guest:guest@{}/{vhost}", self.broker.address());
        Connection::connect(&url, ConnectionProperties::default()).await.unwrap()
    }
}

/// Runs a test of these tenants.
fn on(tenants: &Tenants, test: impl AsyncFnOnce(&Tenants)) {
    on_broker(&tenants.broker, async |_| test(tenants).await);
}

/// An exchange of the type `x-versioned` with a binding for either version.
struct Versioned {
    connection: Connection,
    channel: Channel,
    exchange: ShortString,
    queues: [ShortString; 2],
}

impl Versioned {
    async fn declare(tenants: &Tenants, vhost: &str) -> Self {
        let connection = tenants.connect(vhost).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-versioned").await;
        let queues = [own_queue(&channel).await, own_queue(&channel).await];
        for (queue, key) in queues.iter().zip(["k.v1", "k.v2"]) {
            bind(&channel, queue, &exchange, key, FieldTable::default()).await;
        }
        Self { connection, channel, exchange, queues }
    }

    /// Which version routes.
    async fn version(&self) -> u32 {
        let confirm = publish(&self.channel, &self.exchange, "k", b"x", true).await.unwrap();
        assert!(confirm.is_ack() && confirm.take_message().is_none());
        let mut got = [0; 2];
        for (queue, got) in self.queues.iter().zip(&mut got) {
            *got = drain(&self.channel, queue).await.len();
        }
        match got {
            [1, 0] => 1,
            [0, 1] => 2,
            other => panic!("neither version routes so: {other:?}"),
        }
    }

    /// The refusal of a publish.
    async fn refusal(&self) -> (u16, String) {
        let channel = confirming(&self.connection).await;
        refusal(&publish(&channel, &self.exchange, "k", b"x", false).await.unwrap_err())
    }
}

/// What an argument puts in front of a type is looked up as types are: the tenant's own, and not the one that came with
/// the broker beside it.
#[test]
fn an_argument_puts_a_tenants_own_type_in_front_and_no_other() {
    let tenants = Tenants::with("");
    tenants.serve("a", "in_front");
    on(&tenants, async |tenants| {
        for (vhost, arrive) in [("a", &["k", "k"][..]), ("b", &["k", "mine"])] {
            let channel = confirming(&tenants.connect(vhost).await).await;
            let (exchange, queue) = (ShortString::from("staged"), own_queue(&channel).await);
            let mut arguments = FieldTable::default();
            arguments.insert("x-message-deduplication".into(), lapin::types::AMQPValue::Boolean(true));
            let (kind, options) = (lapin::ExchangeKind::Fanout, Default::default());
            channel.exchange_declare(exchange.clone(), kind, options, arguments).await.unwrap();
            bind(&channel, &queue, &exchange, "", FieldTable::default()).await;
            // The same twice by its header: the broker's type drops the second one.
            for key in ["k", "k", "mine"] {
                let id = if key == "k" { "one" } else { "other" };
                let properties =
                    lapin::BasicProperties::default().with_headers(texts(&[("x-deduplication-header", id)]));
                let (options, body) = (Default::default(), key.as_bytes());
                let sent = publish_with(&channel, &exchange, key, body, options, properties).await;
                assert!(sent.unwrap().is_ack());
            }
            let arrived = drain(&channel, &queue).await;
            let arrived: Vec<&str> = arrived.iter().map(|body| std::str::from_utf8(body).unwrap()).collect();
            assert_eq!(arrived, arrive, "{vhost}");
        }
    });
}

/// The refusal of a declaration.
async fn declare_refused(tenants: &Tenants, vhost: &str, kind: &str) -> (u16, String) {
    let channel = confirming(&tenants.connect(vhost).await).await;
    refusal(&declare_exchange(&channel, &"refused".into(), kind).await.unwrap_err())
}

#[test]
fn the_same_type_is_another_plugin_for_another_tenant() {
    let tenants = Tenants::with("");
    let line = tenants.serve("a", "versioned_v1");
    assert!(line.contains("scope=vhost 'a'"), "{line}");
    tenants.serve("b", "versioned_v2");
    on(&tenants, async |tenants| {
        let a = Versioned::declare(tenants, "a").await;
        let b = Versioned::declare(tenants, "b").await;
        assert_eq!((a.version().await, b.version().await), (1, 2));
        // A tenant's file serves nobody else.
        let (code, text) = declare_refused(tenants, "", "x-versioned").await;
        assert!(code == 406 && text.contains("unknown exchange type 'x-versioned'"), "{code} {text}");
        tenants.remove("b", "versioned_v2");
        let (code, text) = b.refusal().await;
        assert!(code == 406 && text.contains("versioned_v2 was removed"), "{code} {text}");
        assert_eq!(a.version().await, 1);
    });
}

#[test]
fn a_tenants_file_shadows_a_global_type_under_its_bindings_and_gives_it_back() {
    let tenants = Tenants::with("");
    tenants.serve("", "versioned_v1");
    on(&tenants, async |tenants| {
        let a = Versioned::declare(tenants, "a").await;
        let b = Versioned::declare(tenants, "b").await;
        assert_eq!((a.version().await, b.version().await), (1, 1));
        let line = tenants.serve("a", "versioned_v2");
        assert!(line.contains("exchanges=1 bindings=2"), "those of the other are not asked: {line}");
        assert_eq!((a.version().await, b.version().await), (2, 1));
        let line = tenants.remove("a", "versioned_v2");
        assert!(line.contains("exchanges=0 handed_back=1"), "{line}");
        assert_eq!((a.version().await, b.version().await), (1, 1));
        // Without the global one, who has its own goes on.
        tenants.serve("a", "versioned_v2");
        tenants.remove("", "versioned_v1");
        assert_eq!(a.version().await, 2);
        assert!(b.refusal().await.1.contains("versioned_v1 was removed"));
    });
}

#[test]
fn a_tenant_has_what_it_is_allowed_and_what_is_switched_on() {
    let tenants = Tenants::with(
        "[vhost.a]\nallow = [\"example_02_exchange_type\"]\n\
         [vhost.b.plugins.example_02_exchange_type]\nenabled = false\n",
    );
    for guest in ["versioned_v1", "example_02_exchange_type"] {
        tenants.serve("", guest);
    }
    on(&tenants, async |tenants| {
        let (code, text) = declare_refused(tenants, "a", "x-versioned").await;
        assert_eq!(code, 406);
        assert!(text.contains("unknown exchange type 'x-versioned' in vhost 'a'"), "{text}");
        assert!(text.contains("'versioned_v1' is not allowed there"), "{text}");
        let (code, text) = declare_refused(tenants, "b", "x-longest-prefix").await;
        assert!(code == 406 && text.contains("example_02_exchange_type is switched off"), "{code} {text}");
        assert_eq!(Versioned::declare(tenants, "b").await.version().await, 1);
        let a = tenants.connect("a").await;
        let channel = confirming(&a).await;
        for kind in ["x-longest-prefix", "topic"] {
            own_exchange(&channel, kind).await;
        }
        // What it may not use of others it may have of its own.
        tenants.serve("a", "versioned_v2");
        assert_eq!(Versioned::declare(tenants, "a").await.version().await, 2);
    });
}

#[test]
fn a_plugin_above_its_tenants_ceiling_is_refused_there() {
    let tenants = Tenants::with("[vhost.a]\nceilings = { memory-mib = 1 }\n");
    let line = tenants.put("a", "versioned_v1", "big.wasm", log_lines::PLUGIN_REFUSED);
    for said in ["stage=policy", "plugin 'big' in vhost 'a'", "memory-mib = 1"] {
        assert!(line.contains(said), "{said} is not in: {line}");
    }
    tenants.serve("b", "versioned_v1");
}

#[test]
fn a_limit_above_the_ceiling_is_refused_at_the_start_with_its_line() {
    let scratch = ScratchDirectory::new("ceiling");
    let file = scratch.path().join("leveret.toml");
    let text = "vhosts = [\"a\"]\n[vhost.a]\nceilings = { memory-mib = 128 }\n\
                [vhost.a.plugins.\"rate-limit\"]\nmemory-mib = 256\n";
    fs::write(&file, text).unwrap();
    let mut broker = Command::new(env!("CARGO_BIN_EXE_leveret"));
    broker.arg("--config").arg(&file).arg("--data-dir").arg(scratch.path().join("data"));
    let ended = process::run(&mut broker, EVENT_WAIT_MAX).unwrap();
    assert!(!ended.status.success());
    for said in ["leveret.toml", "line 5", "'rate-limit'", "vhost 'a'", "256", "128"] {
        assert!(ended.stderr.contains(said), "{said} is not in: {}", ended.stderr);
    }
}

#[test]
fn a_folder_that_others_may_write_to_is_not_looked_into() {
    let tenants = Tenants::with("");
    let (folder, before) = (tenants.folder("a"), tenants.broker.log_length());
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let line = tenants.broker.wait_for_log_after(before, "no plugins are taken", EVENT_WAIT_MAX);
    assert!(line.contains("vhosts/a/plugins") && line.contains("(mode 777)"), "{line}");
    fs::copy(guests::component("versioned_v1"), folder.join("one.wasm")).unwrap();
    // One in another folder is taken; so this one was seen, and left alone.
    tenants.serve("b", "versioned_v2");
    assert!(!tenants.broker.log().contains("one.wasm"), "{}", tenants.broker.log());
    let before = tenants.broker.log_length();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let line = tenants.broker.wait_for_log_after(before, log_lines::PLUGIN_SERVES, EVENT_WAIT_MAX);
    assert!(line.contains("one.wasm"), "{line}");
}
