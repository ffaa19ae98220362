//! `/metrics`: numbers for Prometheus, by the names that RabbitMQ's plugin gives them where it has them.
//!
//! All numbers are read when somebody asks; nothing is kept up for that. `/metrics` has sums alone, however many queues
//! there are; `/metrics/per-object` has each queue, at most [`QUEUES_MAX`], and says how many it leaves out.
//!
//! What RabbitMQ has and this broker could only make up (Erlang, Raft) is not there.

use super::{Api, error::ApiError, global, nodes, stats};
use crate::{
    amqp10, amqp091,
    store::Pressure,
    traffic::{SIZE_BOUNDS, Totals},
};
use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use leveret_broker::{
    QueueCounts,
    queue::{Queue, QueueKind},
    traffic::{ChannelCounts, HandedOut},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, prometheus_text, text},
    metrics::MetricType,
    registry::Registry,
};
use std::{cmp::Ordering, fmt, sync::Arc};

/// The most queues that are told of one by one.
const QUEUES_MAX: usize = 10_000;
/// The most answers about each queue at a time, from when they are made until their clients have read them; each may
/// have some 10 MB.
pub(super) const OF_QUEUES_AT_ONCE: usize = 4;
/// The numbers of what clients speak, by the label for it.
type ByProtocol = [(&'static str, Totals); 2];
/// The format of who does not ask for another.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`.
pub(super) async fn all(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    answer(of_node(&api), &headers, ())
}

/// `GET /metrics/per-object`.
pub(super) async fn per_object(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let place = api.of_queues.clone().try_acquire_owned().map_err(|_| ApiError::Busy)?;
    Ok(answer(of_queues(&api), &headers, place))
}

/// What is answered, and what it takes until it is sent.
struct Held<P>(String, P);

impl<P> AsRef<[u8]> for Held<P> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// In the format that is asked for. The place is given back once the answer is sent, or its client gone.
fn answer<P: Send + 'static>(families: Families, headers: &HeaderMap, place: P) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let is_open = accepted.contains("application/openmetrics-text");
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families));
    let mut body = String::new();
    let encoded = match is_open {
        true => text::encode(&mut body, &registry),
        false => prometheus_text::encode(&mut body, &registry),
    };
    if encoded.is_err() {
        return axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let body = Bytes::from_owner(Held(body, place));
    ([(header::CONTENT_TYPE, if is_open { OPEN_METRICS } else { PLAIN })], body).into_response()
}

type Labels = Vec<(&'static str, String)>;

/// Metrics with their values, as they were read.
#[derive(Debug, Default)]
struct Families(Vec<Family>);

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    values: Values,
}

/// One histogram: its labels, the numbers of buckets by their upper bounds, and the sum.
type Distribution = (Labels, Vec<(f64, u64)>, f64);

#[derive(Debug)]
enum Values {
    Counter(Vec<(Labels, u64)>),
    Gauge(Vec<(Labels, f64)>),
    Histogram(Vec<Distribution>),
}

impl Families {
    fn add(&mut self, name: &'static str, help: &'static str, values: Values) {
        self.0.push(Family { name, help, values });
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add(name, help, Values::Gauge(vec![(Vec::new(), value)]));
    }

