//! `/api/global-parameters`, and `/api/cluster-name`, which is one of them under another name.

use super::{
    Api,
    body::{JsonBody, field},
    definitions::{Object, fields},
    error::ApiError,
    kept::{self, Put},
    nodes,
    path::Names,
};
use crate::global::{CLUSTER_NAME, NotSet};
use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// A cluster of RabbitMQ's has this of its own; that of a file is another one's.
const INTERNAL_ID: &str = "internal_cluster_id";

/// What the cluster is called: as the node, where nobody said otherwise.
pub(super) fn cluster_name(api: &Api) -> String {
    api.shared.globals.cluster_name().unwrap_or_else(|| nodes::name(api))
}

/// All of them.
pub(super) fn describe_all(api: &Api) -> Vec<Object> {
    let describe = |(name, value)| fields(json!({ "name": name, "value": value }));
    api.shared.globals.list().into_iter().map(describe).collect()
}

/// Sets one; true if it is new. It is kept when that returns.
///
/// # Errors
/// It makes no sense, or is not kept.
pub(super) async fn set(api: &Api, name: &str, value: Value) -> Result<bool, ApiError> {
    let (done, kept) = kept::done();
    let is_new = api.shared.globals.put(name, value, done).map_err(refused)?;
    kept.wait().await?;
    Ok(is_new)
}

/// Takes one in from a file of definitions.
///
/// # Errors
/// As of [`set`].
pub(super) async fn take(api: &Api, parameter: &Object) -> Result<(), ApiError> {
    let name = super::body::text_field(parameter, "name")?;
    if name == INTERNAL_ID {
        return Ok(());
    }
    set(api, name, field(parameter, "value")?.clone()).await.map(|_| ())
}

fn refused(why: NotSet) -> ApiError {
    match why {
        NotSet::NotThere => ApiError::NotFound,
        NotSet::Senseless(why) => ApiError::BadRequest(why),
        NotSet::NotKept(why) => ApiError::Refused(why),
    }
}

/// `GET /api/global-parameters`.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Vec<Object>> {
    Json(describe_all(&api))
}

/// `GET /api/global-parameters/{name}`.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<Json<Value>, ApiError> {
    let value = api.shared.globals.get(&name).ok_or(ApiError::NotFound)?;
    Ok(Json(json!({ "name": name, "value": value })))
}

/// Sets one: `{"value": …}`.
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
    JsonBody(body): JsonBody<Object>,
) -> Result<Put, ApiError> {
    let value = field(&body, "value")?.clone();
    set(&api, &name, value).await.map(Put::new)
}

/// Takes one away.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<StatusCode, ApiError> {
    let (done, kept) = kept::done();
    api.shared.globals.delete(&name, done).map_err(refused)?;
    kept.wait().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/cluster-name`.
pub(super) async fn read_cluster_name(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!({ "name": cluster_name(&api) }))
}

/// `PUT /api/cluster-name`: `{"name": …}`.
pub(super) async fn put_cluster_name(
    State(api): State<Arc<Api>>,
    JsonBody(body): JsonBody<Object>,
) -> Result<StatusCode, ApiError> {
    let name = field(&body, "name")?.clone();
    set(&api, CLUSTER_NAME, name).await?;
    Ok(StatusCode::NO_CONTENT)
}
