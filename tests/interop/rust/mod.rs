//! lapin and amqprs, in the test's own process.

mod amqprs;
mod errors;
mod exchanges;
mod messages;
mod recovery;
mod session;
