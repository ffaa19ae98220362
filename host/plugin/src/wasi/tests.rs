//! The empty room as a guest finds it. The guests are components in text form, small
//! enough to be read here; a plugin in a real language is a test of the whole broker.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use wasmtime::component::{Component, Instance, Linker};
use wasmtime::{Config, Engine, Store};

use super::functions::{RANDOM_BYTES_MAX, WRITE_BYTES_MAX};
use super::*;
use crate::policy::Policies;
use crate::scope::Scope;

struct State(WasiState);

impl HasWasi for State {
    fn wasi(&mut self) -> &mut WasiState {
        &mut self.0
    }
}

/// The interfaces that the guests import, in the version `version`.
fn imports(version: &str) -> String {
    format!(
        r#"
        (import "wasi:io/poll@{version}" (instance $poll
            (export "pollable" (type $pollable (sub resource)))
            (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
        (import "wasi:io/error@{version}" (instance $error (export "error" (type (sub resource)))))
        (alias export $error "error" (type $error-type))
        (import "wasi:io/streams@{version}" (instance $streams
            (export "output-stream" (type $output (sub resource)))
            (alias outer 1 $error-type (type $outer-error))
            (export "error" (type $error (eq $outer-error)))
            (type $stream-error-type (variant (case "last-operation-failed" (own $error)) (case "closed")))
            (export "stream-error" (type $stream-error (eq $stream-error-type)))
            (export "[method]output-stream.blocking-write-and-flush" (func
                (param "self" (borrow $output)) (param "contents" (list u8))
                (result (result (error $stream-error)))))))
        (alias export $streams "output-stream" (type $output-stream))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:cli/stdout@{version}" (instance $stdout
            (alias outer 1 $output-stream (type $outer))
            (export "output-stream" (type $output (eq $outer)))
            (export "get-stdout" (func (result (own $output))))))
        (import "wasi:cli/exit@{version}" (instance $exit
            (export "exit" (func (param "status" (result))))))
        (import "wasi:clocks/monotonic-clock@{version}" (instance $clock
            (alias outer 1 $pollable (type $outer))
            (export "pollable" (type $pollable (eq $outer)))
            (export "now" (func (result u64)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
        (import "wasi:random/random@{version}" (instance $random
            (export "get-random-bytes" (func (param "len" u64) (result (list u8))))
            (export "get-random-u64" (func (result u64)))))
        (import "wasi:filesystem/types@{version}" (instance $files
            (export "descriptor" (type $descriptor (sub resource)))
            (export "filesystem-of" (func (result u32)))))
        "#
    )
}

/// A guest with those imports, each of its functions lowered under its own name in the
/// core module `""`, and `run: func(n: u64) -> u64` with the given body.
fn guest(version: &str, body: &str) -> String {
    let imports = imports(version);
    format!(
        r#"(component
        {imports}
        (core module $libc
            (memory (export "memory") 4)
            (global $next (mut i32) (i32.const 131072))
            ;; Never gives back: each guest here makes few lists.
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                global.get $next
                (global.set $next (i32.add (global.get $next) (local.get 3)))))
        (core instance $libc (instantiate $libc))
        (alias core export $libc "memory" (core memory $memory))
        (alias core export $libc "realloc" (core func $realloc))
        (core func $poll (canon lower (func $poll "poll") (memory $memory) (realloc $realloc)))
        (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
        (core func $get-stdout (canon lower (func $stdout "get-stdout")))
        (core func $exit (canon lower (func $exit "exit")))
        (core func $now (canon lower (func $clock "now")))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core func $random-bytes (canon lower (func $random "get-random-bytes") (memory $memory) (realloc $realloc)))
        (core func $random (canon lower (func $random "get-random-u64")))
        (core func $open (canon lower (func $files "filesystem-of")))
        (core func $drop-output (canon resource.drop $output-stream))
        (core module $main
            (import "" "memory" (memory 4))
            (import "" "poll" (func $poll (param i32 i32 i32)))
            (import "" "write" (func $write (param i32 i32 i32 i32)))
            (import "" "get-stdout" (func $get-stdout (result i32)))
            (import "" "exit" (func $exit (param i32)))
            (import "" "now" (func $now (result i64)))
            (import "" "subscribe" (func $subscribe (param i64) (result i32)))
            (import "" "random-bytes" (func $random-bytes (param i64 i32)))
            (import "" "random" (func $random (result i64)))
            (import "" "open" (func $open (result i32)))
            (import "" "drop-output" (func $drop-output (param i32)))
            (func (export "run") (param $n i64) (result i64) {body}))
        (core instance $main (instantiate $main (with "" (instance
            (export "memory" (memory $memory))
            (export "poll" (func $poll))
            (export "write" (func $write))
            (export "get-stdout" (func $get-stdout))
            (export "exit" (func $exit))
            (export "now" (func $now))
            (export "subscribe" (func $subscribe))
            (export "random-bytes" (func $random-bytes))
            (export "random" (func $random))
            (export "open" (func $open))
            (export "drop-output" (func $drop-output))))))
        (func (export "run") (param "n" u64) (result u64) (canon lift (core func $main "run"))))"#
    )
}

fn engine() -> Engine {
    let mut config = Config::new();
    config.concurrency_support(false);
    Engine::new(&config).unwrap()
}

fn instance(text: &str, digest: [u8; 32]) -> wasmtime::Result<(Store<State>, Instance)> {
    let engine = engine();
    let component = Component::new(&engine, wat::parse_str(text).unwrap())?;
    let mut linker = Linker::new(&engine);
    link(&mut linker, &component)?;
    let policy = Policies::default().of(&Scope::Global, None, "the plugin");
    let mut store = Store::new(&engine, State(WasiState::new(&policy, digest)));
    let instance = linker.instantiate(&mut store, &component)?;
    Ok((store, instance))
}

/// What `run(n)` returns for each `n` in turn, of one instance.
fn run(body: &str, digest: [u8; 32], arguments: &[u64]) -> wasmtime::Result<Vec<u64>> {
    let (mut store, instance) = instance(&guest("0.2.3", body), digest)?;
    let function = instance.get_typed_func::<(u64,), (u64,)>(&mut store, "run")?;
    arguments.iter().map(|n| Ok(function.call(&mut store, (*n,))?.0)).collect()
}

fn trap(body: &str, argument: u64) -> wasmtime::Error {
    run(body, [0; 32], &[argument]).unwrap_err()
}

#[test]
fn only_interfaces_of_wasi_0_2_are_wasi() {
    for name in
        ["wasi:cli/stdout@0.2.0", "wasi:http/types@0.2.10", "wasi:io/poll@0.2", "wasi:x/y@0.2.0-draft"]
    {
        assert!(is_wasi(name), "{name}");
    }
    for name in [
        "wasi:cli/stdout@0.3.0",
        "wasi:cli/stdout@0.20.0",
        "wasi:cli/stdout",
        "wasi_snapshot_preview1",
        "leveret:routing/types@0.1.0",
        "",
    ] {
        assert!(!is_wasi(name), "{name}");
    }
}

#[test]
fn every_version_links_and_several_at_once() {
    for version in ["0.2.0", "0.2.6", "0.2.99"] {
        instance(&guest(version, "(call $now)"), [0; 32]).unwrap();
    }
    let mut both = String::from("(component ");
    for version in ["0.2.0", "0.2.12"] {
        let _ = write!(
            both,
            r#"(import "wasi:random/random@{version}" (instance
                (export "get-random-u64" (func (result u64)))
                (export "get-random-never-heard-of" (func))))"#
        );
    }
    instance(&(both + ")"), [0; 32]).unwrap();
}

#[test]
fn random_numbers_follow_from_the_digest() {
    let draw = |digest| run("(call $random)", digest, &[0; 8]).unwrap();
    assert_eq!(draw([1; 32]), draw([1; 32]));
    assert_ne!(draw([1; 32]), draw([2; 32]));
    let mut distinct = draw([1; 32]);
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 8);
}

