//! What an exchange is and what its types show of it. None of it is in RabbitMQ.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `GET /api/exchanges-info/{vhost}/{exchange}`: an exchange from the inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExchangeInfoJson {
    /// Its name.
    pub name: String,
    /// Its virtual host.
    pub vhost: String,
    /// The type that it was declared with.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// How many bindings it has as a source.
    pub bindings: usize,
    /// How many messages it holds.
    pub held: u64,
    /// How many messages its types did not accept.
    pub rejected: u64,
    /// Its types, those in front first.
    pub types: Vec<LayerInfoJson>,
}

/// One of the types of an exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerInfoJson {
    /// Its name.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The plugin that serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The plugin's version, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the plugin shows of the exchange: at most 64 fields, as it names them.
    #[serde(default)]
    pub info: Map<String, Value>,
    /// Why it shows nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `PUT /api/exchanges-arguments/{vhost}/{exchange}`: changes arguments of an exchange in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigureJson {
    /// Arguments that are added, or get another value.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub set: Map<String, Value>,
    /// Arguments that go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfiguredJson {
    /// All arguments that the exchange has now.
    pub arguments: Map<String, Value>,
    /// How often they were changed since it was declared.
    pub changes: u64,
}
