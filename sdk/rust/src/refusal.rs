//! Why something is refused.

use std::fmt;

/// Why a declaration, a binding or an attachment is refused. The broker makes a text of it for the
/// client, who gets 406, or for the operator.
///
/// ```
/// # use leveret_sdk::Refusal;
/// fn port(text: &str) -> Result<u16, Refusal> {
///     text.parse().map_err(|_| Refusal::invalid_argument("x-port", "must be a port"))
/// }
/// assert_eq!(port("seven").unwrap_err().to_string(), "argument 'x-port' must be a port");
/// assert_eq!(Refusal::from("not today").to_string(), "not today");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The argument of this name is missing.
    MissingArgument(String),
    /// An argument is not usable.
    InvalidArgument {
        /// Its name.
        name: String,
        /// Why, so that it can follow the name: `must be an integer, not text`.
        reason: String,
    },
    /// Something that this plugin does not do.
    Unsupported(String),
    /// Any other reason.
    Other(String),
}

impl Refusal {
    /// A refusal for a reason in words.
    pub fn new(reason: impl Into<String>) -> Self {
        Self::Other(reason.into())
    }

    /// A refusal for any other reason: [`Self::new`] by the name of its case.
    pub fn other(reason: impl Into<String>) -> Self {
        Self::Other(reason.into())
    }

    /// A refusal because an argument is missing.
    pub fn missing_argument(name: impl Into<String>) -> Self {
        Self::MissingArgument(name.into())
    }

    /// A refusal because an argument is not usable.
    pub fn invalid_argument(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidArgument { name: name.into(), reason: reason.into() }
    }

    /// A refusal because this plugin does not do that.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported(what.into())
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::new(reason)
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingArgument(name) => write!(f, "argument '{name}' is missing"),
            Self::InvalidArgument { name, reason } => write!(f, "argument '{name}' {reason}"),
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Refusal {}
