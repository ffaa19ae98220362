//! Child processes with a time limit: none can hang a test run.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// What a process said and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, read as text.
    pub stdout: String,
    /// Its standard error, read as text.
    pub stderr: String,
    /// The command lines of those of its process group that it left running, which were killed then.
    pub left: Vec<String>,
}

impl Finished {
    /// Both outputs with headings, for the message of a failed test.
    #[must_use]
    pub fn report(&self) -> String {
        format!("{}\n--- standard output\n{}\n--- standard error\n{}", self.status, self.stdout, self.stderr)
    }
}

/// Runs a command to its end. `None` when the program is not on this machine.
///
/// The command gets no input and a process group of its own. Whoever of that group still runs after
/// `limit` is killed, and this function panics with what had been said until then.
#[must_use]
pub fn run(command: &mut Command, limit: Duration) -> Option<Finished> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("cannot start {command:?}: {error}"),
    };
    let group = child.id();
    let stdout = read_aside(child.stdout.take().expect("stdout is piped"));
    let stderr = read_aside(child.stderr.take().expect("stderr is piped"));
    let status = wait_aside(child);
    match status.recv_timeout(limit) {
        Ok(status) => {
            let left = running_in_group(group);
            // A grandchild may hold the pipes open for longer than the child lived.
            kill_group(group);
            let text = |pipe: Receiver<String>| pipe.recv().unwrap_or_default();
            Some(Finished { status, stdout: text(stdout), stderr: text(stderr), left })
        }
        Err(RecvTimeoutError::Timeout) => {
            kill_group(group);
            let said =
                format!("{}\n{}", stdout.recv().unwrap_or_default(), stderr.recv().unwrap_or_default());
            panic!("{command:?} did not end within {limit:?}; it said:\n{said}");
        }
        Err(RecvTimeoutError::Disconnected) => panic!("nobody waited for {command:?}"),
    }
}

/// [`run`] for a command that must succeed; panics with its output where it does not.
///
/// `None` when the program is not on this machine.
#[must_use]
pub fn run_successfully(command: &mut Command, limit: Duration) -> Option<Finished> {
    let finished = run(command, limit)?;
    assert!(finished.status.success(), "{command:?}: {}", finished.report());
    Some(finished)
}

/// Lets this process, and those that it starts from now on, have `files` open, if it may have fewer now.
///
/// Panics where the machine does not allow as many.
pub fn raise_file_limit(files: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|current| current < files) {
        let raised = Rlimit { current: Some(files), maximum: now.maximum };
        setrlimit(Resource::Nofile, raised)
            .unwrap_or_else(|error| panic!("{files} open files are not allowed ({now:?}): {error}"));
    }
}

fn read_aside(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Waits for the child on a thread of its own, so that the caller can wait with a limit.
pub(crate) fn wait_aside(mut child: Child) -> Receiver<ExitStatus> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            let _ = sender.send(status);
        }
    });
    receiver
}

/// The command lines of those of a process group that run.
fn running_in_group(leader: u32) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let command_line = |entry: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // Behind the name, which may have anything in it: state, parent, group.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, group) = (fields.next()?, fields.nth(1)?);
        if group.parse() != Ok(leader) || matches!(state, "Z" | "X") {
            return None;
        }
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        Some(String::from_utf8_lossy(&arguments).replace('\0', " "))
    };
    processes.filter_map(command_line).collect()
}

fn kill_group(leader: u32) {
    if let Some(group) = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw) {
        // The group may be gone already, which is what is wanted.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn gives_both_outputs_and_the_status() {
        let finished = run(&mut shell("echo out; echo err >&2; exit 3"), Duration::from_secs(30)).unwrap();
        assert_eq!(
            (finished.stdout.as_str(), finished.stderr.as_str(), finished.status.code()),
            ("out\n", "err\n", Some(3))
        );
    }

    #[test]
    #[should_panic(expected = "did not end within")]
    fn kills_what_does_not_end() {
        let _ = run(&mut shell("echo begun; cat /dev/zero >/dev/null"), Duration::from_millis(200));
    }

    #[test]
    fn what_is_left_running_is_told() {
        let limit = Duration::from_secs(30);
        let finished = run(&mut shell("cat /dev/zero >/dev/null & exit 0"), limit).unwrap();
        assert!(finished.left.len() == 1 && finished.left[0].contains("cat"), "{:?}", finished.left);
        let finished = run(&mut shell("cat /dev/null & wait"), limit).unwrap();
        assert_eq!(finished.left, [""; 0]);
    }

    #[test]
    fn a_grandchild_does_not_hold_the_caller() {
        let finished =
            run(&mut shell("cat /dev/zero >/dev/null & echo done"), Duration::from_secs(30)).unwrap();
        assert_eq!(finished.stdout, "done\n");
    }

    #[test]
    fn says_when_the_program_is_not_there() {
        assert!(run(&mut Command::new("leveret-no-such-program"), Duration::from_secs(1)).is_none());
    }
}
