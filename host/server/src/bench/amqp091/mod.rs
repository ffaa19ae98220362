//! The bytes of a load by AMQP 0-9-1.

mod confirms;
mod consumer;
mod link;
mod publisher;

pub(super) use consumer::consumer;
pub(super) use link::Link;
pub use link::Product;
pub(super) use publisher::{publisher, put_message};
