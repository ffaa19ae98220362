//! Files that are made to cost while they are compiled: the child that compiles them meets its
//! limit, what served before serves on, and nobody else notices.

use super::deploy::{Way, deploy, put};
use super::session::*;
use lapin::Channel;
use lapin::types::{FieldTable, ShortString};
use leveret_plugin::{CompileIn, CompileLimits, Digest, Host, HostConfig, Stage, registry::TypeState};
use leveret_testkit::{Broker, EVENT_WAIT_MAX, ScratchDirectory, guests, log_lines};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One function with so many small branches, all of whose variables mix: the optimising compiler
/// takes seconds and hundreds of megabytes for some hundred kilobytes.
fn compile_bomb(branches: u32) -> Vec<u8> {
    const LOCALS: u32 = 40;
    let mut body = String::new();
    for i in 0..branches {
        let (a, b, c) = (i * 7 % LOCALS, i * 13 % LOCALS, i * 29 % LOCALS);
        let d = (a * 3 + i) % LOCALS;
        write!(
            body,
            "(local.set {d} (i32.add (i32.mul (local.get {a}) (local.get {b})) (local.get {c})))\n\
             (if (local.get {c}) (then (local.set {b} (local.get {a}))))\n"
        )
        .unwrap();
    }
    let locals = "i32 ".repeat(LOCALS as usize);
    wat::parse_str(format!("(component (core module (func (local {locals}) {body})))")).unwrap()
}

/// Takes seconds of CPU time.
const LONG: u32 = 20_000;
/// Takes longer than any test.
const ENDLESS: u32 = 80_000;

fn guest_bytes(name: &str) -> Vec<u8> {
    fs::read(guests::component(name)).unwrap()
}

/// A host that compiles with the broker's own program.
fn host(cache: &Path, limits: CompileLimits) -> Arc<Host> {
    let compile_in = CompileIn::Child { executable: env!("CARGO_BIN_EXE_leveret").into(), limits };
    let cache_dir = Some(cache.to_path_buf());
    Host::new(HostConfig { compile_in, cache_dir, ..HostConfig::default() }).unwrap()
}

/// What serves the type of the versioned guests.
fn serving(host: &Host) -> Option<Digest> {
    let types = host.registry().types();
    types.into_iter().find(|t| t.name.as_bytes() == b"x-versioned").and_then(|t| match t.state {
        TypeState::Serving { digest, .. } => Some(digest),
        TypeState::Parked { .. } => None,
    })
}

#[test]
fn each_limit_of_the_child_has_its_reason() {
    let scratch = ScratchDirectory::new("compile");
    let cache = scratch.path().join("cache");
    let path = Path::new("versioned.wasm");
    let old = guest_bytes("versioned_v1");
    host(&cache, CompileLimits::default()).registry().offer(path, &old).unwrap();
    let all = CompileLimits::default;
    let cases = [
        (CompileLimits { cpu_seconds_max: 1, ..all() }, compile_bomb(LONG), "more than 1 s of CPU time"),
        (
            CompileLimits { memory_bytes_max: 96 << 20, ..all() },
            compile_bomb(LONG),
            "more than 96 MiB of memory",
        ),
        (
            CompileLimits { wall_time_max: Duration::from_millis(20), ..all() },
            compile_bomb(LONG),
            "was not done after 0.02 s",
        ),
        (
            CompileLimits { code_bytes_max: 4096, ..all() },
            guest_bytes("versioned_v2"),
            "machine code has more",
        ),
        (all(), b"\0asm\x0d\0\x01\0\x07\x03\xff\xff\xff".to_vec(), "failed to parse"),
    ];
    for (limits, bytes, reason) in cases {
        let host = host(&cache, limits);
        // From the cache, whatever the limits.
        host.registry().offer(path, &old).unwrap();
        let error = host.registry().offer(path, &bytes).unwrap_err();
        assert_eq!(error.stage, Stage::Compile, "{error}");
        assert!(error.reason.contains(reason), "{error}");
        assert_eq!(serving(&host), Some(Digest::of(&old)));
    }
    let host = host(&cache, all());
    host.registry().offer(path, &guest_bytes("versioned_v2")).unwrap();
    assert_eq!(serving(&host), Some(Digest::of(&guest_bytes("versioned_v2"))));
}

