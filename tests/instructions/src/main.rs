//! How many instructions a message costs in the broker, step by step, counted by callgrind.
//!
//! `cargo run --release` counts each step, prints a table, and fails if one costs more than its bound in `bounds.txt`
//! allows. Wall time on a shared machine cannot tell a loss of five in a hundred; a count can. What is counted: the
//! protocol, routing through the default exchange, the queue, deliveries, acknowledgements, the store. Not: sockets,
//! tasks, plugins.

mod allocations;
mod count;
mod growth;
mod journal;
mod steps;
mod steps10;
mod world10;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        None => count::check_all(false),
        Some("--write") => count::check_all(true),
        Some("run") => {
            let load = arguments.next().unwrap_or_default();
            let known = steps::run(&load).or_else(|| steps10::run(&load));
            known.or_else(|| growth::run(&load)).or_else(|| journal::run(&load)).unwrap_or_else(|| {
                eprintln!("there is no load '{load}'");
                std::process::ExitCode::FAILURE
            })
        }
        Some(other) => {
            eprintln!("'{other}' is nothing to do; without an argument all steps are counted");
            std::process::ExitCode::FAILURE
        }
    }
}
