//! The broker's side of the compiling process: starts it, feeds it, and ends it when it is time.

use super::{
    CompileError, CompileLimits,
    child::{
        ALLOCATION_FAILED, EXIT_OUT_OF_MEMORY, EXIT_PANICKED, EXIT_REFUSED, OUT_OF_MEMORY_PANIC, SUBCOMMAND,
    },
};
use crate::engine::CodeStrategy;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use std::{
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Instant,
};

/// How much of the process's words is read, in bytes.
const SAID_BYTES_MAX: u64 = 4096;

/// What the one who waits for a process is told.
enum Event {
    /// All output is there, or as much as is wanted.
    Output(io::Result<Vec<u8>>),
    /// The process ended.
    Ended,
    Stop,
}

/// Ends the process that runs, and keeps others from being started.
#[derive(Default)]
pub(super) struct Stop(Mutex<Stopping>);

#[derive(Default)]
struct Stopping {
    stopped: bool,
    current: Option<Sender<Event>>,
}

impl Stop {
    pub(super) fn stop(&self) {
        let mut stopping = self.0.lock();
        stopping.stopped = true;
        if let Some(current) = stopping.current.take() {
            // Nobody listens if the process has just ended.
            let _ = current.send(Event::Stop);
        }
    }

    /// Tells this one from now on, or at once.
    fn tell(&self, events: Sender<Event>) {
        let mut stopping = self.0.lock();
        if stopping.stopped {
            let _ = events.send(Event::Stop);
        } else {
            stopping.current = Some(events);
        }
    }
}

/// A process that does not outlive this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has been waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets a child compile a component; gives the serialized code.
pub(super) fn compile(
    executable: &Path,
    limits: &CompileLimits,
    stop: &Stop,
    strategy: CodeStrategy,
    component: &[u8],
) -> Result<Vec<u8>, CompileError> {
    let not_started = |error: io::Error| CompileError::NotStarted { why: error.to_string() };
    let deadline = Instant::now() + limits.wall_time_max;
    let mut child = start(executable, limits, strategy).map_err(not_started)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (events, told) = channel();
    stop.tell(events.clone());
    thread::scope(|scope| {
        // Dropped before the threads are waited for: they end with the process.
        let mut running = Running(child);
        let aside = |name: &str| thread::Builder::new().name(name.to_owned());
        aside("compile-in").spawn_scoped(scope, || feed(stdin, component)).map_err(not_started)?;
        let said = aside("compile-said").spawn_scoped(scope, || listen(stderr)).map_err(not_started)?;
        let take = limits.code_bytes_max.saturating_add(9);
        let (ended, pid) = (events.clone(), Pid::from_child(&running.0));
        // Nobody listens if the process was ended meanwhile.
        aside("compile-end")
            .spawn_scoped(scope, move || {
                await_end(pid);
                let _ = ended.send(Event::Ended);
            })
            .map_err(not_started)?;
        aside("compile-out")
            .spawn_scoped(scope, move || {
                let _ = events.send(Event::Output(receive(stdout, take)));
            })
            .map_err(not_started)?;
        let (status, output) = wait(&mut running, &told, deadline, limits)?;
        if status.success() {
            return unpack(output, limits);
        }
        Err(judge(status, said.join().unwrap_or_default(), limits))
    })
}

