//! `compare` and `scale` do what they say, and leave nothing behind, however they end. (What they measure is not looked
//! at: these loads are too short to mean anything.)

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use leveret_testkit::{
    Broker, ScratchDirectory, languages,
    process::{self, Finished},
    workspace,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// For a load of a few seconds at most.
const RUN_MAX: Duration = Duration::from_secs(180);
const LEVERET: &str = env!("CARGO_BIN_EXE_leveret");

fn script(name: &str) -> PathBuf {
    workspace().join("tests/bench").join(name)
}

/// A folder for what a script writes, and one in it for what it needs while it runs.
struct Place {
    scratch: ScratchDirectory,
}

impl Place {
    fn new() -> Self {
        let scratch = ScratchDirectory::new("comparison");
        fs::create_dir(scratch.path().join("meanwhile")).unwrap();
        Self { scratch }
    }

    /// Where a script writes what it found.
    fn out(&self) -> PathBuf {
        self.scratch.path().join("out")
    }

    fn written(&self, name: &str) -> String {
        fs::read_to_string(self.out().join(name)).unwrap()
    }

    /// Runs a script with a program that stands for the broker and the generator.
    fn run(&self, name: &str, program: &Path, arguments: &[&str]) -> Finished {
        let mut command = Command::new("python3");
        command.arg("-B").arg(script(name)).arg("--binary").arg(program).arg("--out").arg(self.out());
        command.args(arguments).env("TMPDIR", self.scratch.path().join("meanwhile"));
        let finished = process::run(&mut command, RUN_MAX).unwrap();
        assert_eq!(finished.left, [""; 0], "{name} left something running: {}", finished.report());
        let files = fs::read_dir(self.scratch.path().join("meanwhile")).unwrap().count();
        assert_eq!(files, 0, "{name} left files: {}", finished.report());
        finished
    }

    /// A program that is the broker, but for what it does as the generator.
    fn generator(&self, does: &str) -> PathBuf {
        let program = self.scratch.path().join("program");
        let text = format!("#!/bin/sh\nif [ \"$1\" = bench ]; then\n{does}\nfi\nexec '{LEVERET}' \"$@\"\n");
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }
}

/// A broker for `compare` to compare with, and the arguments that name it.
fn rival() -> (Broker, Vec<String>) {
    let broker = Broker::start(LEVERET);
    let named = ["--rival", &broker.address().to_string(), "--rival-pid", &broker.pid().to_string()];
    let named = named.map(String::from).to_vec();
    (broker, named)
}

#[test]
fn ratios_tables_and_pictures_follow_from_the_readings() {
    if languages::is_there("python3") {
        let mut command = Command::new("python3");
        process::run_successfully(command.arg("-B").arg(script("recorded.py")), RUN_MAX).unwrap();
    }
}

#[test]
fn two_brokers_are_compared() {
    if !languages::is_there("python3") {
        return;
    }
    let (_rival, named) = rival();
    let place = Place::new();
    let mut seconds = 0.5;
    let finished = loop {
        let briefly =
            ["--rounds", "1", "--warm-up", "0.2", "--seconds", &format!("{seconds}")].map(String::from);
        let only =
            ["--only", "^transient 16 B$", "--only", "p50, one in flight, all on one core"].map(String::from);
        let arguments: Vec<&str> = named.iter().chain(&briefly).chain(&only).map(String::as_str).collect();
        let finished = place.run("compare", Path::new(LEVERET), &arguments);
        // On a machine that is so busy that nothing came through in that time, it takes longer.
        if finished.status.success() || !finished.stderr.contains("has no figure") {
            break finished;
        }
        seconds *= 4.0;
        assert!(seconds < RUN_MAX.as_secs_f64() / 4.0, "nothing came through: {}", finished.report());
    };
    assert!(finished.status.success(), "{}", finished.report());
    assert!(finished.stderr.contains("about"), "it says how long it takes: {}", finished.report());
    let table = place.written("compare.md");
    assert!(finished.stdout.contains(&table), "{}", finished.report());
    for row in ["| transient 16 B (/s) |", "| transient 16 B: CPU (s a million) |", "all on one core (µs) |"]
    {
        assert_eq!(table.matches(row).count(), 1, "{row}: {table}");
    }
    assert!(!table.contains("| topic"), "only what was asked for: {table}");
    let whole: serde_json::Value = serde_json::from_str(&place.written("compare.json")).unwrap();
    assert_eq!(whole["rows"].as_array().map(Vec::len), Some(3), "{whole}");
    assert!(place.written("compare.svg").contains("times better than"));
}

#[test]
fn a_curve_is_taken_step_by_step() {
    if !languages::is_there("python3") {
        return;
    }
    let place = Place::new();
    let only = ["--most", "1000", "--only", "queues: to declare", "--only", "queues: memory"];
    let finished = place.run("scale", Path::new(LEVERET), &only);
    assert!(finished.status.success(), "{}", finished.report());
    let table = place.written("scale.md");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, "| | 100 | 1,000 |"), "{table}");
    assert!(lines[2].starts_with("| queues: to declare one (µs) |  | "), "{table}");
    assert!(lines[3].starts_with("| queues: memory of one (bytes) | "), "{table}");
    assert!(place.written("scale.svg").contains("<polyline"));
}

