//! `/api/queues`: queues as they were declared, with their counts.

use super::{
    Api, arguments, consumers,
    error::ApiError,
    json::{MessagesJson, QueueJson, ReplicasJson},
    login::Caller,
    path::Names,
    stats,
};
use axum::{Extension, Json, extract::State};
use leveret_broker::{
    QueueCounts, Vhost,
    policy::Policy,
    queue::{DELIVERY_LIMIT, DeliveryLimit, Queue, QueueKind},
};
use serde_json::Value;
use std::{iter::Sum, sync::Arc};

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<QueueJson>> {
    Json(api.vhosts_of(&caller).into_iter().flat_map(|vhost| describe_all(&api, &vhost)).collect())
}

pub(super) async fn list_of_vhost(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<Vec<QueueJson>>, ApiError> {
    Ok(Json(describe_all(&api, &*api.vhost(&vhost)?)))
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names((vhost, queue)): Names<(String, String)>,
) -> Result<Json<QueueJson>, ApiError> {
    let (vhost, queue) = api.queue(&vhost, &queue)?;
    let mut told = describe(&api, &vhost, &queue);
    told.consumer_details = Some(consumers::of_queue(&api, &queue));
    told.single_active_consumer_tag.get_or_insert(Value::Null);
    // Quorum queues of RabbitMQ do not tell of it.
    if queue.kind() == QueueKind::Classic {
        told.exclusive_consumer_tag.get_or_insert(Value::Null);
    }
    Ok(Json(told))
}

/// By name.
pub(super) fn describe_all(api: &Api, vhost: &Vhost) -> Vec<QueueJson> {
    let mut queues = vhost.queues();
    queues.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    queues.iter().map(|queue| describe(api, vhost, queue)).collect()
}

fn describe(api: &Api, vhost: &Vhost, queue: &Queue) -> QueueJson {
    let (spec, counts, applied) = (queue.spec(), queue.counts(), queue.applied());
    let name_of = |policy: &Option<Arc<Policy>>| policy.as_ref().map(|policy| policy.name().to_text());
    let told = stats::queue(api, queue, counts);
    // Queues without consumers, which may be very many, are not asked.
    let of_consumers = if counts.consumers > 0 { consumers::sole_tags(queue) } else { (None, None) };
    let node = || api.shared.session.cluster_name.clone();
    QueueJson {
        name: spec.name.to_text(),
        vhost: vhost.name().to_text(),
        node: node(),
        queue_type: queue.kind().as_str(),
        state: "running",
        durable: spec.durable,
        auto_delete: spec.auto_delete,
        exclusive: spec.exclusive,
        arguments: arguments::to_json(&spec.arguments),
        policy: name_of(&applied.policy),
        operator_policy: name_of(&applied.operator),
        effective_policy_definition: arguments::to_json(&applied.definition()),
        delivery_limit: (queue.kind() == QueueKind::Quorum).then(|| limit(queue.settings().delivery_limit)),
        consumers: counts.consumers,
        exclusive_consumer_tag: of_consumers.0.map(Value::from),
        single_active_consumer_tag: of_consumers.1.map(Value::from),
        replicas: (queue.kind() == QueueKind::Quorum).then(|| ReplicasJson::only(node())),
        messages_unreadable: counts.unreadable,
        messages: counts.into(),
        details: told.details,
        message_stats: told.stats,
        consumer_details: None,
        dead_letters_set_aside: queue.dead_lettering().map_or(0, |to| to.counts().stuck),
    }
}

fn limit(limit: DeliveryLimit) -> i64 {
    match limit {
        DeliveryLimit::None => -1,
        DeliveryLimit::Default => DELIVERY_LIMIT.into(),
        DeliveryLimit::Times(most) => most.into(),
    }
}

impl From<QueueCounts> for MessagesJson {
    fn from(counts: QueueCounts) -> Self {
        Self {
            messages: counts.ready + counts.unsettled,
            messages_ready: counts.ready,
            messages_unacknowledged: counts.unsettled,
        }
    }
}

impl Sum for MessagesJson {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            messages: sum.messages + one.messages,
            messages_ready: sum.messages_ready + one.messages_ready,
            messages_unacknowledged: sum.messages_unacknowledged + one.messages_unacknowledged,
        })
    }
}