/// The number and the priority of the process that compiles for this broker.
fn compiling_child(broker: &Broker) -> Option<(u32, i32)> {
    let parent = broker.pid().to_string();
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // pid (name) state parent ..., and the niceness is the 19th.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        (fields.get(1)? == &parent).then_some(())?;
        Some((pid, fields.get(16)?.parse().ok()?))
    })
}

/// Waits until the child has taken its limits on.
fn wait_for_child(broker: &Broker) -> u32 {
    let began = Instant::now();
    loop {
        match compiling_child(broker) {
            Some((pid, 19)) => return pid,
            _ => assert!(began.elapsed() < EVENT_WAIT_MAX, "no child compiles"),
        }
        std::thread::yield_now();
    }
}

/// Puts a file into the folder and does not wait for what comes of it.
fn drop_in(broker: &Broker, bytes: &[u8]) {
    let aside = broker.aside().join("written-aside");
    fs::write(&aside, bytes).unwrap();
    fs::rename(aside, broker.plugins_directory().join("versioned.wasm")).unwrap();
}

async fn version_1_routes(channel: &Channel, exchange: &ShortString, queue: &ShortString) {
    assert!(publish(channel, exchange, "k", b"x", true).await.unwrap().take_message().is_none());
    assert_eq!(drain(channel, queue).await, [b"x"]);
}

/// A broker in which version 1 serves an exchange with one queue, while `test` runs.
fn with_version_1(
    broker: Broker,
    test: impl AsyncFnOnce(&Broker, &Channel, &ShortString, &ShortString),
) -> Broker {
    deploy(&broker, Way::Renamed, "versioned_v1", "versioned.wasm");
    on_broker(&broker, async |broker| {
        let connection = connect(broker).await;
        let channel = confirming(&connection).await;
        let exchange = own_exchange(&channel, "x-versioned").await;
        let queue = own_queue(&channel).await;
        bind(&channel, &queue, &exchange, "k.v1", FieldTable::default()).await;
        test(broker, &channel, &exchange, &queue).await;
    });
    broker
}

#[test]
fn a_neighbour_publishes_on_while_a_bomb_compiles() {
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--compile-cpu-seconds=1").start();
    with_version_1(broker, async |broker, channel, exchange, queue| {
        drop_in(broker, &compile_bomb(LONG));
        wait_for_child(broker);
        let mut published = 0;
        while !broker.log().contains(log_lines::PLUGIN_REFUSED) {
            let direct = ShortString::from("");
            assert!(publish(channel, &direct, queue.as_str(), b"beside", true).await.unwrap().is_ack());
            published += 1;
        }
        println!("{published} messages were published one by one while the bomb compiled");
        assert!(published > 0);
        assert_eq!(drain(channel, queue).await.len(), published);
        let line = broker.wait_for_log(log_lines::PLUGIN_REFUSED, EVENT_WAIT_MAX);
        assert!(line.contains("stage=compile") && line.contains("more than 1 s of CPU time"), "{line}");
        version_1_routes(channel, exchange, queue).await;
    });
}

#[test]
fn a_child_that_is_killed_leaves_the_old_version() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    with_version_1(broker, async |broker, channel, exchange, queue| {
        let before = broker.log_length();
        drop_in(broker, &compile_bomb(ENDLESS));
        let child = wait_for_child(broker);
        assert!(
            std::process::Command::new("kill").args(["-9", &child.to_string()]).status().unwrap().success()
        );
        let line = broker.wait_for_log_after(before, log_lines::PLUGIN_REFUSED, EVENT_WAIT_MAX);
        assert!(line.contains("killed by signal 9"), "{line}");
        version_1_routes(channel, exchange, queue).await;
        // And the next file is taken.
        let bytes = guest_bytes("versioned_v2");
        put(broker, Way::Renamed, &bytes, "versioned.wasm", log_lines::PLUGIN_SERVES);
    });
}

#[test]
fn stopping_ends_a_compilation() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    drop_in(&broker, &compile_bomb(ENDLESS));
    let child = wait_for_child(&broker);
    assert!(broker.stop().success());
    assert!(!Path::new(&format!("/proc/{child}")).exists(), "the child is left behind");
}
