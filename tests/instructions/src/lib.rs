//! A connection and the broker behind it, driven by bytes in one thread: what instructions are counted of. The programs
//! that count are this package's own and the benchmark `twin` of the plugin boundary.

pub mod broker;
pub mod world;
