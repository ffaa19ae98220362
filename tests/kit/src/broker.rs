//! A broker as a child process: started on a free port with its own directories, its log kept.

use crate::scratch::ScratchDirectory;
use crate::{EVENT_WAIT_MAX, log_lines, process};
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Names a broker that runs already (`127.0.0.1:5673`): suites that hold for every AMQP 0-9-1
/// broker are then run against that one, which is how their expectations are checked.
pub const ADDRESS_VARIABLE: &str = "LEVERET_TEST_ADDRESS";

/// A running broker. Dropping it stops it; if the test is failing, its log is printed.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    /// `None` for a broker that somebody else runs.
    process: Option<BrokerProcess>,
}

#[derive(Debug)]
struct BrokerProcess {
    pid: u32,
    status: Mutex<Receiver<ExitStatus>>,
    log: Arc<Log>,
    directory: ScratchDirectory,
    /// How it was started.
    builder: Builder,
}

/// A broker between two lives: its directories are there.
#[derive(Debug)]
pub struct Stopped {
    builder: Builder,
    directory: ScratchDirectory,
}

impl Stopped {
    /// What the broker keeps for itself.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The directory that the broker watches for plugins.
    #[must_use]
    pub fn plugins_directory(&self) -> PathBuf {
        self.directory.path().join("plugins")
    }

    /// Starts it again, as it was started before but for the port.
    #[must_use]
    pub fn start(self) -> Broker {
        self.builder.launch(self.directory)
    }

    /// Starts it again, and it is to end by itself before it serves. Gives how it ended, and its log.
    ///
    /// Panics where it has not ended after a while.
    #[must_use]
    pub fn fails_to_start(self) -> (Self, ExitStatus, String) {
        let process = self.builder.spawn(self.directory);
        let status = process.wait();
        let log = process.log.whole();
        (Self { builder: process.builder, directory: process.directory }, status, log)
    }
}

/// How to start a broker.
#[derive(Debug)]
pub struct Builder {
    binary: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    plugins: Vec<PathBuf>,
    http_listen: OsString,
}

impl Builder {
    /// One more argument on the command line.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Where the HTTP API listens, instead of on a free port; or `none`.
    #[must_use]
    pub fn http_listen(mut self, address: impl Into<OsString>) -> Self {
        self.http_listen = address.into();
        self
    }

    /// A component that is in the plugins directory before the broker starts.
    #[must_use]
    pub fn plugin(mut self, component: impl Into<PathBuf>) -> Self {
        self.plugins.push(component.into());
        self
    }

    /// Starts it and waits until it accepts connections, and its plugins serve or were refused: a broker whose
    /// plugins are compiled for long listens before that.
    #[must_use]
    pub fn start(self) -> Broker {
        let directory = ScratchDirectory::new("broker");
        let plugins = directory.path().join("plugins");
        // The broker takes nothing from a folder in which others may write, whatever the umask.
        DirBuilder::new().mode(0o755).create(&plugins).expect("a plugins directory");
        for component in &self.plugins {
            let name = component.file_name().expect("a component is a file");
            std::fs::copy(component, plugins.join(name))
                .unwrap_or_else(|error| panic!("cannot copy {}: {error}", component.display()));
        }
        self.launch(directory)
    }

    fn launch(self, directory: ScratchDirectory) -> Broker {
        let process = self.spawn(directory);
        let line = process.log.wait_for(log_lines::LISTENING, 0, EVENT_WAIT_MAX);
        let address = address_after(log_lines::LISTENING, &line);
        process.wait_for_plugins();
        Broker { address, process: Some(process) }
    }

    fn spawn(self, directory: ScratchDirectory) -> BrokerProcess {
        let mut child = Command::new(&self.binary)
            .args(["--listen", "127.0.0.1:0", "--http-listen"])
            .arg(&self.http_listen)
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .arg("--plugins-dir")
            .arg(directory.path().join("plugins"))
            .args(&self.arguments)
            // The log is read by machine: no colours.
            .env("NO_COLOR", "1")
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.binary.display()));
        let log = Log::follow(child.stderr.take().expect("stderr is piped"));
        BrokerProcess {
            pid: child.id(),
            status: Mutex::new(process::wait_aside(child)),
            log,
            directory,
            builder: self,
        }
    }
}

