//! What an operator should know. None of it is in RabbitMQ.

use serde::{Deserialize, Serialize};

/// `GET /api/plugins-warnings`: something that will not work as the configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarningJson {
    /// The kind of it.
    pub about: AboutJson,
    /// What and where, for people to read.
    pub text: String,
    /// What there is instead, or what to do, for people to read.
    pub hint: String,
}

/// The kind of a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AboutJson {
    /// An interceptor is attached that no plugin provides there.
    NoInterceptor,
    /// The configuration speaks of a plugin that is not there.
    NoPlugin,
    /// A plugin imports what it is not granted.
    NotGranted,
    /// A kind that this program does not know, told by a newer broker.
    #[serde(other)]
    Unknown,
}
