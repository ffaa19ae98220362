//! What RabbitMQ's tools ask of a cluster, and of what a broker may have and this one has not: answered as by a node that
//! is alone and has none of it.

use super::{
    Api,
    body::{JsonBody, text_field},
    error::ApiError,
    nodes,
    path::Names,
};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Lists in which there is nothing: no plugins of the management API, no feature that goes away, no links to other
/// brokers, and no streams.
const EMPTY: [&str; 6] = [
    "/api/extensions",
    "/api/deprecated-features",
    "/api/deprecated-features/used",
    "/api/federation-links",
    "/api/shovels",
    "/api/stream/connections",
];
/// The same in a virtual host.
const EMPTY_IN_VHOST: [&str; 3] =
    ["/api/federation-links/{vhost}", "/api/shovels/{vhost}", "/api/stream/connections/{vhost}"];
/// What is checked of the members of a cluster, and is always well where there is one; no limit is set for its
/// connections, and of each quorum queue the only replica leads.
const WELL: [&str; 8] = [
    "metadata-store/initialized",
    "metadata-store/initialized/with-data",
    "reached-target-cluster-size",
    "below-node-connection-limit",
    "quorum-queues-without-elected-leaders/all-vhosts",
    "quorum-queues-without-elected-leaders/all-vhosts/pattern/{pattern}",
    "quorum-queues-without-elected-leaders/vhost/{vhost}",
    "quorum-queues-without-elected-leaders/vhost/{vhost}/pattern/{pattern}",
];

pub(super) fn router() -> Router<Arc<Api>> {
    let mut router = Router::new();
    for path in EMPTY {
        router = router.route(path, get(async || Json(Value::Array(Vec::new()))));
    }
    for path in EMPTY_IN_VHOST {
        router = router.route(path, get(nothing_in_vhost));
    }
    for check in WELL {
        router = router.route(&format!("/api/health/checks/{check}"), get(nodes::healthy));
    }
    router
        .route("/api/feature-flags", get(features))
        .route("/api/auth", get(async || Json(json!({ "oauth_enabled": false }))))
        .route("/api/rebalance/queues", post(async || StatusCode::NO_CONTENT))
        .route("/api/nodes/{node}/memory", get(memory))
        .route("/api/queues/{vhost}/{queue}/actions", post(act))
}

/// `GET /api/feature-flags`: here nothing is switched on. Where the broker says that it is RabbitMQ there is the one for
/// which NServiceBus looks before it starts, since without it RabbitMQ had no dead letters at least once.
async fn features(State(api): State<Arc<Api>>) -> Json<Value> {
    if api.shared.session.product != "RabbitMQ" {
        return Json(json!([]));
    }
    Json(json!([{
        "name": "stream_queue",
        "desc": "Dead letters at least once, which RabbitMQ has with it; no streams",
        "doc_url": "",
        "state": "enabled",
        "stability": "required",
        "provided_by": "rabbit",
    }]))
}

async fn nothing_in_vhost(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<[(); 0]>, ApiError> {
    api.vhost(&vhost).map(|_| Json([]))
}

/// `GET /api/nodes/{node}/memory`: of which parts it is nobody can tell, as of a node of RabbitMQ that does not answer.
async fn memory(State(api): State<Arc<Api>>, Names(node): Names<String>) -> Result<Json<Value>, ApiError> {
    if node == nodes::name(&api) {
        Ok(Json(json!({ "memory": "not_available" })))
    } else {
        Err(ApiError::NotFound)
    }
}

/// `POST /api/queues/{vhost}/{queue}/actions`: those that RabbitMQ had were for mirrors of queues, so there is none.
async fn act(
    State(api): State<Arc<Api>>,
    Names((vhost, queue)): Names<(String, String)>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<StatusCode, ApiError> {
    api.queue(&vhost, &queue)?;
    Err(ApiError::BadRequest(format!("{{unknown,<<\"{}\">>}}", text_field(&body, "action")?)))
}