fn start(executable: &Path, limits: &CompileLimits, strategy: CodeStrategy) -> io::Result<Child> {
    Command::new(executable)
        .arg(SUBCOMMAND)
        .args(["--strategy", strategy.as_str()])
        .args(["--memory-bytes", &limits.memory_bytes_max.to_string()])
        .args(["--cpu-seconds", &limits.cpu_seconds_max.to_string()])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Sends the component. A process that does not take it says why in another way.
fn feed(stdin: Option<ChildStdin>, component: &[u8]) {
    if let Some(mut stdin) = stdin
        && stdin.write_all(&(component.len() as u64).to_le_bytes()).is_ok()
    {
        let _ = stdin.write_all(component);
    }
}

/// The process's words in one line.
fn listen(stderr: Option<ChildStderr>) -> String {
    let mut said = Vec::new();
    if let Some(stderr) = stderr {
        // What came before an error is still worth showing.
        let _ = stderr.take(SAID_BYTES_MAX).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn receive(stdout: Option<ChildStdout>, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    if let Some(stdout) = stdout {
        stdout.take(bytes_max).read_to_end(&mut output)?;
    }
    Ok(output)
}

/// Waits until a process has ended, and leaves it to be waited for.
fn await_end(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    // Any other error is that it was waited for already: then it has ended too.
    while matches!(waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
}

/// Waits for the output and for the end, whichever comes first.
fn wait(
    running: &mut Running,
    told: &Receiver<Event>,
    deadline: Instant,
    limits: &CompileLimits,
) -> Result<(ExitStatus, Vec<u8>), CompileError> {
    let no_code = |error: io::Error| CompileError::NoCode { why: error.to_string() };
    let (mut output, mut ended) = (None, false);
    loop {
        if let Some(output) = output.take_if(|_| ended) {
            let status = running.0.wait().map_err(no_code)?;
            return Ok((status, output));
        }
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Output(read)) => {
                let read = read.map_err(no_code)?;
                if read.len() as u64 > limits.code_bytes_max.saturating_add(8) {
                    return Err(CompileError::CodeTooLarge { bytes_max: limits.code_bytes_max });
                }
                output = Some(read);
            }
            Ok(Event::Ended) => ended = true,
            Ok(Event::Stop) => return Err(CompileError::Stopped),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(CompileError::WallTimeUp { limit: limits.wall_time_max });
            }
        }
    }
}

/// A length and that many bytes.
fn unpack(mut output: Vec<u8>, limits: &CompileLimits) -> Result<Vec<u8>, CompileError> {
    let announced = output.first_chunk().map(|length| u64::from_le_bytes(*length));
    if announced.is_some_and(|length| length > limits.code_bytes_max) {
        return Err(CompileError::CodeTooLarge { bytes_max: limits.code_bytes_max });
    }
    if announced.and_then(|length| length.checked_add(8)) != Some(output.len() as u64) {
        return Err(CompileError::NoCode { why: String::from("it has another length than announced") });
    }
    Ok(output.split_off(8))
}

/// What the end of a process means.
fn judge(status: ExitStatus, said: String, limits: &CompileLimits) -> CompileError {
    let out_of_memory = CompileError::OutOfMemory { bytes_max: limits.memory_bytes_max };
    match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(EXIT_REFUSED) => CompileError::Refused { why: said },
        (Some(code), _) if code == i32::from(EXIT_OUT_OF_MEMORY) => out_of_memory,
        (Some(EXIT_PANICKED), _) if said.contains(OUT_OF_MEMORY_PANIC) => out_of_memory,
        (Some(code), _) => CompileError::Failed { code, said },
        (None, Some(signal)) if signal == Signal::XCPU.as_raw() => {
            CompileError::CpuTimeUp { seconds_max: limits.cpu_seconds_max }
        }
        (None, Some(signal)) if signal == Signal::ABORT.as_raw() && said.contains(ALLOCATION_FAILED) => {
            out_of_memory
        }
        (None, signal) => CompileError::Killed { signal: signal.unwrap_or_default(), said },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_there_is_told_however_the_process_ended() {
        let judged = |wait_status, said: &str| {
            judge(ExitStatus::from_raw(wait_status), said.to_owned(), &CompileLimits::default())
        };
        let exited = |code: i32| code << 8;
        for (status, said) in [
            (exited(EXIT_OUT_OF_MEMORY.into()), ""),
            (exited(EXIT_PANICKED), "map.rs:402:55: unhandled out-of-memory error: out of memory"),
            (exited(EXIT_PANICKED), "bumpalo-3.20.3/src/lib.rs:2466:5: out of memory"),
            (Signal::ABORT.as_raw(), "memory allocation of 32769 bytes failed"),
        ] {
            let error = judged(status, said);
            assert!(matches!(error, CompileError::OutOfMemory { .. }), "{error:?}");
        }
        assert!(matches!(judged(exited(EXIT_PANICKED), "index out of bounds"), CompileError::Failed { .. }));
        assert!(matches!(judged(Signal::ABORT.as_raw(), "abort"), CompileError::Killed { .. }));
    }
}
