//! What a load shows beside its table and its JSON: a line while it runs, and all latencies in files.

use super::{BRIEFLY, LOAD_MAX, bench, number};
use leveret_testkit::{Broker, ScratchDirectory, process};
use std::fs;
use std::process::Command;

/// Runs a command in a terminal, whose output is that of this program.
const IN_A_TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
/// How a line is put over the one before.
const OVER: &str = "\r\x1b[K";

#[test]
fn a_line_shows_in_a_terminal_what_goes_through() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let shown = |more: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", IN_A_TERMINAL, env!("CARGO_BIN_EXE_leveret"), "bench"]);
        command.args(more.split_whitespace());
        command.env("LEVERET_BENCH_ADDRESS", broker.address().to_string());
        process::run_successfully(&mut command, LOAD_MAX).expect("python3 is there").stdout
    };
    let said = shown(&format!("--confirm 100 {BRIEFLY}"));
    let lines: Vec<&str> = said.split(OVER).filter(|line| line.contains("on their way")).collect();
    // One of the time before, one of what is measured.
    assert!(lines.len() >= 2, "{said:?}");
    for line in lines {
        for figure in ["published ", "consumed ", "confirmed "] {
            assert!(line.contains(figure) && !line.contains('\n'), "{line:?}");
        }
    }
    // It is taken away before the table.
    assert!(said.contains(&format!("{OVER}published  ")), "{said:?}");
    assert!(shown("churn channels -t 0.3").contains(&format!("{OVER}came and went")));
    assert!(!shown(&format!("--quiet {BRIEFLY}")).contains('\x1b'));
    // Nobody looks.
    let (_, told) = bench(&broker, BRIEFLY);
    assert!(!told.contains('\x1b') && !told.contains("on their way"), "{told:?}");
}

#[test]
fn all_latencies_are_written_to_files() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let scratch = ScratchDirectory::new("latencies");
    let file = scratch.path().join("load.hgrm");
    let confirms = scratch.path().join("load.hgrm.confirms");
    let load = |more: &str| bench(&broker, &format!("{more} --latency-file {} {BRIEFLY}", file.display())).0;
    let max_of = |text: &str| {
        let max = text.split("#[Max     =").nth(1).and_then(|rest| rest.split(',').next());
        max.and_then(|max| max.trim().parse::<f64>().ok()).unwrap_or_else(|| panic!("{text}"))
    };
    load("");
    assert!(!confirms.exists());
    let report = load("-r 2000 --confirm 100");
    for (file, name) in [(&file, "latency_us"), (&confirms, "confirm_latency_us")] {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n"), "{text}");
        let (max, told) = (max_of(&text), number(&report[name], "max"));
        assert!((max - told).abs() < 0.01, "{name}: {max} {told}");
        let names = ["p50", "p90", "p95", "p99", "p999", "p9999", "max"];
        let percentiles = names.map(|quantile| number(&report[name], quantile));
        assert!(percentiles.is_sorted() && percentiles[0] > 0.0, "{report}");
    }
    // It is told before anything is measured.
    let nowhere = scratch.path().join("none/load.hgrm");
    let said = super::refused(&broker, &format!("--latency-file {} -t 100000", nowhere.display()));
    assert!(said.contains("creating "), "{said}");
}