impl BrokerProcess {
    /// Waits until the log says what became of the plugins that are there from the start.
    fn wait_for_plugins(&self) {
        let folder = self.directory.path().join("plugins");
        let names = self.builder.plugins.iter().filter_map(|component| component.file_name());
        for file in names.map(|name| folder.join(name)).filter(|file| file.is_file()) {
            let path = format!("path={} ", file.display());
            let said = [log_lines::PLUGIN_SERVES, log_lines::PLUGIN_REFUSED, log_lines::PLUGIN_FELL_BACK];
            self.log.wait_for_line(&path, 0, EVENT_WAIT_MAX, |line| {
                line.contains(&path) && said.iter().any(|said| line.contains(said))
            });
        }
    }
}

impl Broker {
    /// Starts `binary` as a user would start it, but for the port and the directories.
    #[must_use]
    pub fn start(binary: impl Into<PathBuf>) -> Self {
        Self::builder(binary).start()
    }

    /// For a broker with more arguments, or with plugins from the start.
    #[must_use]
    pub fn builder(binary: impl Into<PathBuf>) -> Builder {
        Builder {
            binary: binary.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            plugins: Vec::new(),
            http_listen: OsString::from("127.0.0.1:0"),
        }
    }

    /// The broker that [`ADDRESS_VARIABLE`] names, or else a started `binary`.
    #[must_use]
    pub fn under_test(binary: impl Into<PathBuf>) -> Self {
        match std::env::var(ADDRESS_VARIABLE) {
            Ok(address) => {
                let address =
                    address.parse().unwrap_or_else(|_| panic!("{ADDRESS_VARIABLE}: no address: {address}"));
                Self { address, process: None }
            }
            Err(_) => Self::start(binary),
        }
    }

    /// The number of its process. Panics where somebody else runs this broker.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.own_process().pid
    }

    /// Whether somebody else runs this broker, so that there is no log and no plugins directory.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.process.is_none()
    }

    /// Where it accepts AMQP connections.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its HTTP API listens. Panics where it has none.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        // Said before the line that start() waited for.
        let log = self.own_process().log.lock();
        let line = log.lines.iter().find(|line| line.contains(log_lines::HTTP_API));
        address_after(log_lines::HTTP_API, line.expect("a broker with an HTTP API says where"))
    }

    /// The same for clients that take an address, user and virtual host in one.
    #[must_use]
    pub fn amqp_url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    /// The directory that the broker watches for plugins.
    #[must_use]
    pub fn plugins_directory(&self) -> PathBuf {
        self.own_process().directory.path().join("plugins")
    }

    /// The directory for everything that the broker keeps.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.own_process().directory.path().join("data")
    }

    /// Beside the plugins directory, on the same file system: a place to write a file aside before
    /// it is renamed into the plugins directory.
    #[must_use]
    pub fn aside(&self) -> &Path {
        self.own_process().directory.path()
    }

    /// All lines of the log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.own_process().log.lock().lines.join("\n")
    }

    /// The number of lines so far: what [`Broker::wait_for_log_after`] counts from.
    #[must_use]
    pub fn log_length(&self) -> usize {
        self.own_process().log.lock().lines.len()
    }

    /// Waits for a line with `pattern` in it, wherever in the log, and gives that line.
    ///
    /// Panics with the whole log after `limit`.
    pub fn wait_for_log(&self, pattern: &str, limit: Duration) -> String {
        self.own_process().log.wait_for(pattern, 0, limit)
    }

    /// [`Broker::wait_for_log`], leaving out the first `lines`.
    pub fn wait_for_log_after(&self, lines: usize, pattern: &str, limit: Duration) -> String {
        self.own_process().log.wait_for(pattern, lines, limit)
    }

    /// Asks the broker to stop, as an operator would (SIGTERM), and waits for its end.
    pub fn stop(mut self) -> ExitStatus {
        self.process.take().expect("a broker of our own").stop()
    }

    /// Stops it as [`Broker::stop`] does, and keeps its directories.
    #[must_use]
    pub fn stop_for_a_while(mut self) -> Stopped {
        let process = self.process.take().expect("a broker of our own");
        process.stop();
        Stopped { builder: process.builder, directory: process.directory }
    }

    /// Ends it at once and without a word to it (SIGKILL), as a crash would, and keeps its directories.
    #[must_use]
    pub fn kill_for_a_while(mut self) -> Stopped {
        let process = self.process.take().expect("a broker of our own");
        process.signal(rustix::process::Signal::KILL);
        process.wait();
        Stopped { builder: process.builder, directory: process.directory }
    }

    fn own_process(&self) -> &BrokerProcess {
        self.process.as_ref().expect("a broker that somebody else runs has no log and no directories")
    }
}

