//! Limits that several rooms share, each with its unit in its name.

/// The largest message body, in bytes: RabbitMQ's default of 16 MiB.
pub const MESSAGE_BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How deep lists and tables may nest in arguments and headers.
pub const VALUE_DEPTH_MAX: usize = 128;

/// The longest time to live and the longest time that a queue stays unused, in milliseconds: ten years, as in
/// RabbitMQ.
pub const EXPIRY_MS_MAX: u64 = 315_360_000_000;
