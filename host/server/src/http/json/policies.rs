//! Policies, as RabbitMQ's API has them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// `GET /api/policies/{vhost}/{policy}`, `GET /api/operator-policies/{vhost}/{policy}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyJson {
    /// Where it holds.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// In which names it is looked for.
    pub pattern: String,
    /// What it is for.
    pub apply_to: String,
    /// What it says.
    pub definition: Map<String, Value>,
    /// Of several that would apply the greatest counts.
    pub priority: Number,
    /// The configuration declares it. Not in RabbitMQ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub declared: bool,
}
