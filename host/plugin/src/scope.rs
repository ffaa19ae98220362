//! For whom a plugin is there.

use leveret_model::Name;
use std::fmt;

/// For whom a plugin is there. An exchange's type is looked up in its virtual host, then among the
/// global plugins, then among those that came with the broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// It came with the broker.
    Shipped,
    /// A file in the broker's own plugins folder: for every virtual host that may use it.
    Global,
    /// A file in the folder of that virtual host, for it alone.
    Vhost(Name),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shipped => f.write_str("shipped"),
            Self::Global => f.write_str("global"),
            Self::Vhost(name) => write!(f, "vhost '{name}'"),
        }
    }
}

/// The core exchange types: no file may claim them, and no virtual host is without them.
pub const CORE_TYPES: [&str; 4] = ["direct", "fanout", "topic", "headers"];
/// Names of exchange types that belong to the broker for ever begin with this.
pub(crate) const RESERVED_PREFIX: &str = "x-leveret-";
