//! What is seen of a plugin in a virtual host, of switches and of held messages. None of it is in
//! RabbitMQ.

use super::{PluginState, ServingJson};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /api/plugins/{type}/vhosts/{vhost}`: an exchange type as a virtual host has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginInVhostJson {
    /// The virtual host.
    pub vhost: String,
    /// The exchange type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Whether it is served.
    pub state: PluginState,
    /// For whom its plugin is there, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// What serves it, while something does.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<ServingJson>,
    /// Why nothing serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What becomes of messages when its plugin fails, as in the configuration; none without a plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// The type that stands in when its plugin fails or is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// How many exchanges have the type.
    pub exchanges: usize,
    /// How many messages these exchanges hold because this type said so.
    pub held: u64,
    /// Of those, how many are set aside because their exchange refused them too often.
    #[serde(default)]
    pub held_stuck: u64,
    /// How many messages these exchanges did not accept because this type said so.
    pub rejected: u64,
    /// What this type dropped, with its reasons, the latest of each exchange first. What another type of the
    /// same exchange dropped is told of that one.
    pub drops: Vec<ReasonJson>,
    /// What this type did not accept, with its reasons, the latest of each exchange first.
    #[serde(default)]
    pub rejections: Vec<ReasonJson>,
    /// What the calls of its plugin came to.
    pub calls: CallsJson,
    /// How long calls took: the first 64 on each worker, then all about 16 messages or more, and one in 16 of
    /// the others.
    pub call_time: CallTimeJson,
    /// How much CPU time a message takes its plugin now, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_per_message_ns: Option<u64>,
    /// How many questions wait in the slow lane, to all slow plugins of the virtual host.
    #[serde(default)]
    pub waiting_in_lane: u64,
    /// How its plugin failed.
    pub failures: FailuresJson,
    /// How often it reached a limit, by kind.
    #[serde(default)]
    pub limits_hit: LimitsHitJson,
    /// Its instances, over all workers; while a version is replaced, of both versions.
    #[serde(default)]
    pub instances: u64,
    /// The memory of these, in bytes.
    #[serde(default)]
    pub memory_bytes: u64,
    /// What is remembered of its answers and verdicts, over all workers, in bytes.
    #[serde(default)]
    pub remembered_bytes: u64,
    /// What all plugins of the virtual host have together.
    #[serde(default)]
    pub vhost_total: VhostTotalJson,
    /// What the messages take that it holds, in bytes. Of a plugin with several types, for all of them.
    #[serde(default)]
    pub held_bytes: u64,
    /// Messages that it emitted.
    pub emitted: u64,
    /// What its state takes, in bytes.
    pub state_bytes: u64,
    /// How many keys and stored messages it has.
    pub state_entries: u64,
    /// What the state takes that older versions left and that can be gone back to, in bytes.
    #[serde(default)]
    pub state_kept_bytes: u64,
    /// Its own metrics.
    pub metrics: BTreeMap<String, f64>,
    /// How often it used a metric beyond its limit.
    pub metrics_ignored: u64,
}

/// What all plugins of a virtual host have together, and the most, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VhostTotalJson {
    /// The memory of instances, but for those of the core types.
    pub memory_bytes: u64,
    /// The most of that.
    pub memory_bytes_max: u64,
    /// Remembered answers and verdicts.
    pub remembered_bytes: u64,
    /// The most of that.
    pub remembered_bytes_max: u64,
}

/// Messages that were dropped or not accepted for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonJson {
    /// The exchange whose type did that; none for what interceptors did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// Why.
    pub reason: String,
    /// How many.
    pub messages: u64,
}

/// What calls of a plugin came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallsJson {
    /// Messages answered from memory.
    pub remembered: u64,
    /// Messages that it was asked about.
    pub asked: u64,
    /// Calls for them.
    pub calls: u64,
    /// Messages that got no answer because it failed or is not there.
    pub failed: u64,
    /// Ids in its decisions that were no bindings.
    pub dead_ids: u64,
    /// Of the messages that got no answer, those that the fallback type answered.
    #[serde(default)]
    pub stood_in: u64,
}

/// How long calls took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallTimeJson {
    /// Half of the calls took no longer, in nanoseconds; to a factor of two.
    pub p50_ns: Option<u64>,
    /// 99 % of the calls took no longer.
    pub p99_ns: Option<u64>,
    /// How many took how long.
    pub ranges: Vec<TimeRangeJson>,
}

/// Calls that took about as long; each range begins where the one before ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRangeJson {
    /// The end of the range, in nanoseconds; null for the last.
    pub below_ns: Option<u64>,
    /// How many.
    pub calls: u64,
}

/// How a plugin failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailuresJson {
    /// Calls that trapped.
    pub traps: u64,
    /// Calls that used more CPU time than they may.
    pub cpu_limit: u64,
    /// Calls that wanted more memory than they may.
    pub memory_limit: u64,
    /// Answers that break the contract or its limits.
    pub bad_answers: u64,
    /// Instances that could not be made, for any other reason.
    pub others: u64,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When that was, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_ms: Option<u64>,
}

/// How often a plugin reached a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsHitJson {
    /// Calls that used more CPU time than they may.
    pub cpu: u64,
    /// Calls that wanted more memory than they may.
    pub memory: u64,
    /// Values and messages that were not kept, for `state-mib` or `state-entries`.
    pub state: u64,
    /// Messages that were not held, for `held-mib` or `held-messages`.
    pub held: u64,
    /// Messages that were not accepted because there was no room for what it emits or enqueues.
    #[serde(default)]
    pub outgoing: u64,
    /// Lines that were left out of the log.
    pub log_lines: u64,
    /// Uses of a metric beyond the most.
    pub metrics: u64,
}

/// `PUT /api/plugins-switches`: switches plugins off or on again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchJson {
    /// The plugin's name; without it, all plugins but the core exchange types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// In this virtual host alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    /// `false` switches off.
    pub enabled: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchedJson {
    /// False if it was so before.
    pub changed: bool,
    /// Why it will not hold after a restart, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
}

/// `GET /api/holds/{vhost}/{exchange}`: messages that an exchange holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldsJson {
    /// How many in all.
    pub count: usize,
    /// The first of them, by their times, or with `?skip=N` those from that place on: at most 1,000.
    pub holds: Vec<HoldJson>,
}

/// A held message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldJson {
    /// Its number.
    pub id: u64,
    /// When it goes on, in milliseconds since 1970.
    pub due_ms: u64,
    /// How long it is, in bytes.
    pub length_bytes: u64,
    /// The key it was published with.
    pub routing_key: String,
    /// How often it was refused since it was due, or since bindings or plugins changed.
    pub tries: u32,
    /// Why it is set aside, if it was refused too often: tried again when these change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
}

/// `DELETE` of held messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelledJson {
    /// How many are gone.
    pub cancelled: u64,
}
