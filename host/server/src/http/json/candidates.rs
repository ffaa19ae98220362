//! `/api/plugins-candidates` and `/api/plugins-pins`: versions that are tried beside those that serve, and
//! exchanges that stay on a version.

use serde::{Deserialize, Serialize};

/// The candidate of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateJson {
    /// The plugin's name: its file's without `.wasm`.
    pub plugin: String,
    /// For whom the plugin is there: `global`, or a virtual host.
    pub scope: String,
    /// How it stands.
    pub state: CandidateStateJson,
    /// Its version, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// SHA-256 of its bytes, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Since when it is there, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// The exchange types it provides.
    #[serde(default)]
    pub types: Vec<String>,
    /// Of a canary, the share of routing keys that it answers for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Of a canary, the only virtual host in which it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    /// The virtual hosts in which a canary was withdrawn by itself: it is asked nothing there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn_in: Vec<LeftOutJson>,
    /// Why it is withdrawn by itself everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The virtual hosts that do not take it: it is not asked there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOutJson>,
    /// Why the last file was not taken; an older one may be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedJson>,
    /// What was compared, against the version that serves now.
    #[serde(default)]
    pub shadow: ShadowJson,
    /// What the canary answered.
    #[serde(default)]
    pub canary: CanaryJson,
    /// The last failure, in shadow or as a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The latest messages that both versions answer differently, each exchange and key once.
    #[serde(default)]
    pub differences: Vec<DifferenceJson>,
}

/// A virtual host in which a candidate is not asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutJson {
    /// The virtual host.
    pub vhost: String,
    /// Why, for people to read.
    pub reason: String,
}

/// How a candidate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CandidateStateJson {
    /// It is asked too, and its answers are not used.
    Shadow,
    /// It answers for a share of routing keys.
    Canary,
    /// It failed as a canary, and is asked nothing any more.
    Withdrawn,
    /// No file was taken.
    Refused,
    /// A state that this program does not know, told by a newer broker.
    #[serde(other)]
    Unknown,
}

/// A file that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedJson {
    /// The stage that refused it.
    pub stage: String,
    /// Why.
    pub reason: String,
}

/// What a shadow was asked, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowJson {
    /// Those whose answers were compared.
    pub compared: u64,
    /// Those with the same answer.
    pub equal: u64,
    /// Those with another one.
    pub different: u64,
    /// Those it failed on.
    pub failed: u64,
    /// Those it was not asked about.
    pub not_asked: u64,
}

/// What a canary was asked, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryJson {
    /// Those it answered.
    pub answered: u64,
    /// Those of them that were answered from memory.
    pub remembered: u64,
    /// Those it failed on; the version that serves answered.
    pub failed: u64,
}

/// A message that two versions answer differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceJson {
    /// The virtual host.
    pub vhost: String,
    /// The exchange.
    pub exchange: String,
    /// Which of its types was asked.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The message's routing key.
    pub routing_key: String,
    /// What the version that serves answered.
    pub serving: String,
    /// What the candidate answers.
    pub candidate: String,
}

/// `PUT /api/plugins-candidates`: what is to become of a candidate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidateOrderJson {
    /// The plugin's name.
    pub plugin: String,
    /// Whose own plugin it is; for a canary of a plugin for all, the only virtual host in which it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    /// What.
    pub order: OrderJson,
    /// For a canary: the share of routing keys, from 0.01 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
}

/// What is to become of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderJson {
    /// It is to be in shadow.
    Shadow,
    /// It is to answer for a share of routing keys.
    Canary,
    /// It is to serve.
    Promote,
    /// It is to be no candidate any more.
    Withdraw,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateOrderedJson {
    /// For whom the plugin is there.
    pub scope: String,
    /// The candidate's version, as it says itself; not there where its file was never taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// SHA-256 of its bytes, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Where its file lies now, if it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// An exchange that stays on a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinJson {
    /// The virtual host.
    pub vhost: String,
    /// The exchange.
    pub exchange: String,
    /// Its type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The plugin.
    pub plugin: String,
    /// For whom the plugin is there.
    pub scope: String,
    /// The version, as it says itself.
    pub version: String,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub digest: String,
    /// It is the one that serves the other exchanges too.
    pub serving: bool,
    /// The exchange is not there; it stays on that version when it is declared.
    #[serde(default)]
    pub waiting: bool,
    /// Why that version cannot serve it, so that it is parked, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Why the pin will not hold after a restart, if so; told to who pins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

/// `PUT /api/plugins-pins/{vhost}/{exchange}`: which version it is to stay on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinOrderJson {
    /// `current`, a kept version as it describes itself, or the first hexadecimal digits of its digest.
    pub version: String,
}

/// `DELETE /api/plugins-pins/{vhost}/{exchange}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpinnedJson {
    /// False if it was not pinned.
    pub unpinned: bool,
    /// Why it will not hold after a restart, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}
