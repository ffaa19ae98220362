//! Work without a result, for guests that take their time.

use leveret_sdk::{Declaration, Refusal};

/// The argument that says how often to go round: a turn takes some nanoseconds.
pub const ROUNDS: &str = "x-rounds";
/// How often without one: some milliseconds.
const ROUNDS_DEFAULT: i64 = 1_000_000;

/// How often an exchange wants to go round.
///
/// # Errors
/// If the argument is no integer.
pub fn rounds(declaration: &Declaration) -> Result<u64, Refusal> {
    let rounds = declaration.arguments.optional::<i64>(ROUNDS)?;
    Ok(rounds.unwrap_or(ROUNDS_DEFAULT).unsigned_abs())
}

/// Goes round so often.
pub fn be_busy(rounds: u64) {
    for round in 0..rounds {
        std::hint::black_box(round);
    }
}
