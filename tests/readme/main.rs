//! Runs every command of the README, in its order, as a newcomer would: the release build under a
//! time limit, the broker, the first message, the first plugin, hot deploy, the load generator.
//!
//! What is changed for the test: the broker takes free ports and a folder of its own (by the
//! environment), and the folder's name in commands follows.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use leveret_testkit::{ScratchDirectory, process, target_directory, workspace};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

/// A release build from nothing, on a slow machine.
const BUILD_MAX: Duration = Duration::from_secs(1800);
/// Any other command.
const COMMAND_MAX: Duration = Duration::from_secs(600);
/// A line of the log.
const LOG_LINE_MAX: Duration = Duration::from_secs(30);
/// The one that is not run here: it is what runs this test.
const TEST_COMMAND: &str = "cargo test --workspace";

/// The blocks of a language in the README.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match &mut block {
            Some(lines) if line == "```" => {
                blocks.push(std::mem::take(lines));
                block = None;
            }
            Some(lines) => {
                lines.push_str(line);
                lines.push('\n');
            }
            None => block = (line.strip_prefix("```") == Some(language)).then(String::new),
        }
    }
    blocks
}

/// A broker started by the README's command.
struct Running {
    broker: Child,
    log: Receiver<String>,
}

impl Running {
    fn start(command: &str, data: &str) -> Self {
        let mut broker = shell(command)
            .env("LEVERET_LISTEN", "127.0.0.1:0")
            .env("LEVERET_HTTP_LISTEN", "127.0.0.1:0")
            .env("LEVERET_DATA_DIR", data)
            .stderr(Stdio::piped())
            .spawn()
            .expect("bash runs");
        let lines = BufReader::new(broker.stderr.take().expect("a pipe")).lines();
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test may have seen enough.
                let _ = sender.send(line);
            }
        });
        Self { broker, log }
    }

    fn wait_for(&self, pattern: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(LOG_LINE_MAX) {
                Ok(line) if line.contains(pattern) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with {pattern:?} in the log:\n{}", seen.join("\n")),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.broker.id().to_string();
        // If it is gone already, there is nothing to stop.
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.broker.wait();
    }
}

/// `exec`, so that what is started is what is stopped.
fn shell(command: &str) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("exec {command}")]).current_dir(workspace());
    for (name, _) in std::env::vars() {
        if name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
            || name.starts_with("CARGO_BIN_")
        {
            shell.env_remove(name);
        }
    }
    shell
}

fn run(command: &str, address: &str, data: &str, limit: Duration) -> String {
    let mut shell = shell(command);
    shell.env("AMQP_URL", format!("amqp://guest:guest@{address}/%2f")).env("LEVERET_BENCH_ADDRESS", address);
    shell.env("LEVERET_DATA_DIR", data);
    let finished = process::run(&mut shell, limit).expect("bash is there");
    assert!(finished.status.success(), "{command}\n{}", finished.report());
    finished.stdout
}

#[test]
fn every_command_of_the_readme_works() {
    let text = fs::read_to_string(workspace().join("README.md")).expect("the README is there");
    let outputs = blocks(&text, "text");
    let commands: Vec<String> = blocks(&text, "sh").iter().map(|command| command.trim().to_owned()).collect();
    let scratch = ScratchDirectory::new("readme");
    let data = scratch.path().join("data").display().to_string();
    let target = target_directory().display().to_string();

    let mut commands = commands.iter();
    let start = commands.next().expect("the first command starts the broker");
    assert_eq!(start, "cargo run --release");
    run("cargo build --release", "", &data, BUILD_MAX);
    let broker = Running::start(start, &data);
    let listening = broker.wait_for("listening on ");
    let address =
        listening.split("listening on ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");

    let mut ran = 1;
    for command in commands {
        ran += 1;
        if command == TEST_COMMAND {
            let ci = fs::read_to_string(workspace().join(".ci/run")).expect("what CI runs");
            assert!(ci.contains("\ncargo test --locked --workspace\n"), "CI runs the README's command");
            continue;
        }
        let here =
            command.replace("leveret-data/", &format!("{data}/")).replace(" target/", &format!(" {target}/"));
        let output = run(&here, address, &data, COMMAND_MAX);
        match command.as_str() {
            hello if hello.ends_with("example-01-hello") => assert_eq!(Some(&output), outputs.first()),
            copy if copy.starts_with("cp ") => {
                let line = broker.wait_for("the plugin serves");
                let promised = outputs.get(1).expect("the README shows the line");
                for word in ["the plugin serves", "x-longest-prefix", "exchanges=0"] {
                    assert!(line.contains(word) && promised.contains(word), "{word}: {line}");
                }
            }
            list if list.ends_with("plugin list") => {
                let line = output.lines().find(|line| line.starts_with("x-longest-prefix"));
                assert!(line.is_some_and(|line| line.contains("serving")), "{output}");
            }
            check if check.contains("plugin check ") => {
                let promised = outputs.iter().find(|shown| shown.starts_with("read ")).expect("it is shown");
                let stages = |text: &str| -> Vec<String> {
                    let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
                    text.lines().map(first).collect()
                };
                assert_eq!(stages(&output), stages(promised), "{output}");
            }
            test if test.contains("plugin test ") => assert_eq!(output, "3 cases, 0 failed\n"),
            bench if bench.contains("plugin bench ") => {
                assert!(output.lines().any(|line| line.starts_with("remembered ")), "{output}");
            }
            bench if bench.contains("bench") => {
                let report: serde_json::Value = serde_json::from_str(&output).expect("a line of JSON");
                assert!(report["consumed_per_second"].as_u64() > Some(0), "{output}");
            }
            deploy if deploy.contains("hot-deploy") => {
                assert!(output.contains("each exactly once and in order"), "{output}");
                assert!(output.contains("the plugin was not taken"), "{output}");
            }
            _ => {}
        }
    }
    assert!(ran >= 8, "only {ran} commands were found in the README");
}
