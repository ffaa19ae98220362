//! Why a component was not compiled.

use std::{fmt, time::Duration};

/// Why there is no machine code of a component. Nothing else has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// The compiler refuses the component: it is not valid, or uses what is not supported.
    Refused {
        /// The compiler's words.
        why: String,
    },
    /// It took more memory than it may.
    OutOfMemory {
        /// What it may, in bytes.
        bytes_max: u64,
    },
    /// It took more CPU time than it may.
    CpuTimeUp {
        /// What it may, in seconds.
        seconds_max: u64,
    },
    /// It did not end in time.
    WallTimeUp {
        /// The time it had.
        limit: Duration,
    },
    /// The code is larger than it may be.
    CodeTooLarge {
        /// What it may have, in bytes.
        bytes_max: u64,
    },
    /// Somebody or something ended the compiling process.
    Killed {
        /// The signal's number.
        signal: i32,
        /// The process's last words.
        said: String,
    },
    /// The compiling process ended by itself and not as it should.
    Failed {
        /// Its exit code.
        code: i32,
        /// Its last words.
        said: String,
    },
    /// The compiling process said that all went well, and what it gave is not code.
    NoCode {
        /// What is wrong with it.
        why: String,
    },
    /// There was no compiling process.
    NotStarted {
        /// The system's words.
        why: String,
    },
    /// The broker stops.
    Stopped,
}

impl CompileError {
    /// The compiler's own words, with all causes, in one line.
    pub(super) fn refused(error: &wasmtime::Error) -> Self {
        Self::Refused { why: format!("{error:#}").replace(['\n', '\r'], " ") }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { why } => f.write_str(why),
            Self::OutOfMemory { bytes_max } => {
                write!(f, "compiling it takes more than {} MiB of memory", bytes_max >> 20)
            }
            Self::CpuTimeUp { seconds_max } => {
                write!(f, "compiling it takes more than {seconds_max} s of CPU time")
            }
            Self::WallTimeUp { limit } => {
                write!(f, "compiling it was not done after {} s", limit.as_secs_f64())
            }
            Self::CodeTooLarge { bytes_max } => {
                write!(f, "its machine code has more than {} MiB", bytes_max >> 20)
            }
            Self::Killed { signal, said } => {
                write!(f, "the compiling process was killed by signal {signal}")?;
                last_words(f, said)
            }
            Self::Failed { code, said } => {
                write!(f, "the compiling process ended with the exit code {code}")?;
                last_words(f, said)
            }
            Self::NoCode { why } => write!(f, "the compiling process gave no code: {why}"),
            Self::NotStarted { why } => write!(f, "the compiling process cannot be started: {why}"),
            Self::Stopped => f.write_str("the broker stops"),
        }
    }
}

fn last_words(f: &mut fmt::Formatter<'_>, said: &str) -> fmt::Result {
    if said.is_empty() { Ok(()) } else { write!(f, ": {said}") }
}

impl std::error::Error for CompileError {}
