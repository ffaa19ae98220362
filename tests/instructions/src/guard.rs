//! Counts steps and compares them with their bounds. The programs that do are this package's own and `tests/twin`.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::Path,
    process::{Command, ExitCode, Output},
};

/// By how much a count may be above its bound, in per cent: another compiler's code is not quite the same.
const SLACK_PERCENT: u64 = 10;

/// Counts by name.
pub type Counts = BTreeMap<String, u64>;

/// What a guard guards.
pub struct Guard<'a> {
    /// The file with the bounds.
    pub bounds: &'a Path,
    /// The command that runs the guard, for people to write new bounds with.
    pub command: &'a str,
    /// Pairs of names: the second may cost little more than the first, so many per cent.
    pub pairs: Vec<(String, String)>,
    /// How many per cent.
    pub more_percent: u64,
}

/// Lines of `load.step instructions`.
fn read_bounds(text: &str) -> Result<Counts, String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, count) = line.split_once(' ').ok_or_else(|| format!("no count in '{line}'"))?;
            let count = count.trim().parse().map_err(|error| format!("'{line}': {error}"))?;
            Ok((String::from(name), count))
        })
        .collect()
}

/// The command that runs this program with those arguments under callgrind, which counts within some functions (`*` stands
/// for anything) and says how much on standard error. In which functions that is, is written to a file.
///
/// # Errors
/// If this program is nowhere.
pub fn under_callgrind(
    arguments: &[impl AsRef<OsStr>],
    functions: &[impl AsRef<str>],
    told_in: Option<&Path>,
) -> Result<Command, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--callgrind-out-file={}", told_in.unwrap_or(Path::new("/dev/null")).display()))
        .args(functions.iter().map(|function| format!("--toggle-collect={}", function.as_ref())))
        .arg(program)
        .args(arguments);
    Ok(command)
}

/// How many instructions callgrind counted.
///
/// # Errors
/// If it did not.
pub fn counted(output: &Output) -> Result<u64, String> {
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(told.into_owned());
    }
    let counted = told.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    counted
        .and_then(|count| count.parse().ok())
        .filter(|count| *count > 0)
        .ok_or_else(|| format!("callgrind counted nothing: {told}"))
}

/// What is said where valgrind cannot be run.
#[must_use]
pub fn no_valgrind(error: &io::Error) -> String {
    format!("valgrind cannot be run ({error}); on Debian: apt-get install valgrind")
}

/// The instructions of this program, run with those arguments, within some functions.
///
/// # Errors
/// What went wrong, for people to read.
pub fn instructions(
    arguments: &[&str],
    functions: &[impl AsRef<str>],
    told_in: Option<&Path>,
) -> Result<u64, String> {
    let output = under_callgrind(arguments, functions, told_in)?.output();
    let counted = output.map_err(|error| no_valgrind(&error)).and_then(|output| counted(&output));
    counted.map_err(|error| format!("{}: {error}", arguments.join(" ")))
}

impl Guard<'_> {
    fn check(&self, counts: Result<Counts, String>, write: bool) -> Result<bool, String> {
        let text =
            fs::read_to_string(self.bounds).map_err(|error| format!("{}: {error}", self.bounds.display()));
        let bounds = text.and_then(|text| read_bounds(&text));
        let counts = counts?;
        if write {
            let mut text = format!("# Instructions a message. Written by `{} --write`.\n", self.command);
            counts.iter().for_each(|(name, count)| text.push_str(&format!("{name} {count}\n")));
            fs::write(self.bounds, text).map_err(|error| format!("{}: {error}", self.bounds.display()))?;
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
        for gone in bounds.keys().filter(|name| !counts.contains_key(*name)) {
            good = false;
            println!("{gone:<36}{:>10}{:>10}  <- nothing has that name", "", bounds[gone]);
        }
        for (little, much) in &self.pairs {
            let count = |name: &str| counts.get(name).copied().unwrap_or_default();
            let most = count(little) * (100 + self.more_percent) / 100;
            if count(much) > most {
                good = false;
                println!("{much:<36}{:>10}{most:>10}  <- grows too much beyond {little}", count(much));
            }
        }
        Ok(good || write)
    }

    /// Prints all counts; fails if one is above its bound. With `write` they become the bounds.
    #[must_use]
    pub fn report(&self, counts: Result<Counts, String>, write: bool) -> ExitCode {
        match self.check(counts, write) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => {
                let command = self.command;
                eprintln!(
                    "A step costs more than its bound. If that is meant, say so in the commit and write new bounds: \
                     {command} --write"
                );
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    }
}
