//! The JSON of the API.
//!
//! Fields have the names and types that RabbitMQ 4.3 gives them; a field that is not here is one
//! that this broker could only make up. The types of `/api/plugins` are our own. Names that are not
//! UTF-8 are shown with replacement characters.

pub mod candidates;
pub mod connections;
pub mod exchange_info;
pub mod explain;
pub mod interceptors;
pub mod later;
pub mod policies;
pub mod refused;
pub mod seen;
pub mod users;
pub mod versions;
pub mod warnings;

use candidates::{CandidateStateJson, PinJson};
use connections::ConsumerJson;
use refused::RefusedJson;
use seen::{CallsJson, PluginInVhostJson};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// The only type of queue there is.
pub const QUEUE_TYPE: &str = "classic";

/// Any error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorJson {
    /// The kind of error.
    pub error: String,
    /// Why, for people to read.
    pub reason: String,
}

/// `GET /api/whoami`.
#[derive(Clone, Debug, Serialize)]
pub struct WhoamiJson {
    /// The user's name; `http-token` for who showed the token.
    pub name: String,
    /// What the user may do.
    pub tags: Vec<String>,
    /// The broker knows the user itself.
    pub is_internal_user: bool,
}

/// `GET /api/overview`.
#[derive(Clone, Debug, Serialize)]
pub struct OverviewJson {
    /// The broker's name.
    pub product_name: String,
    /// The broker's version.
    pub product_version: String,
    /// The same again, as tools look for it.
    pub management_version: String,
    #[allow(missing_docs, reason = "see `management_version`")]
    pub rabbitmq_version: String,
    /// The only node; for those who monitor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Where this API is; likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contexts: Option<Vec<ContextJson>>,
    /// As clients are told it.
    pub cluster_name: String,
    /// How rates are told: `basic`.
    pub rates_mode: &'static str,
    /// Whether there are no rates: never. NServiceBus does not start without being told.
    pub disable_stats: bool,
    /// Whether there are the sums of queues all the same, as RabbitMQ says it where there are rates.
    pub enable_queue_totals: bool,
    /// The type of a queue that names none.
    pub default_queue_type: &'static str,
    /// The exchange types, by name.
    pub exchange_types: Vec<ExchangeTypeJson>,
    /// How many there are of each kind.
    pub object_totals: ObjectTotalsJson,
    /// How many quorum queues have a single replica, which is all of them; not in RabbitMQ, and only if there are some.
    #[serde(skip_serializing_if = "is_zero")]
    pub quorum_queues_with_one_replica: u64,
    /// The messages of all queues.
    pub queue_totals: QueueTotalsJson,
    /// What was published and handed out on all channels that there are and were, and how much a second.
    pub message_stats: Map<String, Value>,
    /// What came and went.
    pub churn_rates: Map<String, Value>,
    /// Where clients connect; for those who monitor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<ListenerJson>>,
}

/// Where an HTTP API is.
#[derive(Clone, Debug, Serialize)]
pub struct ContextJson {
    /// What is there.
    pub description: &'static str,
    /// On which node.
    pub node: String,
    /// Where.
    pub ip: IpAddr,
    #[allow(missing_docs, reason = "a text, as in RabbitMQ")]
    pub port: String,
    #[allow(missing_docs, reason = "see `ip`")]
    pub path: &'static str,
}

/// An exchange type in the overview.
#[derive(Clone, Debug, Serialize)]
pub struct ExchangeTypeJson {
    /// Its name.
    pub name: String,
    /// One line of help.
    pub description: String,
    /// Whether a plugin serves it.
    pub enabled: bool,
}

/// How many there are of each kind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ObjectTotalsJson {
    /// AMQP connections.
    pub connections: usize,
    /// Their channels.
    pub channels: usize,
    /// Consumers of all queues; for those who monitor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<u64>,
    /// Exchanges, default exchanges included.
    pub exchanges: usize,
    /// Queues.
    pub queues: usize,
}