    /// Its name as it is told ends with `_total`.
    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, help, Values::Counter(vec![(Vec::new(), value)]));
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, values } in &self.0 {
            match values {
                Values::Counter(values) => {
                    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
                    for (labels, value) in values {
                        metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                    }
                }
                Values::Gauge(values) => {
                    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                    for (labels, value) in values {
                        metric.encode_family(labels)?.encode_gauge(value)?;
                    }
                }
                Values::Histogram(values) => {
                    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
                    for (labels, buckets, sum) in values {
                        let count = buckets.iter().map(|(_, count)| count).sum();
                        let mut metric = metric.encode_family(labels)?;
                        metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn labels(all: &[(&'static str, &str)]) -> Labels {
    all.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn who(families: &mut Families, api: &Api, endpoint: &str) {
    let (node, session) = (nodes::name(api), &api.shared.session);
    let identity = labels(&[
        ("rabbitmq_node", &node),
        ("rabbitmq_cluster", &global::cluster_name(api)),
        ("rabbitmq_cluster_permanent_id", &session.cluster_name),
        ("rabbitmq_endpoint", endpoint),
    ]);
    families.add("rabbitmq_identity_info", "Node and cluster.", Values::Gauge(vec![(identity, 1.0)]));
    let build = labels(&[("rabbitmq_version", &session.version), ("product", &session.product)]);
    families.add("rabbitmq_build_info", "What runs.", Values::Gauge(vec![(build, 1.0)]));
}

/// Everything, as sums.
fn of_node(api: &Api) -> Families {
    let mut families = Families::default();
    let of = &mut families;
    who(of, api, "aggregated");
    let uptime = api.since.elapsed().as_secs_f64();
    of.gauge("rabbitmq_erlang_uptime_seconds", "How long the node has been up.", uptime);
    let (mut counts, mut queues, mut quorum_queues) = (QueueCounts::default(), 0_usize, 0_usize);
    for queue in api.vhosts().iter().flat_map(|vhost| vhost.queues()) {
        let its = queue.counts();
        counts.ready += its.ready;
        counts.unsettled += its.unsettled;
        counts.consumers += its.consumers;
        queues += 1;
        quorum_queues += usize::from(queue.kind() == QueueKind::Quorum);
    }
    let messages = (counts.ready + counts.unsettled) as f64;
    of.gauge("rabbitmq_queue_messages_ready", "Messages that wait for a consumer.", counts.ready as f64);
    of.gauge(
        "rabbitmq_queue_messages_unacked",
        "Messages that were delivered and are not settled.",
        counts.unsettled as f64,
    );
    of.gauge("rabbitmq_queue_messages", "All messages in queues.", messages);
    of.gauge("rabbitmq_queue_consumers", "Consumers of all queues.", counts.consumers as f64);
    of.gauge("rabbitmq_consumers", "Consumers of all queues.", counts.consumers as f64);
    of.gauge("rabbitmq_global_consumers", "Consumers of all queues.", counts.consumers as f64);
    of.gauge("rabbitmq_queues", "Queues.", queues as f64);
    of.gauge(
        "leveret_quorum_queues_with_one_replica",
        "Quorum queues that are lost with this node, for there is no replication yet: all of them.",
        quorum_queues as f64,
    );
    let live = api.shared.live.list();
    let channels: usize = live.iter().map(|about| about.channels.lock().len()).sum();
    of.gauge("rabbitmq_connections", "Connections.", live.len() as f64);
    of.gauge("rabbitmq_channels", "Channels.", channels as f64);
    churn(of, api);
    let mut totals = api.shared.live.totals();
    let totals = [("amqp091", amqp091::PROTOCOL), ("amqp10", amqp10::PROTOCOL)]
        .map(|(label, protocol)| (label, totals.remove(protocol).unwrap_or_default()));
    global(of, &totals);
    sizes(of, &totals);
    process(of, api);
    families
}

/// What came and went.
fn churn(families: &mut Families, api: &Api) {
    for (name, number) in stats::of_churn(api) {
        let (name, help) = match name {
            "connection_created" => ("rabbitmq_connections_opened", "Connections that were opened."),
            "connection_closed" => ("rabbitmq_connections_closed", "Connections that ended."),
            "channel_created" => ("rabbitmq_channels_opened", "Channels that were opened."),
            "channel_closed" => ("rabbitmq_channels_closed", "Channels that ended."),
            "queue_declared" => ("rabbitmq_queues_declared", "How often queues were declared."),
            "queue_created" => ("rabbitmq_queues_created", "Queues that were made."),
            _ => ("rabbitmq_queues_deleted", "Queues that were deleted."),
        };
        families.counter(name, help, number);
    }
    let churn = api.shared.live.churn();
    let (succeeded, failed) = (churn.logins_succeeded.get(), churn.logins_failed.get());
    families.counter("rabbitmq_auth_attempts", "Log-ins by AMQP clients.", succeeded + failed);
    families.counter("rabbitmq_auth_attempts_succeeded", "Those that succeeded.", succeeded);
    families.counter("rabbitmq_auth_attempts_failed", "Those that did not.", failed);
}

/// One number of what was published.
type PublishedNumber = fn(&ChannelCounts) -> u64;

/// What was published, by its names.
const PUBLISHED: [(&str, &str, PublishedNumber); 6] = [
    ("rabbitmq_global_messages_received", "Messages that were published.", |counts| counts.publish),
    (
        "rabbitmq_global_messages_received_confirm",
        "Messages that were published with confirms on.",
        |counts| counts.publish_confirm,
    ),
    ("rabbitmq_global_messages_confirmed", "Messages that were confirmed.", |counts| counts.confirm),
    ("rabbitmq_global_messages_routed", "Messages that went to queues, for each queue.", |counts| {
        counts.routed
    }),
    ("rabbitmq_global_messages_unroutable_dropped", "Messages that had no queue.", |counts| {
        counts.drop_unroutable
    }),
    ("rabbitmq_global_messages_unroutable_returned", "Messages that had no queue and went back.", |counts| {
        counts.return_unroutable
    }),
];

/// One number of what was handed out.
type HandedOutNumber = fn(&HandedOut<u64>) -> u64;

/// What was handed out of queues of each type, by its names.
const HANDED_OUT: [(&str, &str, HandedOutNumber); 8] = [
    ("rabbitmq_global_messages_delivered", "Messages that were handed out.", HandedOut::deliver_get),
    (
        "rabbitmq_global_messages_delivered_consume_manual_ack",
        "Those that went to consumers that acknowledge.",
        |counts| counts.deliver,
    ),
    (
        "rabbitmq_global_messages_delivered_consume_auto_ack",
        "Those that went to consumers that do not.",
        |counts| counts.deliver_no_ack,
    ),
    (
        "rabbitmq_global_messages_delivered_get_manual_ack",
        "Those that were got with acknowledgements.",
        |counts| counts.get,
    ),
    ("rabbitmq_global_messages_delivered_get_auto_ack", "Those that were got without.", |counts| {
        counts.get_no_ack
    }),
    ("rabbitmq_global_messages_get_empty", "basic.get that found nothing.", |counts| counts.get_empty),
    ("rabbitmq_global_messages_redelivered", "Messages that were handed out again.", |counts| {
        counts.redeliver
    }),
    ("rabbitmq_global_messages_acknowledged", "Messages that were acknowledged.", |counts| counts.ack),
];

fn global(families: &mut Families, totals: &ByProtocol) {
    for (name, help, number) in PUBLISHED {
        let of =
            |(protocol, totals): &(&str, Totals)| (labels(&[("protocol", protocol)]), number(&totals.counts));
        families.add(name, help, Values::Counter(totals.iter().map(of).collect()));
    }
    for (name, help, number) in HANDED_OUT {
        let of = |(protocol, totals): &(&str, Totals)| {
            let Totals { counts, .. } = totals;
            [("rabbit_classic_queue", counts.classic), ("rabbit_quorum_queue", counts.quorum)].map(
                |(kind, counts)| (labels(&[("protocol", protocol), ("queue_type", kind)]), number(&counts)),
            )
        };
        families.add(name, help, Values::Counter(totals.iter().flat_map(of).collect()));
    }
    let publishers =
        |(protocol, totals): &(&str, Totals)| (labels(&[("protocol", protocol)]), totals.publishers as f64);
    let publishers = totals.iter().map(publishers).collect();
    families.add("rabbitmq_global_publishers", "Channels that published.", Values::Gauge(publishers));
}

fn sizes(families: &mut Families, totals: &ByProtocol) {
    let of = |(protocol, Totals { sizes, .. }): &(&str, Totals)| {
        let bounds = SIZE_BOUNDS.iter().map(|bound| *bound as f64).chain([f64::INFINITY]);
        (labels(&[("protocol", protocol)]), bounds.zip(sizes.buckets).collect(), sizes.bytes as f64)
    };
    let values = Values::Histogram(totals.iter().map(of).collect());
    families.add("rabbitmq_message_size_bytes", "How long bodies of published messages are.", values);
}

/// The process and what it may use.
fn process(families: &mut Families, api: &Api) {
    let memory = &api.shared.memory;
    let resident = nodes::resident_bytes() as f64;
    families.gauge("rabbitmq_process_resident_memory_bytes", "Memory of the process.", resident);
    families.gauge(
        "rabbitmq_resident_memory_limit_bytes",
        "Bytes of queued messages from which on publishers wait.",
        memory.watermark_bytes() as f64,
    );
    let is_over = f64::from(u8::from(memory.over_watermark()));
    families.gauge("rabbitmq_alarms_memory_used_watermark", "1 while publishers wait for memory.", is_over);
    let is_full = matches!(api.shared.store.pressure(), Some(Pressure::Full | Pressure::Failing(_)));
    let is_full = f64::from(u8::from(is_full));
    families.gauge("rabbitmq_alarms_free_disk_space_watermark", "1 while the disk takes nothing.", is_full);
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        families.gauge("rabbitmq_process_open_fds", "Open file descriptors.", open.count() as f64);
    }
    if let Some(most) = files_max() {
        families.gauge("rabbitmq_process_max_fds", "How many there may be.", most);
    }
}

/// How many files the process may have open, where the system tells.
fn files_max() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Of things in groups the first ones: of the first groups all, of the one that is too many those that come first in that
/// order. They are in no order within a group. And how many are left out.
fn first<T>(
    groups: impl Iterator<Item = Vec<T>>,
    most: usize,
    order: impl Fn(&T, &T) -> Ordering,
) -> (Vec<T>, usize) {
    let (mut first, mut all) = (Vec::new(), 0);
    for mut group in groups {
        all += group.len();
        let room = most - first.len();
        if group.len() > room {
            if let Some(last) = room.checked_sub(1) {
                group.select_nth_unstable_by(last, &order);
            }
            group.truncate(room);
        }
        first.append(&mut group);
    }
    let left_out = all - first.len();
    (first, left_out)
}

/// Each queue by itself.
fn of_queues(api: &Api) -> Families {
    let vhosts = api.vhosts();
    let by_vhost = vhosts.iter().map(|vhost| vhost.queues());
    let (queues, left_out) = first(by_vhost, QUEUES_MAX, |a, b| a.name().cmp(b.name()));
    let all: Vec<(Labels, QueueCounts, Arc<Queue>)> = queues
        .into_iter()
        .map(|queue| {
            let labels = vec![("vhost", queue.vhost().to_text()), ("queue", queue.name().to_text())];
            (labels, queue.counts(), queue)
        })
        .collect();
    let mut families = Families::default();
    who(&mut families, api, "per-object");
    let mut gauge = |name, help, of: fn(&QueueCounts) -> u64| {
        let values = all.iter().map(|(labels, counts, _)| (labels.clone(), of(counts) as f64)).collect();
        families.add(name, help, Values::Gauge(values));
    };
    gauge("rabbitmq_queue_messages_ready", "Messages that wait for a consumer.", |counts| counts.ready);
    gauge("rabbitmq_queue_messages_unacked", "Messages that were delivered and are not settled.", |counts| {
        counts.unsettled
    });
    gauge("rabbitmq_queue_messages", "All messages.", |counts| counts.ready + counts.unsettled);
    gauge("rabbitmq_queue_consumers", "Consumers.", |counts| counts.consumers);
    let mut counter = |name, help, of: fn(&Queue) -> u64| {
        let values = all.iter().map(|(labels, _, queue)| (labels.clone(), of(queue))).collect();
        families.add(name, help, Values::Counter(values));
    };
    counter("rabbitmq_queue_messages_published", "Messages that it took.", |queue| {
        queue.traffic().publish.get()
    });
    counter("rabbitmq_queue_messages_delivered", "Messages that it handed out.", |queue| {
        queue.traffic().handed_out.read().deliver_get()
    });
    counter("rabbitmq_queue_messages_acked", "Messages that were acknowledged.", |queue| {
        queue.traffic().handed_out.ack.get()
    });
    counter("rabbitmq_queue_messages_redelivered", "Messages that it handed out again.", |queue| {
        queue.traffic().handed_out.redeliver.get()
    });
    families.gauge(
        "leveret_metrics_queues_left_out",
        "Queues that are not told of one by one, for there are too many.",
        left_out as f64,
    );
    families
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    #[test]
    fn an_answer_has_its_place_until_it_is_gone() {
        let places = Arc::new(Semaphore::new(1));
        let place = places.clone().try_acquire_owned().unwrap();
        let mut families = Families::default();
        families.gauge("rabbitmq_queues", "Queues.", 1.0);
        let response = answer(families, &HeaderMap::new(), place);
        assert_eq!(places.available_permits(), 0);
        drop(response);
        assert_eq!(places.available_permits(), 1);
    }

    #[test]
    fn the_first_ones_are_told_of_and_the_others_counted() {
        let groups = || [vec![3, 1], vec![9, 4, 7, 5, 8], vec![2]].into_iter();
        let first_of = |most| {
            let (mut first, left_out) = first(groups(), most, Ord::cmp);
            first.sort_unstable();
            (first, left_out)
        };
        assert_eq!(first_of(0), (vec![], 8));
        assert_eq!(first_of(2), (vec![1, 3], 6));
        assert_eq!(first_of(4), (vec![1, 3, 4, 5], 4));
        assert_eq!(first_of(100), (vec![1, 2, 3, 4, 5, 7, 8, 9], 0));
    }
}
