//! lapin, in the test's own process.

mod errors;
mod exchanges;
mod messages;
mod session;
