//! Files of plugins that were not taken. Not in RabbitMQ.

use serde::{Deserialize, Serialize};

/// A file that does not serve as it is; told until it is replaced or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedJson {
    /// The file, or a folder none of whose files is taken.
    pub file: String,
    /// The plugin that it would be: the file's name without `.wasm`.
    pub plugin: String,
    /// For whom it would serve: `global`, or a virtual host.
    pub scope: String,
    /// The virtual host that did not take it, where others did: it has the version that serves instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    /// The stage that it did not pass.
    pub stage: String,
    /// Why, for people to read.
    pub reason: String,
    /// When it was refused for that reason first, in milliseconds since 1970.
    pub since_ms: u64,
    /// The version of the file that serves instead, as it describes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_version: Option<String>,
    /// Of its bytes, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_digest: Option<String>,
}

/// `POST /api/plugins-retry`: tries what was refused of a plugin once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryJson {
    /// The plugin's name.
    pub plugin: String,
    /// In this virtual host: its own plugin, or the global one that it did not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetriedJson {
    /// The plugin's name.
    pub plugin: String,
    /// The version that serves now, if its file was refused before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The virtual hosts that have the newer version now.
    pub moved: Vec<String>,
    /// Those that still do not take it.
    pub held_back: Vec<HeldBackJson>,
}

/// A virtual host that stays on an older version of a global plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBackJson {
    /// The virtual host.
    pub vhost: String,
    /// The stage that the newer one did not pass there.
    pub stage: String,
    /// Why, for people to read.
    pub reason: String,
}
