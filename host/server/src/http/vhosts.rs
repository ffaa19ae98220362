//! `/api/vhosts`: virtual hosts with their counts of messages.

use super::{
    Api,
    error::ApiError,
    json::{MessagesJson, QUEUE_TYPE, VhostJson},
    login::Caller,
    path::Names,
};
use axum::{Extension, Json, extract::State};
use leveret_broker::Vhost;
use std::sync::Arc;

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<VhostJson>> {
    Json(api.vhosts_of(&caller).into_iter().map(|vhost| describe(vhost)).collect())
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<VhostJson>, ApiError> {
    Ok(Json(describe(api.vhost(&vhost)?)))
}

fn describe(vhost: &Vhost) -> VhostJson {
    let queues = vhost.queues();
    let messages = queues.iter().map(|queue| MessagesJson::from(queue.counts())).sum();
    VhostJson { name: vhost.name().to_text(), default_queue_type: QUEUE_TYPE, messages }
}
