//! Runs one suite of cases against the broker that AMQP_URL names.
//!
//! Prints `ok NAME` or `FAIL NAME: why` for each case; the exit code is 1 when a case failed.
//!
//! ```sh
//! AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f interop messages
//! ```

mod harness;
mod messages;
mod outcomes;
mod recovery;
mod transactions;

use harness::Case;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let suite = std::env::args().nth(1);
    let cases: Vec<(&str, Case)> = match suite.as_deref() {
        Some("messages") => messages::cases(),
        Some("outcomes") => outcomes::cases(),
        Some("transactions") => transactions::cases(),
        Some("recovery") => recovery::cases(),
        _ => {
            eprintln!("usage: interop messages|outcomes|transactions|recovery");
            return ExitCode::from(2);
        }
    };
    harness::run(cases).await
}
