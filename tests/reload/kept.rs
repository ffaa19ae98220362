//! What outlives the broker's process: compiled code, versions that served, and the choice to go
//! back to one of them.

use super::deploy::{Way, deploy};
use super::rollback::plugin;
use super::session::*;
use super::works::lasting_exchange;
use lapin::types::FieldTable;
use leveret_plugin::{CompileIn, CompileLimits, Host, HostConfig, Scope, registry::TypeState};
use leveret_server::watch::PluginWatcher;
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, log_lines};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// A broker that was stopped after version 1 had served.
fn served_version_1() -> leveret_testkit::broker::Stopped {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
    broker.stop_for_a_while()
}

/// That the type is there and version 1 routes.
fn version_1_routes(broker: &Broker) {
    on_broker(broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-versioned").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "k.v1", FieldTable::default()).await;
        assert!(publish(&channel, &exchange, "k", b"x", true).await.unwrap().take_message().is_none());
        assert_eq!(drain(&channel, &queue).await, [b"x"]);
    });
}

#[test]
fn a_file_broken_while_the_broker_was_down_leaves_the_last_good_version() {
    let whole = fs::read(guests::component("versioned_v2")).unwrap();
    for broken in [b"no component".as_slice(), &whole[..whole.len() / 2]] {
        let stopped = served_version_1();
        fs::write(stopped.plugins_directory().join("versioned.wasm"), broken).unwrap();
        let broker = stopped.start();
        let refused = broker.wait_for_log(log_lines::PLUGIN_REFUSED, EVENT_WAIT_MAX);
        assert!(refused.contains("stage=read"), "{refused}");
        let line = broker.wait_for_log(log_lines::PLUGIN_FELL_BACK, EVENT_WAIT_MAX);
        assert!(line.contains("WARN") && line.contains("versioned.wasm"), "{line}");
        version_1_routes(&broker);
        // A whole file takes over as ever.
        deploy(&broker, Way::Renamed, "versioned_v2", "versioned.wasm");
    }
}

/// Exchanges of its type that were declared before are taken by the version that served last, whatever is wrong with the
/// file; and so they are where the file is of a plugin that has not their type.
#[test]
fn exchanges_from_before_are_served_by_the_last_good_version_where_the_file_is_refused() {
    let whole = fs::read(guests::component("versioned_v2")).unwrap();
    let other = fs::read(guests::component("once")).unwrap();
    for (broken, stage) in [(&whole[..whole.len() / 2], "read"), (&other, "swap")] {
        let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
        deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
        let mut exchange = None;
        on_broker(&broker, async |broker| {
            let channel = confirming(&connect(broker).await).await;
            exchange = Some(lasting_exchange(&channel, "x-versioned").await);
        });
        let exchange = exchange.unwrap();
        let stopped = broker.kill_for_a_while();
        fs::write(stopped.plugins_directory().join("versioned.wasm"), broken).unwrap();
        // Small files are looked at before it listens.
        let broker = stopped.start();
        let log = broker.log();
        let refused = log.lines().find(|line| line.contains(log_lines::PLUGIN_REFUSED));
        assert!(refused.is_some_and(|line| line.contains(&format!("stage={stage}"))), "{log}");
        assert!(log.contains(log_lines::PLUGIN_FELL_BACK), "{log}");
        on_broker(&broker, async |broker| {
            let channel = confirming(&connect(broker).await).await;
            let queue = own_queue(&channel).await;
            bind(&channel, &queue, &exchange, "k.v1", FieldTable::default()).await;
            assert!(publish(&channel, &exchange, "k", b"x", true).await.unwrap().take_message().is_none());
            assert_eq!(drain(&channel, &queue).await, [b"x"]);
        });
    }
}

/// The files with code in the cache.
fn cached_code(data: &Path) -> Vec<std::path::PathBuf> {
    let files = fs::read_dir(data.join("cache/plugins")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "code")).collect()
}

