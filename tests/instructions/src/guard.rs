//! Counts all steps and compares them with their bounds.

use crate::{
    growth,
    steps::{self, BATCH, ROUNDS},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// By how much a count may be above its bound, in per cent: another compiler's code is not quite the same.
const SLACK_PERCENT: u64 = 10;

type Bounds = BTreeMap<String, u64>;

fn bounds_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bounds.txt")
}

/// Lines of `load.step instructions`.
fn read_bounds(text: &str) -> Result<Bounds, String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line.split_once(' ').ok_or_else(|| format!("no count in '{line}'"))?;
            let count = count.trim().parse().map_err(|error| format!("'{line}': {error}"))?;
            Ok((String::from(name), count))
        })
        .collect()
}

/// Instructions a message of one step.
fn count(load: &str, step: &str) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*counted_{step}*"))
        .arg(program)
        .args(["run", load])
        .output()
        .map_err(|error| format!("valgrind cannot be run ({error}); on Debian: apt-get install valgrind"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("counting {load}.{step} failed: {told}"));
    }
    let counted = told.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    let all: u64 = counted
        .and_then(|count| count.parse().ok())
        .filter(|count| *count > 0)
        .ok_or_else(|| format!("callgrind counted nothing for {load}.{step}: {told}"))?;
    Ok(all / (BATCH * ROUNDS) as u64)
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

fn count_all() -> Result<Bounds, String> {
    let mut counts = Bounds::new();
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

fn check(write: bool) -> Result<bool, String> {
    let file = bounds_file();
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()));
    let bounds = text.and_then(|text| read_bounds(&text));
    let counts = count_all()?;
    if write {
        let mut text =
            String::from("# Instructions a message. Written by `cargo run --release -- --write`.\n");
        counts.iter().for_each(|(name, count)| text.push_str(&format!("{name} {count}\n")));
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let bounds = if write { bounds.unwrap_or_default() } else { bounds? };
    let mut good = true;
    println!("{:<36}{:>10}{:>10}", "a message", "counted", "bound");
    for (name, count) in &counts {
        let bound = bounds.get(name).copied();
        let over = bound.is_none_or(|bound| *count > bound + bound * SLACK_PERCENT / 100 + 1);
        good &= !over;
        let bound = bound.map_or_else(|| String::from("none"), |bound| bound.to_string());
        println!("{name:<36}{count:>10}{bound:>10}{}", if over { "  <- too many" } else { "" });
    }
    for (little, much) in growth::pairs() {
        let count = |name: &str| counts.get(name).copied().unwrap_or_default();
        let most = count(&little) * (100 + growth::MORE_PERCENT) / 100;
        if count(&much) > most {
            good = false;
            println!("{much:<36}{:>10}{most:>10}  <- grows too much beyond {little}", count(&much));
        }
    }
    Ok(good || write)
}

/// Prints all counts; fails if one is above its bound. With `write` they become the bounds.
pub fn check_all(write: bool) -> ExitCode {
    match check(write) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!(
                "A step costs more than its bound. If that is meant, say so in the commit and write new bounds: \
                 cargo run --release --manifest-path tests/instructions/Cargo.toml -- --write"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