/// Runs both with a generator that does this; neither may say more than a line, and that has `why`.
fn both_say(does: &str, why: &str, code: i32) {
    let (_rival, named) = rival();
    let place = Place::new();
    let program = place.generator(does);
    let mut comparison = vec!["--only", "^transient 16 B$"];
    comparison.extend(named.iter().map(String::as_str));
    for (name, arguments) in [("compare", &comparison[..]), ("scale", &["--only", "consumers of a queue"])] {
        let finished = place.run(name, &program, arguments);
        assert_eq!(finished.status.code(), Some(code), "{}", finished.report());
        assert!(!finished.stderr.contains("Traceback"), "{}", finished.report());
        let last = finished.stderr.lines().last().unwrap_or_default();
        assert!(last.contains(why), "{why}: {}", finished.report());
        assert!(!place.out().exists(), "nothing is written: {}", finished.report());
    }
}

#[test]
fn what_the_generator_says_wrongly_is_told_in_a_line() {
    if !languages::is_there("python3") {
        return;
    }
    both_say("echo '{\"consumed_per_second\": 1'; exit 0", "this is no JSON: '{\"consumed_per_second\"", 1);
    both_say("echo '{\"published_per_second\": 1}'; exit 0", "has no figure '", 1);
    both_say("echo 'no broker there' >&2; exit 3", "no broker there", 1);
}

#[test]
fn a_broker_that_does_not_start_is_told_in_a_line() {
    if !languages::is_there("python3") {
        return;
    }
    let place = Place::new();
    let program = place.generator("exit 0\nfi\necho 'not today'\nexit 7\nif false; then :");
    let (_rival, named) = rival();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    for (name, arguments) in [("compare", &named[..]), ("scale", &[])] {
        let finished = place.run(name, &program, arguments);
        assert_eq!(finished.status.code(), Some(1), "{}", finished.report());
        let last = finished.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("it ended with 7: not today"), "{}", finished.report());
    }
}

/// The generator is in the middle of a load that never ends when whoever runs it is asked to end.
#[test]
fn who_is_ended_in_the_middle_ends_what_it_started() {
    if languages::is_there("python3") {
        both_say("kill -TERM $PPID; exec sleep 100000", "", 128 + 15);
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused_before_anything_is_built() {
    if !languages::is_there("python3") {
        return;
    }
    let cases: [(&str, &[&str], &str); 7] = [
        ("compare", &["--rival", "127.0.0.1:1"], "--rival needs --rival-pid"),
        ("compare", &["--rival", "127.0.0.1:1", "--rival-pid", "-1"], "there is no process -1"),
        ("compare", &["--rounds", "0"], "'0' is not above 0"),
        ("compare", &["--only", "("], "is no regular expression"),
        ("scale", &["--most", "-1"], "'-1' is not above 0"),
        ("scale", &["--only", "nothing of that name"], "--only leaves nothing to measure"),
        ("scale", &["--binary", "/dev/null/leveret"], "there is no program /dev/null/leveret"),
    ];
    for (name, arguments, why) in cases {
        let finished = Place::new().run(name, Path::new(LEVERET), arguments);
        assert!(!finished.status.success(), "{}", finished.report());
        assert!(finished.stderr.lines().last().unwrap_or_default().contains(why), "{}", finished.report());
    }
}