/// The messages of all queues.
#[derive(Clone, Debug, Serialize)]
pub struct QueueTotalsJson {
    /// How many.
    #[serde(flatten)]
    pub messages: MessagesJson,
    /// How many more a second.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

/// Counts of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MessagesJson {
    /// All of them.
    pub messages: u64,
    /// Those that wait for a consumer.
    pub messages_ready: u64,
    /// Those that were delivered or are on their way, and are not settled.
    pub messages_unacknowledged: u64,
}

/// A socket that listens.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerJson {
    /// On which node.
    pub node: String,
    /// `amqp` or `http`.
    pub protocol: &'static str,
    /// Its address.
    pub ip_address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it wants TLS.
    pub tls: bool,
}

/// A virtual host.
#[derive(Clone, Debug, Serialize)]
pub struct VhostJson {
    /// Its name.
    pub name: String,
    /// The type of a queue that names none.
    pub default_queue_type: &'static str,
    /// What people said of it.
    pub description: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// All three again, where newer tools look for them.
    pub metadata: Value,
    /// Whether what goes through it is copied for people to look at: never.
    pub tracing: bool,
    /// On which nodes it is, and how it is there.
    pub cluster_state: Map<String, Value>,
    /// It is not deleted.
    pub protected_from_deletion: bool,
    /// The messages of its queues.
    #[serde(flatten)]
    pub messages: MessagesJson,
    /// What was published and handed out on channels in it, if anything was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<Map<String, Value>>,
}

/// An exchange.
#[derive(Clone, Debug, Serialize)]
pub struct ExchangeJson {
    /// Its name; empty for the default exchange.
    pub name: String,
    /// Its virtual host.
    pub vhost: String,
    /// The name of its type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Survives a restart, once anything does.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Only exchanges publish to it.
    pub internal: bool,
    /// What it was declared with.
    pub arguments: Map<String, Value>,
    /// The policy that applies to it, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What clients published to it, if they did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<Map<String, Value>>,
}

/// A queue.
#[derive(Clone, Debug, Serialize)]
pub struct QueueJson {
    /// Its name.
    pub name: String,
    /// Its virtual host.
    pub vhost: String,
    /// The node that it is on.
    pub node: String,
    /// Its type.
    #[serde(rename = "type")]
    pub queue_type: &'static str,
    /// `running`.
    pub state: &'static str,
    /// Survives a restart, once anything does.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// Of one connection alone.
    pub exclusive: bool,
    /// What it was declared with.
    pub arguments: Map<String, Value>,
    /// The policy that applies to it, or null, as for the next.
    pub policy: Option<String>,
    /// The operator's policy.
    pub operator_policy: Option<String>,
    /// What both come to.
    pub effective_policy_definition: Map<String, Value>,
    /// How often a message may be delivered in vain, -1 for ever; of quorum queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_limit: Option<i64>,
    /// How many consumers it has.
    pub consumers: u64,
    /// The tag of its only consumer, if that admits no other. Null if there is none, where it is told of alone, as for the
    /// next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive_consumer_tag: Option<Value>,
    /// The tag of the one that is served, if it has a single active consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub single_active_consumer_tag: Option<Value>,
    /// Where its replicas are, if it is a quorum queue.
    #[serde(flatten)]
    pub replicas: Option<ReplicasJson>,
    /// Its messages.
    #[serde(flatten)]
    pub messages: MessagesJson,
    /// How many more a second.
    #[serde(flatten)]
    pub details: Map<String, Value>,
    /// What it took and handed out, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<Map<String, Value>>,
    /// Its consumers, where it is told of alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_details: Option<Vec<ConsumerJson>>,
    /// Dead letters that were refused too often and are set aside; not in RabbitMQ, and only if there are some.
    #[serde(skip_serializing_if = "is_zero")]
    pub dead_letters_set_aside: u64,
    /// Messages that were in the store and could not be read from there; not in RabbitMQ, and only if there are some.
    #[serde(skip_serializing_if = "is_zero")]
    pub messages_unreadable: u64,
}

