//! Counts all steps of this package.

use crate::{
    growth, journal,
    steps::{self, BATCH, ROUNDS},
};
use leveret_instructions::guard::{Counts, Guard, instructions};
use std::{
    path::Path,
    process::{Command, ExitCode},
};

/// Instructions a message of one step.
fn count(load: &str, step: &str) -> Result<u64, String> {
    let own = [format!("*counted_{step}*")];
    let (all, rounds) = match journal::functions(step) {
        Some(functions) => (instructions(&["run", load], functions, None), 2 * ROUNDS),
        None => (instructions(&["run", load], &own, None), ROUNDS),
    };
    let all = all.map_err(|error| format!("{load}.{step}: {error}"))?;
    Ok(all / (BATCH * rounds) as u64)
}

/// Allocations of the counted rounds of a load, without callgrind; `None` of one that does not count them.
fn allocations(load: &str) -> Result<Option<u64>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program).args(["run", load]).output().map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("{load} failed: {told}"));
    }
    let made = told.lines().find_map(|line| line.strip_prefix("allocations "));
    made.map(|made| made.trim().parse().map_err(|_| format!("{load} said '{told}'"))).transpose()
}

fn count_all() -> Result<Counts, String> {
    let mut counts = Counts::new();
    for (load, steps) in steps::loads() {
        for step in steps {
            counts.insert(format!("{load}.{step}"), count(load, step)?);
        }
        if let Some(made) = allocations(load)? {
            counts.insert(format!("{load}.allocations-per-1000"), made * 1000 / (BATCH * ROUNDS) as u64);
        }
    }
    Ok(counts)
}

/// Prints all counts; fails if one is above its bound. With `write` they become the bounds.
pub fn check_all(write: bool) -> ExitCode {
    let guard = Guard {
        bounds: &Path::new(env!("CARGO_MANIFEST_DIR")).join("bounds.txt"),
        command: "cargo run --release --manifest-path tests/instructions/Cargo.toml --",
        pairs: growth::pairs().collect(),
        more_percent: growth::MORE_PERCENT,
    };
    guard.report(count_all(), write)
}
