//! Clients of other languages, set up by the tests themselves.
//!
//! What is set up lies in `.test-env` below the root of the workspace (one folder a language), never
//! in the user's home, and is made anew when one of the files it follows from has changed: its
//! stamp is a copy of those files. The client programs and their lock files are in `tests/interop`.
//!
//! A language that is not on the machine is skipped with a line that says so. In CI, where the
//! variable `CI` is `true`, it is a failure instead.

use crate::{guests, process};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// For one step of a set-up: it downloads, so it may take a while on a slow line.
const SET_UP_MAX: Duration = Duration::from_secs(300);

/// Below the root of the workspace; ignored by git.
const ENVIRONMENT_DIRECTORY: &str = ".test-env";

/// A language with a client program in `tests/interop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Python with pika, aio-pika, Celery, Qpid Proton and RabbitMQ's client of AMQP 1.0, in a venv.
    Python,
    /// Node with amqplib and rabbitmq-client.
    Node,
    /// Go with amqp091-go.
    Go,
    /// Java with RabbitMQ's client, fetched by Maven.
    Java,
    /// Rust with fe2o3-amqp, in a package of its own. Its other clients run in the tests themselves.
    Fe2o3,
}

/// How far the set-up got: what is missing stops it without an error.
type Step = Result<(), Missing>;

/// A program that is not on this machine.
struct Missing(&'static str);

impl Language {
    /// Sets the language up if that has not been done, and gives the command that runs its client
    /// program: the caller adds the suite's name and the variable `AMQP_URL`.
    ///
    /// `None` when the language is not on this machine. Panics when the set-up fails.
    #[must_use]
    pub fn client(self) -> Option<Command> {
        match self.set_up() {
            Ok(()) => Some(self.command()),
            Err(Missing(program)) => {
                skip(program);
                None
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Go => "go",
            Self::Java => "java",
            Self::Fe2o3 => "fe2o3",
        }
    }

    /// Where the client program and its lock file are.
    fn source(self) -> PathBuf {
        crate::workspace().join("tests/interop").join(self.name())
    }

    /// Where everything goes that the set-up makes.
    fn environment(self) -> PathBuf {
        crate::workspace().join(ENVIRONMENT_DIRECTORY).join(self.name())
    }

    /// The files whose change means a new set-up, relative to [`Language::source`]. For the compiled
    /// languages they include the program.
    fn stamp_files(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["requirements.txt"],
            Self::Node => &["package.json", "package-lock.json", ".npmrc"],
            Self::Go => &["go.mod", "go.sum", "*.go"],
            Self::Java => &["pom.xml", "src/main/java/*.java"],
            Self::Fe2o3 => &["Cargo.toml", "Cargo.lock", "src/*.rs"],
        }
    }

    fn set_up(self) -> Step {
        let environment = self.environment();
        fs::create_dir_all(&environment).expect("a directory for the language");
        let lock = File::create(environment.join("set-up.lock")).expect("a lock file");
        lock.lock().expect("the lock on the set-up");

        let stamp_path = environment.join("stamp");
        let stamp = self.stamp();
        if fs::read(&stamp_path).is_ok_and(|present| present == stamp) {
            return Ok(());
        }
        match self {
            Self::Python => set_up_python(&self.source(), &environment),
            Self::Node => set_up_node(&self.source(), &environment),
            Self::Go => set_up_go(&self.source(), &environment),
            Self::Java => set_up_java(&self.source(), &environment),
            Self::Fe2o3 => set_up_fe2o3(&self.source(), &environment),
        }?;
        fs::write(stamp_path, stamp).expect("the stamp of the set-up");
        Ok(())
    }

    /// The content of every stamp file, each after its name, and the place of the environment, which
    /// a venv has written into its scripts.
    fn stamp(self) -> Vec<u8> {
        let mut stamp = self.environment().to_string_lossy().into_owned().into_bytes();
        for path in self.stamp_files().iter().flat_map(|pattern| matching(&self.source(), pattern)) {
            stamp.extend_from_slice(format!("\n--- {}\n", path.display()).as_bytes());
            let content =
                fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
            stamp.extend_from_slice(&content);
        }
        stamp
    }

    fn command(self) -> Command {
        let (source, environment) = (self.source(), self.environment());
        match self {
            Self::Python => {
                let mut python = Command::new(environment.join("venv/bin/python"));
                // No compiled files beside the sources.
                python.arg("-B").arg(source.join("main.py"));
                python
            }
            Self::Node => {
                let mut node = Command::new("node");
                node.env("NODE_PATH", environment.join("node_modules")).arg(source.join("main.js"));
                node
            }
            Self::Go => Command::new(environment.join("interop")),
            Self::Java => {
                let class_path = fs::read_to_string(environment.join("class-path")).expect("the class path");
                let classes = environment.join("build/classes");
                let mut java = Command::new("java");
                java.arg("-cp").arg(format!("{}:{}", classes.display(), class_path.trim())).arg("Main");
                java
            }
            Self::Fe2o3 => Command::new(environment.join("target/debug/interop")),
        }
    }
}

/// Whether a program is on this machine. Where it is not, the test is to be skipped; in CI this panics then.
#[must_use]
pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        skip(program);
    }
    found
}

