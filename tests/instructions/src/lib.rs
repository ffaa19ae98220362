//! A connection and the broker behind it, driven by bytes in one thread: what instructions are counted of; and how they are
//! counted and guarded. The programs that do so are this package's own and `tests/twin`.

pub mod broker;
pub mod guard;
pub mod world;