#[test]
fn code_from_the_cache_is_taken_unless_somebody_changed_it() {
    let stopped = served_version_1();
    let [code] = &cached_code(&stopped.data_directory())[..] else { panic!("one file was compiled") };
    let good = fs::read(code).unwrap();
    let broker = stopped.start();
    assert!(!broker.log().contains(log_lines::CACHE_IGNORED));
    version_1_routes(&broker);

    let stopped = broker.stop_for_a_while();
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    fs::write(code, changed).unwrap();
    let broker = stopped.start();
    broker.wait_for_log(log_lines::CACHE_IGNORED, EVENT_WAIT_MAX);
    version_1_routes(&broker);

    // Replaced, and by the same code. Then with a key that did not make it.
    let stopped = broker.stop_for_a_while();
    assert_eq!(fs::read(code).unwrap().len(), good.len());
    fs::write(stopped.data_directory().join("cache/plugins/key"), [7; 32]).unwrap();
    let broker = stopped.start();
    broker.wait_for_log(log_lines::CACHE_IGNORED, EVENT_WAIT_MAX);
    version_1_routes(&broker);
}

/// The plugin host and its watcher, as the broker starts them.
fn watching(directory: &Path) -> (Arc<Host>, PluginWatcher) {
    let limits = CompileLimits::default();
    let host = Host::new(HostConfig {
        compile_in: CompileIn::Child { executable: env!("CARGO_BIN_EXE_leveret").into(), limits },
        cache_dir: Some(directory.join("cache")),
        kept_dir: Some(directory.join("kept")),
        ..HostConfig::default()
    })
    .unwrap();
    let watcher = PluginWatcher::start(&[(Scope::Global, directory.join("plugins"))], &host).unwrap();
    (host, watcher)
}

/// The digest of what serves, in short.
fn serving(host: &Host) -> Option<String> {
    let types = host.registry().types();
    types.into_iter().find(|t| t.name.as_bytes() == b"x-versioned").and_then(|t| match t.state {
        TypeState::Serving { digest, .. } => Some(digest.to_string()),
        TypeState::Parked { .. } => None,
    })
}

fn wait_until_serving(host: &Host, digest: Option<&String>) {
    let began = Instant::now();
    while serving(host).as_ref() != digest {
        assert!(began.elapsed() < EVENT_WAIT_MAX, "{:?} serves", serving(host));
        std::thread::yield_now();
    }
}

#[test]
fn going_back_holds_against_the_file_in_the_folder_and_over_a_restart() {
    let scratch = ScratchDirectory::new("kept");
    let file = scratch.path().join("plugins/versioned.wasm");
    fs::create_dir(scratch.path().join("plugins")).unwrap();
    let put = |guest: &str| {
        let bytes = fs::read(guests::component(guest)).unwrap();
        let aside = scratch.path().join("written-aside");
        fs::write(&aside, &bytes).unwrap();
        fs::rename(aside, &file).unwrap();
        leveret_plugin::Digest::of(&bytes).to_string()
    };
    let (host, watcher) = watching(scratch.path());
    let first = put("versioned_v1");
    wait_until_serving(&host, Some(&first));
    let second = put("versioned_v2");
    wait_until_serving(&host, Some(&second));
    host.registry().rollback(&Scope::Global, "versioned").unwrap();
    assert_eq!(serving(&host), Some(first.clone()));
    drop((host, watcher));

    // The folder still holds version 2; what is there at the start has been looked at by now.
    let (host, watcher) = watching(scratch.path());
    assert_eq!(serving(&host), Some(first));
    // Taken away and put back, it is wanted.
    fs::remove_file(&file).unwrap();
    wait_until_serving(&host, None);
    put("versioned_v2");
    wait_until_serving(&host, Some(&second));
    drop((host, watcher));
}

