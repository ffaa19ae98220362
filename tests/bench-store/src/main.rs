//! The broker's store side by side with engines that exist, on the same work in one run. See README.md.

mod engines;
mod latency;
mod work;

use engines::{ENGINES, Open, Outcome, Work};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};
use work::Scenario;

const BODY_BYTES: usize = 1024;
const WINDOW: usize = 1000;

/// What one engine did in one round of a scenario.
#[derive(Clone, Copy, Default)]
struct Row {
    per_second: f64,
    written_bytes: f64,
    syncs_per_1000: f64,
    cpu_us: f64,
    open_ms: f64,
    read_per_second: f64,
}

fn main() -> Outcome<()> {
    let (messages, backlog, rounds) =
        (number("messages", 300_000), number("backlog", 1_000_000), number("rounds", 3));
    if std::env::args().any(|argument| argument == "--latency") {
        let per_second = argument("rate").map(|rate| rate.parse()).transpose()?;
        return latency::measure(BODY_BYTES, rounds, per_second);
    }
    let only = argument("only");
    let engines: Vec<_> =
        ENGINES.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)).collect();
    let root = std::env::temp_dir().join(format!("leveret-bench-store-{}", std::process::id()));
    println!(
        "{messages} messages of {BODY_BYTES} bytes, {WINDOW} unconfirmed, a backlog of {backlog}; medians of {rounds}"
    );
    for scenario in Scenario::all(messages, backlog) {
        let mut rows = vec![Vec::new(); engines.len()];
        for round in 0..rounds {
            for (at, (name, open)) in engines.iter().enumerate() {
                let path = root.join(format!("{name}-{round}"));
                fs::create_dir_all(&path)?;
                rows[at].push(measure(&scenario, *open, &path)?);
                fs::remove_dir_all(&path)?;
            }
        }
        print(&scenario, engines.iter().map(|(name, _)| *name).zip(&mut rows));
    }
    fs::remove_dir_all(PathBuf::from(&root))?;
    Ok(())
}

/// What is said on the command line after `--name`.
fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| *argument != format!("--{name}"));
    arguments.nth(1)
}

fn number(name: &str, default: u64) -> u64 {
    argument(name).and_then(|argument| argument.parse().ok()).unwrap_or(default)
}

fn measure(scenario: &Scenario, open: Open, path: &Path) -> Outcome<Row> {
    let body: Vec<u8> = (0..BODY_BYTES).map(|at| (at * 7 % 251) as u8).collect();
    let (publishes, acks) = scenario.work(WINDOW);
    let mut engine = open(path, scenario.queues)?;
    // What earlier rounds left to be written is not this one's.
    rustix::fs::sync();
    let (begun, written, cpu) = (Instant::now(), written_bytes()?, cpu_seconds());
    let work = Work { publishes: &publishes, acks: &acks, body: &body, window: WINDOW };
    let syncs = engine.run(&work)?;
    let seconds = begun.elapsed().as_secs_f64();
    let count = publishes.len() as f64;
    let mut row = Row {
        per_second: count / seconds,
        syncs_per_1000: syncs.map_or(f64::NAN, |syncs| syncs as f64 * 1000.0 / count),
        cpu_us: (cpu_seconds() - cpu) * 1e6 / count,
        ..Row::default()
    };
    drop(engine);
    row.written_bytes = (written_bytes()? - written) as f64 / count;
    let begun = Instant::now();
    let mut engine = open(path, scenario.queues)?;
    row.open_ms = begun.elapsed().as_secs_f64() * 1e3;
    let begun = Instant::now();
    let read = (0..scenario.queues).map(|queue| engine.read(queue)).sum::<Outcome<u64>>()?;
    let left = publishes.len() - acks.iter().map(Vec::len).sum::<usize>();
    // Acks that were not synced may be gone: those of the last batches.
    assert!(
        read >= left as u64 && read <= (left + 20 * WINDOW) as u64,
        "{read} are there, and {left} should be"
    );
    row.read_per_second = read as f64 / begun.elapsed().as_secs_f64();
    Ok(row)
}

/// What this process caused to be written to the disk, from memory's pages too.
fn written_bytes() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("the system does not count")?.parse()?)
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn print<'a>(scenario: &Scenario, rows: impl Iterator<Item = (&'a str, &'a mut Vec<Row>)>) {
    println!("\n{}", scenario.name);
    println!(
        "{:<12} {:>10} {:>12} {:>11} {:>8} {:>10} {:>12}",
        "", "messages/s", "disk bytes/m", "syncs/1000", "CPU us/m", "open ms", "read/s"
    );
    for (name, rows) in rows {
        let mut median = |of: fn(&Row) -> f64| {
            rows.sort_by(|a, b| of(a).total_cmp(&of(b)));
            of(&rows[rows.len() / 2])
        };
        println!(
            "{name:<12} {:>10.0} {:>12.0} {:>11.2} {:>8.2} {:>10.1} {:>12.0}",
            median(|row| row.per_second),
            median(|row| row.written_bytes),
            median(|row| row.syncs_per_1000),
            median(|row| row.cpu_us),
            median(|row| row.open_ms),
            median(|row| row.read_per_second),
        );
    }
}
