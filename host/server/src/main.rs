//! The `leveret` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    leveret_server::cli::run()
}