/// `x-versioned` by version 1 and 2, and which of them an exchange has that is declared by that name.
async fn routes_by(channel: &lapin::Channel, exchange: &str) -> u32 {
    let kind = lapin::ExchangeKind::Custom("x-versioned".into());
    let options = lapin::options::ExchangeDeclareOptions::default();
    channel.exchange_declare(exchange.into(), kind, options, FieldTable::default()).await.unwrap();
    let queues = [own_queue(channel).await, own_queue(channel).await];
    for (queue, key) in queues.iter().zip(["k.v1", "k.v2"]) {
        bind(channel, queue, &exchange.into(), key, FieldTable::default()).await;
    }
    assert!(publish(channel, &exchange.into(), "k", b"x", true).await.unwrap().take_message().is_none());
    match [drain(channel, &queues[0]).await.len(), drain(channel, &queues[1]).await.len()] {
        [1, 0] => 1,
        [0, 1] => 2,
        other => panic!("neither version routes so: {other:?}"),
    }
}

#[test]
fn what_is_pinned_and_switched_off_is_so_after_a_restart() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
    let prefix = "example_02_exchange_type";
    deploy(&broker, Way::Renamed, prefix, "prefix.wasm");
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        assert_eq!(routes_by(&channel, "stays").await, 1);
    });
    let data = broker.data_directory();
    let done = |arguments: &[&str]| {
        let finished = plugin(arguments, &data);
        assert!(finished.status.success(), "{}", finished.report());
        assert!(!finished.stderr.contains("warning"), "{}", finished.report());
        finished.stdout
    };
    done(&["pin", "stays", "1.0.0"]);
    done(&["disable", "prefix"]);
    deploy(&broker, Way::Renamed, "versioned_v2", "versioned.wasm");
    let file = data.join("plugins-kept/decisions.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("exchange = \"stays\"") && text.contains("plugin = \"prefix\""), "{text}");

    let broker = broker.stop_for_a_while().start();
    assert!(done(&["pins"]).contains("it is not declared now"));
    on_broker(&broker, async |broker| {
        let channel = confirming(&connect(broker).await).await;
        assert_eq!((routes_by(&channel, "stays").await, routes_by(&channel, "moves").await), (1, 2));
        let error = declare_exchange(&channel, &"p".into(), "x-longest-prefix").await.unwrap_err();
        assert!(refusal(&error).1.contains("prefix is switched off"));
    });
    assert!(done(&["pins"]).contains("the others are on another version"));
    done(&["enable", "prefix"]);
    done(&["unpin", "stays"]);
    assert!(!fs::read_to_string(&file).unwrap().contains("[["), "nothing is decided any more");
}

#[test]
fn a_broken_file_of_decisions_is_told_and_left_and_the_broker_serves() {
    let stopped = served_version_1();
    let file = stopped.data_directory().join("plugins-kept/decisions.toml");
    fs::write(&file, "format = 7\n").unwrap();
    let broker = stopped.start();
    let line = broker.wait_for_log("switches and pins from before the start do not hold", EVENT_WAIT_MAX);
    assert!(
        line.contains("ERROR") && line.contains("has format 7") && line.contains("move it away"),
        "{line}"
    );
    version_1_routes(&broker);
    let data = broker.data_directory();
    let shown = plugin(&["list"], &data);
    assert!(
        shown.stdout.contains("decisions.toml") && shown.stdout.contains("has format 7"),
        "{}",
        shown.report()
    );
    // A switch acts, and says that it will not last.
    let switched = plugin(&["disable", "versioned"], &data);
    assert!(switched.status.success() && switched.stderr.contains("is not kept"), "{}", switched.report());
    assert_eq!(fs::read_to_string(&file).unwrap(), "format = 7\n");
    fs::remove_file(&file).unwrap();
    let switched = plugin(&["enable", "versioned"], &data);
    assert!(switched.stderr.is_empty(), "{}", switched.report());
    assert!(!plugin(&["list"], &data).stdout.contains("decisions.toml"));
}