#[test]
fn random_bytes_are_the_stream_up_to_a_limit() {
    // The list's first eight bytes, or its length where they would not be there.
    let body = "(call $random-bytes (local.get $n) (i32.const 0))
        (if (result i64) (i64.lt_u (local.get $n) (i64.const 8))
            (then (i64.load32_u (i32.const 4)))
            (else (i64.load (i32.load (i32.const 0)))))";
    let first = run("(call $random)", [1; 32], &[0]).unwrap();
    assert_eq!(run(body, [1; 32], &[8]).unwrap(), first);
    assert_eq!(run(body, [1; 32], &[5, 0]).unwrap(), [5, 0]);
    run(body, [1; 32], &[RANDOM_BYTES_MAX]).unwrap();
    for length_bytes in [RANDOM_BYTES_MAX + 1, u64::MAX] {
        let trap = trap(body, length_bytes);
        assert_eq!(
            trap.downcast_ref::<WasiTrap>().unwrap(),
            &WasiTrap::TooLong {
                import: "wasi:random/random@0.2.3#get-random-bytes".into(),
                length_bytes,
                length_bytes_max: RANDOM_BYTES_MAX
            }
        );
    }
}

#[test]
fn clocks_stand_still_and_waiting_ends_at_once() {
    assert_eq!(run("(call $now)", [0; 32], &[0, 0]).unwrap(), [0, 0]);
    // Waits for an hour three times over; both ready positions and their number.
    let body = "(i32.store (i32.const 64) (call $subscribe (i64.const 3600000000000)))
        (i32.store (i32.const 68) (call $subscribe (i64.const 3600000000000)))
        (call $poll (i32.const 64) (i32.const 2) (i32.const 0))
        (i64.add
            (i64.mul (i64.const 100) (i64.load32_u (i32.const 4)))
            (i64.load32_u offset=4 (i32.load (i32.const 0))))";
    assert_eq!(run(body, [0; 32], &[0, 0]).unwrap(), [201, 201]);
}

#[test]
fn polling_nothing_is_a_trap() {
    let trap = trap("(call $poll (i32.const 64) (i32.const 0) (i32.const 0)) (i64.const 0)", 0);
    assert_eq!(
        trap.downcast_ref::<WasiTrap>().unwrap(),
        &WasiTrap::Malformed { import: "wasi:io/poll@0.2.3#poll".into() }
    );
}

