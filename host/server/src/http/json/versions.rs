//! The versions of a plugin that served, and the way back. None of it is in RabbitMQ.

use serde::{Deserialize, Serialize};

/// `GET /api/plugins-versions/{plugin}`: the versions that can be gone back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionsJson {
    /// The plugin's name: its file's without `.wasm`.
    pub plugin: String,
    /// For whom it is there: `global`, or a virtual host.
    pub scope: String,
    /// The newest first.
    pub versions: Vec<VersionJson>,
}

/// A version that serves or served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionJson {
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub digest: String,
    /// Its version, as it said itself.
    pub version: String,
    /// It serves now.
    pub serving: bool,
    /// When it began to serve last, in milliseconds since 1970.
    pub since_ms: u64,
}

/// `POST /api/plugins-rollback`: puts a kept version into service: the one before the one that serves,
/// unless another is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackJson {
    /// The plugin's name.
    pub plugin: String,
    /// Of this virtual host's own plugins; without it, of those for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    /// The version, as it describes itself, or the first hexadecimal digits of its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The newest: forward again. Not with `to`.
    #[serde(default)]
    pub newest: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WentBackJson {
    /// The plugin's name.
    pub plugin: String,
    /// For whom it is there.
    pub scope: String,
    /// The version that serves now.
    pub version: String,
    /// Of its bytes.
    pub digest: String,
    /// The version that served before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_version: Option<String>,
    /// Of its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_digest: Option<String>,
    /// How many exchanges it took.
    pub exchanges: usize,
    /// How many bindings they have.
    pub bindings: usize,
    /// It is a newer version than the one that served before.
    #[serde(default)]
    pub forward: bool,
    /// How many states were migrated.
    #[serde(default)]
    pub states_migrated: usize,
    /// How many states are again what was left in the form of that version, before a newer one migrated them.
    #[serde(default)]
    pub states_restored: usize,
    /// How many are nothing again: they began with a version after the one that serves now.
    #[serde(default)]
    pub states_emptied: usize,
    /// How many values and messages that were kept since are discarded for both.
    #[serde(default)]
    pub discarded_entries: u64,
    /// What these took, in bytes.
    #[serde(default)]
    pub discarded_bytes: u64,
    /// The file in the folder, which stays there.
    pub file: String,
    /// That file is not taken until it is another one, was removed, or somebody goes to it.
    #[serde(default)]
    pub file_left_out: bool,
}
