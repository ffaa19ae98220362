//! Why a WASI call ended the instance that made it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The plugin's own doing: it called for what the empty room does not have, or broke a
/// rule of the interface. Found in a `wasmtime::Error` by `downcast_ref`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WasiTrap {
    /// A function that the broker does not provide.
    NotProvided {
        /// Interface, version and function.
        import: Arc<str>,
    },
    /// The plugin ended itself.
    Exited {
        /// Interface, version and function.
        import: Arc<str>,
        /// 0 is success.
        status: u8,
    },
    /// A list longer than the function takes or gives.
    TooLong {
        /// Interface, version and function.
        import: Arc<str>,
        /// What the plugin asked for.
        length_bytes: u64,
        /// What it could have had.
        length_bytes_max: u64,
    },
    /// The interface forbids such a call, or does not have this function in this form.
    Malformed {
        /// Interface, version and function.
        import: Arc<str>,
    },
}

impl fmt::Display for WasiTrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProvided { import } => {
                write!(f, "the plugin called {import}, which the broker does not provide")
            }
            Self::Exited { import, status } => {
                write!(f, "the plugin called {import} and so ended itself with status {status}")
            }
            Self::TooLong { import, length_bytes, length_bytes_max } => write!(
                f,
                "the plugin called {import} for {length_bytes} bytes, of which it can have {length_bytes_max} at a time"
            ),
            Self::Malformed { import } => {
                write!(f, "the plugin called {import} in a way the interface does not allow")
            }
        }
    }
}

impl Error for WasiTrap {}
