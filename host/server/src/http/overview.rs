//! `/api/overview`: the broker at a glance.

use super::{
    Api, connections, global,
    json::{
        ContextJson, ExchangeTypeJson, ListenerJson, ObjectTotalsJson, OverviewJson, QUEUE_TYPE,
        QueueTotalsJson,
    },
    login::Caller,
    nodes, stats,
};
use axum::{Extension, Json, extract::State};
use leveret_broker::{
    QueueCounts,
    queue::{Queue, QueueKind},
};
use leveret_plugin::registry::{TypeInfo, TypeState};
use std::{net::SocketAddr, sync::Arc};

/// Who monitors sees all of it; others what is in the virtual hosts that they may enter, and their own connections.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<OverviewJson> {
    let shared = &api.shared;
    let monitors = caller.monitors();
    let vhosts = if monitors { api.vhosts() } else { api.vhosts_of(&caller) };
    let queues: Vec<Arc<Queue>> = vhosts.iter().flat_map(|vhost| vhost.queues()).collect();
    let (mut counts, mut quorum_queues) = (QueueCounts::default(), 0);
    for queue in &queues {
        quorum_queues += u64::from(queue.kind() == QueueKind::Quorum);
        let of_queue = queue.counts();
        counts.ready += of_queue.ready;
        counts.unsettled += of_queue.unsettled;
        counts.consumers += of_queue.consumers;
    }
    let seen = connections::visible(&api, &caller);
    let totals = ObjectTotalsJson {
        connections: if monitors { shared.connection_count() } else { seen.len() },
        channels: seen.iter().map(|about| about.channels.lock().len()).sum(),
        consumers: monitors.then_some(counts.consumers),
        exchanges: vhosts.iter().map(|vhost| vhost.exchanges().len()).sum(),
        queues: queues.len(),
    };
    let told = match monitors {
        true => stats::overview(&api, counts),
        false => stats::overview_of(&api, &vhosts, &queues, counts),
    };
    Json(OverviewJson {
        product_name: shared.session.product.clone(),
        product_version: shared.session.version.clone(),
        management_version: shared.session.version.clone(),
        rabbitmq_version: shared.session.version.clone(),
        node: monitors.then(|| nodes::name(&api)),
        contexts: monitors.then(|| contexts(&api)),
        cluster_name: global::cluster_name(&api),
        rates_mode: "basic",
        disable_stats: false,
        enable_queue_totals: false,
        default_queue_type: QUEUE_TYPE,
        exchange_types: shared.plugins.registry().types().into_iter().map(exchange_type).collect(),
        object_totals: totals,
        quorum_queues_with_one_replica: quorum_queues,
        queue_totals: QueueTotalsJson { messages: counts.into(), details: told.details },
        message_stats: told.stats.unwrap_or_default(),
        churn_rates: stats::churn(&api),
        listeners: monitors
            .then(|| api.listeners().map(|(protocol, address)| listener(&api, protocol, address)).collect()),
    })
}

/// Where this API is.
fn contexts(api: &Api) -> Vec<ContextJson> {
    let addresses = api.http_address.into_iter().chain(api.https_address);
    let context = |address: SocketAddr| ContextJson {
        description: "management",
        node: nodes::name(api),
        ip: address.ip(),
        port: address.port().to_string(),
        path: "/",
    };
    addresses.take(1).map(context).collect()
}

fn exchange_type(info: TypeInfo) -> ExchangeTypeJson {
    let (description, enabled) = match info.state {
        TypeState::Serving { summary, .. } => (summary, true),
        TypeState::Parked { why } => (why, false),
    };
    ExchangeTypeJson { name: info.name.to_text(), description, enabled }
}

/// RabbitMQ's names for protocols over TLS.
fn is_tls(protocol: &str) -> bool {
    ["amqp/ssl", "https"].contains(&protocol)
}

fn listener(api: &Api, protocol: &'static str, address: SocketAddr) -> ListenerJson {
    ListenerJson {
        node: nodes::name(api),
        protocol,
        ip_address: address.ip(),
        port: address.port(),
        tls: is_tls(protocol),
    }
}
