//! The bytes of a load by AMQP 1.0: one session with one link.
//!
//! Addresses are RabbitMQ's (its "address v2"). Where all messages have the same key, the link leads there; else it
//! leads nowhere in particular, and each message has its address in `to`.

mod consumer;
mod link;
mod publisher;

pub(super) use consumer::{CREDIT, consumer};
pub(super) use link::Link;
pub(super) use publisher::publisher;
