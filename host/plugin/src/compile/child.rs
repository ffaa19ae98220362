//! The compiling process: what this program does when it is started with [`SUBCOMMAND`].
//!
//! In, on standard input: the length of a component (8 bytes, little-endian), the component, the
//! end. Out, on standard output, if all goes well: the length of the code (8 bytes,
//! little-endian), the code; the exit code is then 0. If not: one line on standard error, and one
//! of the exit codes below. Memory that is not there ends the process in Rust's own way, with a
//! line that begins with [`ALLOCATION_FAILED`] and SIGABRT, or with a panic that says
//! [`OUT_OF_MEMORY_PANIC`]; too much CPU time, with SIGXCPU.
//!
//! It trusts nobody with what the compiler may be made to do by the component: before it reads
//! anything, it gives up what it could do with the process it runs in.

use crate::{
    artifact::FILE_BYTES_MAX,
    engine::{CodeStrategy, compiling_engine},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

/// The first argument of the compiling process. After it come `--strategy` with the name of a
/// [`CodeStrategy`], `--memory-bytes` and `--cpu-seconds`: what [`run_child`] is to be called with.
pub const SUBCOMMAND: &str = "compile-plugin";

/// The compiler refuses the component.
pub(super) const EXIT_REFUSED: u8 = 10;
/// The compiler had too little memory and noticed.
pub(super) const EXIT_OUT_OF_MEMORY: u8 = 11;
/// What came in is not what was announced, or nobody took what went out.
pub(super) const EXIT_PIPE: u8 = 12;
/// The limits could not be set.
pub(super) const EXIT_NOT_CONFINED: u8 = 13;

/// How Rust's last words begin when there is no memory.
pub(super) const ALLOCATION_FAILED: &str = "memory allocation of";
/// The exit code of a process that panics.
pub(super) const EXIT_PANICKED: i32 = 101;
/// What a panic of the compiler, or of a library of it, says where it does not pass on that there is no memory.
pub(super) const OUT_OF_MEMORY_PANIC: &str = "out of memory";

/// The lowest priority there is.
const NICE: i32 = 19;

/// Compiles one component from standard input to standard output, with these limits on this
/// process: `memory_bytes_max` of address space and `cpu_seconds_max` of CPU time.
///
/// To be called first thing in a process that is there for nothing else: it closes every file but
/// the standard three.
#[must_use]
pub fn run_child(strategy: CodeStrategy, memory_bytes_max: u64, cpu_seconds_max: u64) -> ExitCode {
    match compile(strategy, memory_bytes_max, cpu_seconds_max) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, why)) => {
            eprintln!("{}", why.replace(['\n', '\r'], " "));
            ExitCode::from(code)
        }
    }
}

fn compile(strategy: CodeStrategy, memory_bytes_max: u64, cpu_seconds_max: u64) -> Result<(), (u8, String)> {
    let not_confined = |error: io::Error| (EXIT_NOT_CONFINED, format!("no limits: {error}"));
    let pipe = |error: io::Error| (EXIT_PIPE, error.to_string());
    confine(memory_bytes_max, cpu_seconds_max).map_err(not_confined)?;
    let component = read(io::stdin().lock()).map_err(pipe)?;
    let refused = |error: wasmtime::Error| {
        let code = if error.is::<wasmtime::OutOfMemory>() { EXIT_OUT_OF_MEMORY } else { EXIT_REFUSED };
        (code, format!("{error:#}"))
    };
    let engine = compiling_engine(strategy).map_err(refused)?;
    let code = engine.precompile_component(&component).map_err(refused)?;
    let mut out = io::stdout().lock();
    out.write_all(&(code.len() as u64).to_le_bytes()).map_err(pipe)?;
    out.write_all(&code).map_err(pipe)?;
    out.flush().map_err(pipe)
}

/// A length, that many bytes, the end.
fn read(mut from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if length > FILE_BYTES_MAX {
        return wrong("the component is too large");
    }
    let mut component = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    from.take(length + 1).read_to_end(&mut component)?;
    if component.len() as u64 != length {
        return wrong("the component has another length than announced");
    }
    Ok(component)
}

/// Gives up what a compiler does not need.
fn confine(memory_bytes_max: u64, cpu_seconds_max: u64) -> io::Result<()> {
    close_inherited_files();
    // Where memory is short, this process is to go before any other. Not everybody may say so.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    rustix::process::nice(NICE)?;
    // The soft limit ends the process with a signal of its own; the hard one is for certain.
    let cpu = Rlimit { current: Some(cpu_seconds_max), maximum: Some(cpu_seconds_max.saturating_add(1)) };
    setrlimit(Resource::Cpu, cpu)?;
    let limits = [
        (Resource::As, memory_bytes_max),
        // No core of a process that others wrote half of.
        (Resource::Core, 0),
        // No file can be opened any more, and none grows.
        (Resource::Nofile, 3),
        (Resource::Fsize, 0),
    ];
    for (resource, limit) in limits {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, Signal};
        // The broker is gone and with it the wall clock.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        rustix::thread::set_no_new_privs(true)?;
    }
    Ok(())
}

/// Closes whatever the broker itself was started with and left open: its own files close by
/// themselves when another program begins.
fn close_inherited_files() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let listed: Vec<i32> = numbers.filter(|number| *number > 2).collect();
    // The listing itself was open and is closed by now.
    let is_open = |number: &i32| std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
    let inherited: Vec<i32> = listed.into_iter().filter(is_open).collect();
    for number in inherited {
        // SAFETY: the process has only just begun, has one thread, and nothing in it has opened a
        // file but the listing above, which is closed; so nobody in here owns these.
        unsafe { rustix::io::close(number) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(length: u64, bytes: &[u8]) -> Vec<u8> {
        [&length.to_le_bytes(), bytes].concat()
    }

    #[test]
    fn the_length_must_be_true_and_small_enough() {
        assert_eq!(read(&framed(3, b"abc")[..]).unwrap(), b"abc");
        for wrong in [framed(3, b"ab"), framed(3, b"abcd"), framed(FILE_BYTES_MAX + 1, b"a"), vec![1, 2]] {
            assert!(read(&wrong[..]).is_err(), "{wrong:?}");
        }
    }
}