#[test]
fn exit_is_a_trap_with_its_status() {
    let body = "(call $exit (i32.wrap_i64 (local.get $n))) (i64.const 0)";
    for status in [0, 1] {
        let import = "wasi:cli/exit@0.2.3#exit".into();
        assert_eq!(
            trap(body, status.into()).downcast_ref::<WasiTrap>().unwrap(),
            &WasiTrap::Exited { import, status }
        );
    }
}

#[test]
fn what_is_not_provided_is_named() {
    let trap = trap("(drop (call $open)) (i64.const 0)", 0);
    assert_eq!(
        trap.downcast_ref::<WasiTrap>().unwrap().to_string(),
        "the plugin called wasi:filesystem/types@0.2.3#filesystem-of, which the broker does not provide"
    );
}

#[test]
fn a_known_name_with_another_type_is_a_trap() {
    for (interface, function) in [
        ("random/random", "get-random-bytes"),
        ("random/random", "get-random-u64"),
        ("random/insecure-seed", "insecure-seed"),
        ("io/poll", "poll"),
        ("cli/exit", "exit"),
        ("cli/stdout", "get-stdout"),
        ("cli/environment", "get-environment"),
        ("clocks/wall-clock", "now"),
    ] {
        let text = format!(
            r#"(component
            (import "wasi:{interface}@0.2.0" (instance $i
                (export "{function}" (func (param "n" u32) (result u32)))))
            (core func $f (canon lower (func $i "{function}")))
            (core module $m
                (import "" "f" (func $f (param i32) (result i32)))
                (func (export "run") (result i32) (call $f (i32.const 1))))
            (core instance $m (instantiate $m (with "" (instance (export "f" (func $f))))))
            (func (export "run") (result u32) (canon lift (core func $m "run"))))"#
        );
        let (mut store, instance) = instance(&text, [0; 32]).unwrap();
        let run = instance.get_typed_func::<(), (u32,)>(&mut store, "run").unwrap();
        assert!(run.call(&mut store, ()).is_err(), "{interface} {function}");
    }
}

#[test]
fn handles_given_back_leave_nothing_behind_and_hoarded_ones_are_limited() {
    let take = |then: &str| {
        format!(
            "(loop $again
                (call $get-stdout) {then}
                (br_if $again (i64.ne (i64.const 0)
                    (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))
            (i64.const 0)"
        )
    };
    // Ten times what a store may hold at once.
    run(&take("(call $drop-output)"), [0; 32], &[1_000_000]).unwrap();
    let trap = trap(&take("(drop)"), 1_000_000);
    assert!(trap.root_cause().to_string().contains("handle limit"), "{trap:#}");
}

#[test]
fn a_list_longer_than_a_write_may_be_is_a_trap() {
    let body =
        "(call $write (call $get-stdout) (i32.const 0) (i32.wrap_i64 (local.get $n)) (i32.const 65536))
        (i64.load8_u (i32.const 65536))";
    assert_eq!(run(body, [0; 32], &[WRITE_BYTES_MAX]).unwrap(), [0]);
    let trap = trap(body, WRITE_BYTES_MAX + 1);
    assert!(matches!(trap.downcast_ref::<WasiTrap>(), Some(WasiTrap::TooLong { .. })), "{trap:#}");
}

#[test]
fn what_is_printed_reaches_the_log_under_the_plugins_name() {
    let log = |body, argument| {
        let lines = Arc::new(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(Recorder(lines.clone()), || {
            run(body, [0; 32], &[argument]).unwrap();
        });
        lines.lock().unwrap().clone()
    };
    let line = |text: &str| format!("leveret::plugin::output INFO {text} plugin=the plugin stream=stdout ");

    // "go", "\ngo", and the last of them is logged when the instance goes.
    let body = "(i32.store (i32.const 0) (i32.const 0x6f670a))
        (call $write (call $get-stdout) (i32.const 1) (i32.const 2) (i32.const 65536))
        (call $write (call $get-stdout) (i32.const 0) (i32.const 3) (i32.const 65536))
        (i64.const 0)";
    assert_eq!(log(body, 0), [line("go"), line("go")]);

    // `n` empty lines in one write.
    let body = "(memory.fill (i32.const 0) (i32.const 10) (i32.wrap_i64 (local.get $n)))
        (call $write (call $get-stdout) (i32.const 0) (i32.wrap_i64 (local.get $n)) (i32.const 65536))
        (i64.const 0)";
    let logged = log(body, 30);
    assert_eq!(logged.len(), 21);
    assert_eq!(logged[..20], vec![line(""); 20]);
    assert!(logged[20].contains("left out") && logged[20].contains("lines=10 "), "{}", logged[20]);
}

/// Keeps each event as one line: target, level, message and fields.
struct Recorder(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Recorder {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        if !event.metadata().target().starts_with("leveret") {
            return;
        }
        let mut line = Text(format!("{} {} ", event.metadata().target(), event.metadata().level()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        let _ = write!(self.0, "{}={value} ", field.name());
    }
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
    }
}
