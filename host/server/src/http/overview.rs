//! `/api/overview`: the broker at a glance.

use super::{
    Api,
    json::{
        ContextJson, ExchangeTypeJson, ListenerJson, ObjectTotalsJson, OverviewJson, QUEUE_TYPE,
        QueueTotalsJson,
    },
    nodes, stats,
};
use axum::{Json, extract::State};
use leveret_broker::{QueueCounts, queue::QueueKind};
use leveret_plugin::registry::{TypeInfo, TypeState};
use std::{net::SocketAddr, sync::Arc};

pub(super) async fn read(State(api): State<Arc<Api>>) -> Json<OverviewJson> {
    let shared = &api.shared;
    let mut totals = ObjectTotalsJson { connections: shared.connection_count(), ..Default::default() };
    let (mut counts, mut quorum_queues) = (QueueCounts::default(), 0);
    for vhost in api.vhosts() {
        let queues = vhost.queues();
        totals.exchanges += vhost.exchanges().len();
        totals.queues += queues.len();
        for queue in &queues {
            quorum_queues += u64::from(queue.kind() == QueueKind::Quorum);
            let of_queue = queue.counts();
            counts.ready += of_queue.ready;
            counts.unsettled += of_queue.unsettled;
            counts.consumers += of_queue.consumers;
        }
    }
    totals.consumers = counts.consumers;
    totals.channels = shared.live.list().iter().map(|about| about.channels.lock().len()).sum();
    let told = stats::overview(&api, counts);
    Json(OverviewJson {
        product_name: shared.session.product.clone(),
        product_version: shared.session.version.clone(),
        management_version: shared.session.version.clone(),
        rabbitmq_version: shared.session.version.clone(),
        node: nodes::name(&api),
        contexts: vec![ContextJson {
            description: "management",
            node: nodes::name(&api),
            ip: api.http_address.ip(),
            port: api.http_address.port().to_string(),
            path: "/",
        }],
        cluster_name: shared.session.cluster_name.clone(),
        rates_mode: "basic",
        default_queue_type: QUEUE_TYPE,
        exchange_types: shared.plugins.registry().types().into_iter().map(exchange_type).collect(),
        object_totals: totals,
        quorum_queues_with_one_replica: quorum_queues,
        queue_totals: QueueTotalsJson { messages: counts.into(), details: told.details },
        message_stats: told.stats.unwrap_or_default(),
        churn_rates: stats::churn(&api),
        listeners: api.listeners().map(|(protocol, address)| listener(&api, protocol, address)).collect(),
    })
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