impl BrokerProcess {
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn stop(&self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    fn wait(&self) -> ExitStatus {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.recv_timeout(EVENT_WAIT_MAX).unwrap_or_else(|_| {
            self.signal(rustix::process::Signal::KILL);
            panic!("the broker did not stop; its log:\n{}", self.log.lock().lines.join("\n"))
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        if std::thread::panicking() {
            process.signal(rustix::process::Signal::KILL);
            eprintln!("--- log of the broker at {}", self.address);
            eprintln!("{}", process.log.lock().lines.join("\n"));
        } else {
            process.stop();
        }
    }
}

/// Finds the address after `words` in a line like `... listening on 127.0.0.1:40321`.
fn address_after(words: &str, line: &str) -> SocketAddr {
    line.split(words)
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|address| address.parse().ok())
        .unwrap_or_else(|| panic!("no address in: {line}"))
}

/// The lines of a process's standard error, as they come.
#[derive(Debug, Default)]
struct Log {
    content: Mutex<LogContent>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct LogContent {
    lines: Vec<String>,
    /// The process has closed its end.
    ended: bool,
}

impl Log {
    fn follow(stderr: ChildStderr) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n') {
                let Ok(line) = line else { break };
                writer.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
                writer.grown.notify_all();
            }
            writer.lock().ended = true;
            writer.grown.notify_all();
        });
        log
    }

    /// All of it, once the process has closed its end.
    fn whole(&self) -> String {
        let deadline = Instant::now() + EVENT_WAIT_MAX;
        let mut content = self.lock();
        while !content.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "somebody holds the log open:\n{}", content.lines.join("\n"));
            content = self.grown.wait_timeout(content, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        content.lines.join("\n")
    }

    fn lock(&self) -> MutexGuard<'_, LogContent> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, pattern: &str, from: usize, limit: Duration) -> String {
        self.wait_for_line(pattern, from, limit, |line| line.contains(pattern))
    }

    /// The first line from one on that is wanted; `what` says in words which.
    fn wait_for_line(
        &self,
        what: &str,
        mut from: usize,
        limit: Duration,
        is_it: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Instant::now() + limit;
        let mut content = self.lock();
        loop {
            if let Some(line) = content.lines.iter().skip(from).find(|line| is_it(line)) {
                return line.clone();
            }
            from = from.max(content.lines.len());
            let left = deadline.saturating_duration_since(Instant::now());
            if content.ended || left.is_zero() {
                let why = if content.ended { "the broker ended" } else { "the wait was too long" };
                panic!("no line with {what:?} in the log ({why}):\n{}", content.lines.join("\n"));
            }
            content = self.grown.wait_timeout(content, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A stand-in for the broker: a script that says what a broker says.
    fn stand_in(script: &str) -> (ScratchDirectory, PathBuf) {
        let directory = ScratchDirectory::new("stand-in");
        let path = directory.path().join("broker");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (directory, path)
    }

    #[test]
    fn reads_the_address_and_stops() {
        let (_keep, path) = stand_in(
            // It waits in a read of its own: a child of it could outlive it.
            "mkfifo \"$0.never\"; trap 'exit 0' TERM\n\
             echo \"INFO HTTP API on http://127.0.0.1:4322\" >&2\n\
             echo \"INFO listening on 127.0.0.1:4321 ($*)\" >&2; read -r _ <> \"$0.never\"",
        );
        let broker = Broker::builder(path).argument("--extra").start();
        assert_eq!(broker.address(), "127.0.0.1:4321".parse().unwrap());
        assert_eq!(broker.http_address(), "127.0.0.1:4322".parse().unwrap());
        assert!(broker.log().contains("--listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --data-dir"));
        assert!(broker.log().contains("--extra"));
        assert!(broker.plugins_directory().is_dir());
        assert!(broker.stop().success());
    }

    #[test]
    #[should_panic(expected = "the broker ended")]
    fn says_that_the_broker_ended_before_it_listened() {
        let (_keep, path) = stand_in("echo 'no such option' >&2; exit 2");
        let _ = Broker::start(path);
    }
}
