//! Limits that several rooms share, each with its unit in its name.

/// The largest message body, in bytes: RabbitMQ's default of 16 MiB.
pub const MESSAGE_BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How deep lists and tables may nest in arguments and headers.
pub const VALUE_DEPTH_MAX: usize = 32;
