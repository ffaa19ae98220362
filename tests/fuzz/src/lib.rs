//! What is fuzzed, and the inputs that it begins with.

pub mod amqp10;
pub mod checks;
pub mod filter;
pub mod seeds;
