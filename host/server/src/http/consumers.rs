//! `/api/consumers`: who consumes from which queue.

use super::{
    Api, arguments,
    error::ApiError,
    json::connections::{ChannelOfConsumerJson, ConsumerJson, QueueOfConsumerJson},
    login::Caller,
    nodes,
    path::Names,
};
use crate::live::About;
use axum::{Extension, Json, extract::State};
use leveret_broker::{Vhost, queue::Queue, traffic::ConsumerInfo};
use std::{collections::HashMap, sync::Arc};

/// The connections by their numbers.
type Connections = HashMap<u64, Arc<About>>;

fn connections(api: &Api) -> Connections {
    api.shared.live.list().into_iter().map(|about| (about.id, about)).collect()
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<ConsumerJson>> {
    let connections = connections(&api);
    let vhosts = api.vhosts_known_to(&caller);
    Json(vhosts.iter().flat_map(|vhost| of_vhost(&api, vhost, &connections)).collect())
}

pub(super) async fn list_of_vhost(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<Vec<ConsumerJson>>, ApiError> {
    let vhost = api.vhost(&vhost)?;
    Ok(Json(of_vhost(&api, &vhost, &connections(&api))))
}

/// How many consumers a channel has, by connection and number; of those channels that have some.
pub(super) fn counts(api: &Api) -> HashMap<(u64, u16), u64> {
    let mut counts = HashMap::new();
    for vhost in api.vhosts() {
        let queues = vhost.queues();
        for (info, _) in queues.iter().flat_map(|queue| queue.consumers()) {
            *counts.entry((info.connection.0, info.channel)).or_default() += 1;
        }
    }
    counts
}

/// Queues by name, those of a queue by channel and tag.
fn of_vhost(api: &Api, vhost: &Vhost, connections: &Connections) -> Vec<ConsumerJson> {
    let mut queues = vhost.queues();
    queues.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    queues.iter().flat_map(|queue| of(api, queue, connections)).collect()
}

/// Those of a queue.
pub(super) fn of_queue(api: &Api, queue: &Queue) -> Vec<ConsumerJson> {
    of(api, queue, &connections(api))
}

/// The tags of the consumer of a queue that admits no other, and of the one that is served where one alone is.
pub(super) fn sole_tags(queue: &Queue) -> (Option<String>, Option<String>) {
    let consumers = queue.consumers();
    let tag = |(info, _): &(Arc<ConsumerInfo>, bool)| info.tag.to_text();
    let exclusive = consumers.iter().find(|(info, _)| info.exclusive).map(tag);
    let active = consumers.iter().find(|(_, is_active)| *is_active && queue.is_single_active()).map(tag);
    (exclusive, active)
}

fn of(api: &Api, queue: &Queue, connections: &Connections) -> Vec<ConsumerJson> {
    let mut consumers = queue.consumers();
    consumers.sort_by(|(a, _), (b, _)| {
        (a.connection.0, a.channel, &a.tag).cmp(&(b.connection.0, b.channel, &b.tag))
    });
    let describe = |(info, is_active): &(Arc<ConsumerInfo>, bool)| ConsumerJson {
        consumer_tag: info.tag.to_text(),
        queue: QueueOfConsumerJson { name: queue.name().to_text(), vhost: queue.vhost().to_text() },
        channel_details: connections.get(&info.connection.0).map(|about| ChannelOfConsumerJson {
            name: format!("{} ({})", about.name, info.channel),
            number: info.channel,
            user: about.user.to_text(),
            node: nodes::name(api),
            connection_name: about.name.clone(),
            peer_host: about.peer.ip(),
            peer_port: about.peer.port(),
        }),
        ack_required: !info.no_ack,
        exclusive: info.exclusive,
        active: *is_active,
        activity_status: match (*is_active, queue.is_single_active()) {
            (true, false) => "up",
            (true, true) => "single_active",
            (false, _) => "waiting",
        },
        prefetch_count: info.prefetch,
        consumer_timeout: info.timeout_ms,
        arguments: arguments::to_json(&info.arguments),
    };
    consumers.iter().map(describe).collect()
}