/// Where the replicas of a quorum queue are.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicasJson {
    /// The one that decides.
    pub leader: String,
    /// All.
    pub members: [String; 1],
    /// Those that are there.
    pub online: [String; 1],
}

impl ReplicasJson {
    /// There is no replication: one, on this node.
    pub(crate) fn only(node: String) -> Self {
        Self { leader: node.clone(), members: [node.clone()], online: [node] }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A binding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BindingJson {
    /// The exchange that it leads from.
    pub source: String,
    /// The virtual host of both ends.
    pub vhost: String,
    /// The queue or exchange that it leads to.
    pub destination: String,
    /// Which of the two.
    pub destination_type: DestinationType,
    /// The binding key.
    pub routing_key: String,
    /// What it was bound with.
    pub arguments: Map<String, Value>,
    /// Tells it from other bindings of the same ends, in a form that fits into a path. Its parts
    /// mean nothing to anybody but the broker.
    pub properties_key: String,
}

/// What a binding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DestinationType {
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
}

/// `GET /api/plugins`, `GET /api/plugins/{type}`: an exchange type and what serves it, or a file that was
/// refused and of which nothing with a type serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginJson {
    /// The name of the exchange type; empty for a file that was refused.
    #[serde(rename = "type")]
    pub type_name: String,
    /// For whom it is there: `shipped`, `global`, or a virtual host.
    #[serde(default)]
    pub scope: String,
    /// Whether it is served.
    pub state: PluginState,
    /// The plugin that provided it, while nothing serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_plugin: Option<String>,
    /// How many exchanges have the type.
    pub exchanges: usize,
    /// What serves it, while something does.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<ServingJson>,
    /// Why nothing serves it, or why some virtual host is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The type that stands in when its plugin fails or is parked, in the first virtual host that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// What calls came to, in all virtual hosts that have it from there.
    #[serde(default)]
    pub calls: CallsJson,
    /// The memory of its plugin's instances in these virtual hosts, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// What is remembered of its plugin's answers there, in bytes.
    #[serde(default)]
    pub remembered_bytes: u64,
    /// The virtual hosts that have it; not in the list of all types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vhosts: Vec<PluginInVhostJson>,
    /// The version that is tried beside the one that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<BesideJson>,
    /// The exchanges that stay on a version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<PinJson>,
    /// Newer files of its plugin that were refused, so that the one that serves serves on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedJson>,
}

/// A version that is tried beside the one that serves, in short; `/api/plugins-candidates` has all of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BesideJson {
    /// How it stands.
    pub state: CandidateStateJson,
    /// Its version, as it says itself.
    pub version: String,
    /// Of a canary, the share of routing keys that it answers for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// The virtual hosts in which it was withdrawn by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn_in: Vec<String>,
}

/// Whether an exchange type is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginState {
    /// A plugin routes for it.
    Serving,
    /// Its plugin is gone; its exchanges wait for another.
    Parked,
    /// A plugin routes for it whose calls take long: beside the workers, in the slow lane.
    Slow,
    /// Its plugin failed so often that some worker does not ask it for a while.
    Quarantined,
    /// No type: a file that was not taken.
    Refused,
    /// A state that this program does not know, told by a newer broker.
    #[serde(other)]
    Unknown,
}

/// The version of a plugin that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingJson {
    /// Its file's name, or the type's for one that came with the broker.
    pub plugin: String,
    /// Its version, as it says itself.
    pub version: String,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub digest: String,
    /// Which of wasmtime's compilers made its code: `cranelift` or `winch`.
    pub compiler: String,
    /// It came with the broker.
    pub builtin: bool,
    /// One line of help, by the plugin.
    pub summary: String,
    /// Its decisions depend on nothing but message and bindings, so they are remembered.
    pub pure: bool,
    /// It claims that its decisions can be remembered, and was found wrong.
    #[serde(default)]
    pub purity_withdrawn: bool,
}
