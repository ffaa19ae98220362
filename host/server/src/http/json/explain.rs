//! `POST /api/plugins/explain`: a message, and where it would go.

use super::DestinationType;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The message.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainRequest {
    /// The virtual host.
    pub vhost: String,
    /// The exchange that it would be published to; `""` and `amq.default` are the default exchange.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its headers.
    pub headers: Map<String, Value>,
    /// Its other properties.
    pub properties: PropertiesJson,
    /// Its body.
    pub body: String,
    /// Its publisher wants it back if there is no queue for it.
    pub mandatory: bool,
}

/// Properties of a message, as RabbitMQ's API calls them; a hyphen may stand for an underscore.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are AMQP's")]
pub struct PropertiesJson {
    #[serde(alias = "content-type")]
    pub content_type: Option<String>,
    #[serde(alias = "content-encoding")]
    pub content_encoding: Option<String>,
    #[serde(alias = "delivery-mode")]
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    #[serde(alias = "correlation-id")]
    pub correlation_id: Option<String>,
    #[serde(alias = "reply-to")]
    pub reply_to: Option<String>,
    pub expiration: Option<String>,
    #[serde(alias = "message-id")]
    pub message_id: Option<String>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    #[serde(rename = "type")]
    pub message_type: Option<String>,
    #[serde(alias = "user-id")]
    pub user_id: Option<String>,
    #[serde(alias = "app-id")]
    pub app_id: Option<String>,
}

/// Where it would go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplanationJson {
    /// The interceptors that were asked on publish, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intercepted: Vec<AskedInterceptorJson>,
    /// The routing key it went on with, where interceptors changed the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub went_on_with_key: Option<String>,
    /// The exchanges that were asked, in order.
    pub steps: Vec<StepJson>,
    /// The queues that would get it.
    pub queues: Vec<String>,
    /// The exchanges that would hold it.
    pub holds: Vec<HeldByJson>,
    /// The queues that what is held would go to if its time were now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub due_queues: Vec<String>,
    /// `routed`, `unroutable`, `dropped`, `rejected` (a negative confirm), `refused` (an error of the
    /// channel), or `later` if a type answers later.
    pub outcome: String,
    /// Why it would be rejected or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An exchange that would hold the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldByJson {
    /// Its name.
    pub exchange: String,
    /// For how long, in milliseconds.
    pub delay_ms: u64,
}

/// An exchange that was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepJson {
    /// Its name; empty for the default exchange.
    pub exchange: String,
    /// It was asked as if the time of a held message had come.
    #[serde(default)]
    pub when_due: bool,
    /// Its types, those in front first, as far as they were asked.
    pub asked: Vec<AskedJson>,
    /// The exchange that was turned to because this one had no destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternate_exchange: Option<String>,
}

/// The version of a plugin that was asked; nothing where none is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhomJson {
    /// The plugin that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Its version, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The first digits of its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Workers answer such messages from memory, once they have asked.
    pub pure: bool,
}

/// A type that was asked, and what it said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AskedJson {
    /// Its name.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Its place in the exchange's chain of types; 0 is the front.
    pub layer: u8,
    /// It stands in for the type at that place, which could not answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stands_in: bool,
    /// Who was asked.
    #[serde(flatten)]
    pub whom: WhomJson,
    /// Why this version: `canary` or `pinned`; not there for the one that serves the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    /// Some worker answers such a message from memory now.
    pub remembered: bool,
    /// How many do.
    #[serde(default)]
    pub remembered_by: usize,
    /// How many were asked whether they do.
    #[serde(default)]
    pub workers: usize,
    /// `deliver`, `drop`, `reject`, `delegate`, `hold`, `failed` or `later`.
    pub answer: String,
    /// Why it drops, rejects or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the operator wants to become of messages where it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// For how long it holds the message, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// What it wants the broker to do besides, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
    /// The bindings it delivers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<NamedBindingJson>,
    /// How many ids it named that are no bindings.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dead_ids: usize,
}

/// An interceptor that was asked, and what became of the message there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedInterceptorJson {
    /// Its name.
    pub interceptor: String,
    /// Who was asked.
    #[serde(flatten)]
    pub whom: WhomJson,
    /// `pass`, `patch`, `drop`, `reject`, `unroutable` or `later`.
    pub verdict: String,
    /// Why it failed or could not be asked; the verdict is then what the operator wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Why it rejects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it changes, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

/// A binding that a type named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedBindingJson {
    /// Its number within its exchange.
    pub id: u64,
    /// The queue or exchange it leads to.
    pub destination: String,
    /// Which of the two.
    pub destination_type: DestinationType,
    /// The binding key.
    pub routing_key: String,
    /// What it was bound with.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub arguments: Map<String, Value>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}
