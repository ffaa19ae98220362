//! Interceptors, and where they are attached. None of it is in RabbitMQ.

use super::{
    PluginState,
    seen::{FailuresJson, ReasonJson},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `GET /api/plugins-interceptors`: what plugins provide, and what the configuration attaches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InterceptorsJson {
    /// By name.
    pub interceptors: Vec<InterceptorJson>,
    /// In each virtual host, in the order of the configuration.
    pub attachments: Vec<AttachmentJson>,
}

/// An interceptor that a plugin provides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterceptorJson {
    /// Its name in the configuration.
    pub interceptor: String,
    /// For whom it is there: `shipped`, `global`, or a virtual host.
    pub scope: String,
    /// The plugin's name.
    pub plugin: String,
    /// Its version, as it says itself.
    pub version: String,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub digest: String,
    /// One line of help, by the plugin.
    pub summary: String,
    /// Where it can be attached: `publish`, `deliver`, `dead-letter`.
    pub points: Vec<String>,
    /// Its verdicts are remembered.
    pub pure: bool,
}

/// An interceptor in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttachmentJson {
    /// The interceptor.
    pub interceptor: String,
    /// The virtual host.
    pub vhost: String,
    /// `publish`, `deliver` or `dead-letter`.
    pub point: String,
    /// The exchanges, or on deliver and dead-letter the queues; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<String>,
    /// The lower is asked first.
    pub order: i64,
    /// What becomes of a message when it fails.
    pub on_failure: String,
    /// What it is opened with.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Whether it is asked.
    pub state: PluginState,
    /// The plugin that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why nobody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Messages answered from memory.
    pub remembered: u64,
    /// Messages that the plugin was asked about.
    pub asked: u64,
    /// Calls for them.
    pub calls: u64,
    /// Messages that met the failure policy.
    pub failed: u64,
    /// Messages that were changed.
    pub changed: u64,
    /// Messages that were dropped.
    pub dropped: u64,
    /// Messages that were not accepted.
    pub rejected: u64,
    /// How the plugin failed there, with all that it provides.
    pub failures: FailuresJson,
    /// What the plugin's interceptors dropped there, the latest reason first.
    #[serde(default)]
    pub drops: Vec<ReasonJson>,
    /// What they did not accept, the latest reason first.
    #[serde(default)]
    pub rejections: Vec<ReasonJson>,
}