/// Says that a program is missing. In CI, where nothing is skipped, it panics.
fn skip(program: &str) {
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!in_ci, "no {program} on this machine, and in CI nothing is skipped");
    // Not by println!, which the test harness keeps to itself where a test passes.
    let _ = writeln!(std::io::stderr(), "skipped: no {program} on this machine");
}

/// The files below `directory` that a pattern names; `*` may stand for the stem of the last part.
fn matching(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = directory.join(pattern);
    let Some(extension) = pattern.rsplit('/').next().and_then(|last| last.strip_prefix("*.")) else {
        return vec![path];
    };
    let parent = path.parent().expect("a pattern has a parent");
    let mut found: Vec<PathBuf> = fs::read_dir(parent)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", parent.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found
}

/// One step: `program` is what the step cannot do without.
fn step(program: &'static str, command: &mut Command) -> Step {
    process::run_successfully(command, SET_UP_MAX).map(|_| ()).ok_or(Missing(program))
}

fn set_up_python(source: &Path, environment: &Path) -> Step {
    let venv = environment.join("venv");
    step("python3", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    step(
        "python3",
        Command::new(venv.join("bin/python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--require-hashes",
                "-r",
            ])
            .arg(source.join("requirements.txt")),
    )
}

fn set_up_node(source: &Path, environment: &Path) -> Step {
    step("node", Command::new("node").arg("--version"))?;
    for name in Language::Node.stamp_files() {
        fs::copy(source.join(name), environment.join(name)).expect("a copy of the lock file");
    }
    step("npm", Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(environment))
}

fn set_up_go(source: &Path, environment: &Path) -> Step {
    step(
        "go",
        Command::new("go")
            .args(["build", "-mod=readonly", "-buildvcs=false", "-o"])
            .arg(environment.join("interop"))
            .arg(".")
            // A toolchain is never downloaded by a test.
            .env("GOTOOLCHAIN", "local")
            .current_dir(source),
    )
}

fn set_up_java(source: &Path, environment: &Path) -> Step {
    step("javac", Command::new("javac").arg("-version"))?;
    step(
        "mvn",
        Command::new("mvn")
            .args([
                "--batch-mode",
                "--quiet",
                "--strict-checksums",
                "compiler:compile",
                "dependency:build-classpath",
            ])
            .arg(format!("-Dinterop.build={}", environment.join("build").display()))
            .arg(format!("-Dmdep.outputFile={}", environment.join("class-path").display()))
            .current_dir(source),
    )
}

fn set_up_fe2o3(source: &Path, environment: &Path) -> Step {
    let mut cargo = guests::cargo();
    cargo.args(["build", "--quiet", "--locked", "--target-dir"]).arg(environment.join("target"));
    process::run_successfully(cargo.current_dir(source), guests::BUILD_MAX)
        .map(|_| ())
        .ok_or(Missing("cargo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_its_lock_file() {
        for language in [Language::Python, Language::Node, Language::Go, Language::Java, Language::Fe2o3] {
            assert!(!language.stamp().is_empty(), "{language:?}");
        }
    }

    #[test]
    fn no_lock_file_names_a_registry() {
        for (language, name) in
            [(Language::Python, "requirements.txt"), (Language::Node, "package-lock.json")]
        {
            let content = fs::read_to_string(language.source().join(name)).unwrap();
            assert!(!content.contains("http"), "{name} names a place to download from");
        }
    }
}
