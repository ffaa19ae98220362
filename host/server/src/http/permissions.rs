//! `/api/permissions` and `/api/topic-permissions`: what users may do in virtual hosts.

use super::{
    Api,
    body::{JsonBody, text_fields},
    error::ApiError,
    json::users::{PermissionsJson, TopicPermissionsJson},
    kept::{self, Put},
    path::Names,
    users::{name_of, refused},
};
use axum::{Json, extract::State, http::StatusCode};
use leveret_access::{PatternError, Permissions, TopicPermissions};
use leveret_model::Name;
use serde_json::{Map, Value};
use std::sync::Arc;

/// RabbitMQ's word for a name that is none.
const NOBODY_OR_NOWHERE: &str = "vhost_or_user_not_found";

/// All of them, by user.
fn all(api: &Api) -> impl Iterator<Item = PermissionsJson> {
    api.shared.access.users().into_iter().flat_map(|user| PermissionsJson::of(&user))
}

fn all_topics(api: &Api) -> impl Iterator<Item = TopicPermissionsJson> {
    api.shared.access.users().into_iter().flat_map(|user| TopicPermissionsJson::of(&user))
}

pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Vec<PermissionsJson>> {
    Json(all(&api).collect())
}

pub(super) async fn list_of_vhost(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<Vec<PermissionsJson>>, ApiError> {
    api.vhost(&vhost)?;
    Ok(Json(all(&api).filter(|its| its.vhost == vhost).collect()))
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names((vhost, user)): Names<(String, String)>,
) -> Result<Json<PermissionsJson>, ApiError> {
    let its = PermissionsJson::of(&*api.user(&user)?);
    its.into_iter().find(|its| its.vhost == vhost).map(Json).ok_or(ApiError::NotFound)
}

/// The names of a path to a change, if there are such a virtual host and user.
fn names(api: &Api, vhost: &str, user: &str) -> Result<(Name, Name), ApiError> {
    if api.vhost(vhost).is_err() || api.user(user).is_err() {
        return Err(ApiError::BadRequest(NOBODY_OR_NOWHERE.to_owned()));
    }
    Ok((name_of(vhost)?, name_of(user)?))
}

fn no_pattern(error: PatternError) -> ApiError {
    ApiError::BadRequest(format!("invalid_regexp: {error}"))
}

pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Names((vhost, user)): Names<(String, String)>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<Put, ApiError> {
    let [configure, write, read] = text_fields(&body, ["configure", "write", "read"])?;
    let (vhost, user) = names(&api, &vhost, &user)?;
    let permissions = Permissions::new(configure, write, read).map_err(no_pattern)?;
    let (done, kept) = kept::done();
    let is_new =
        api.shared.access.set_permissions(&user, &vhost, Some(permissions), done).map_err(refused)?;
    kept.wait().await?;
    Ok(Put::new(is_new))
}

pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Names((vhost, user)): Names<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (done, kept) = kept::done();
    api.shared.access.set_permissions(&name_of(&user)?, &name_of(&vhost)?, None, done).map_err(refused)?;
    kept.wait().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn list_topics(State(api): State<Arc<Api>>) -> Json<Vec<TopicPermissionsJson>> {
    Json(all_topics(&api).collect())
}

pub(super) async fn list_topics_of_vhost(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<Vec<TopicPermissionsJson>>, ApiError> {
    api.vhost(&vhost)?;
    Ok(Json(all_topics(&api).filter(|its| its.vhost == vhost).collect()))
}

pub(super) async fn read_topics(
    State(api): State<Arc<Api>>,
    Names((vhost, user)): Names<(String, String)>,
) -> Result<Json<Vec<TopicPermissionsJson>>, ApiError> {
    let its = TopicPermissionsJson::of(&*api.user(&user)?);
    let its: Vec<_> = its.into_iter().filter(|its| its.vhost == vhost).collect();
    if its.is_empty() { Err(ApiError::NotFound) } else { Ok(Json(its)) }
}

/// Says which topics a user may use, of an exchange that is there.
pub(super) async fn put_topic(
    State(api): State<Arc<Api>>,
    Names((vhost, user)): Names<(String, String)>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<Put, ApiError> {
    let [exchange] = text_fields(&body, ["exchange"])?;
    names(&api, &vhost, &user)?;
    if api.vhost(&vhost)?.exchange(exchange.as_bytes()).is_none() {
        return Err(ApiError::BadRequest(format!("no_such_exchange: {exchange}")));
    }
    set_topic(&api, [&vhost, &user], &body).await
}

/// The same, of any exchange: in a file of definitions exchanges come later.
///
/// # Errors
/// There is no such user or virtual host, or what is said makes no sense.
pub(super) async fn set_topic(
    api: &Api,
    [vhost, user]: [&str; 2],
    body: &Map<String, Value>,
) -> Result<Put, ApiError> {
    let [exchange, write, read] = text_fields(body, ["exchange", "write", "read"])?;
    let (vhost, user) = names(api, vhost, user)?;
    let permissions = TopicPermissions::new(write, read).map_err(no_pattern)?;
    let (done, kept) = kept::done();
    let access = &api.shared.access;
    let is_new =
        access.set_topic_permissions(&user, &vhost, Some(&name_of(exchange)?), Some(permissions), done);
    let is_new = is_new.map_err(refused)?;
    kept.wait().await?;
    Ok(Put::new(is_new))
}

/// Takes all away.
pub(super) async fn delete_topics(
    State(api): State<Arc<Api>>,
    Names((vhost, user)): Names<(String, String)>,
) -> Result<StatusCode, ApiError> {
    clear_topics(&api, &vhost, &user, None).await
}

/// Takes those of one exchange away.
pub(super) async fn delete_topic(
    State(api): State<Arc<Api>>,
    Names((vhost, user, exchange)): Names<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    clear_topics(&api, &vhost, &user, Some(&name_of(&exchange)?)).await
}

async fn clear_topics(
    api: &Api,
    vhost: &str,
    user: &str,
    exchange: Option<&Name>,
) -> Result<StatusCode, ApiError> {
    let (done, kept) = kept::done();
    let cleared =
        api.shared.access.set_topic_permissions(&name_of(user)?, &name_of(vhost)?, exchange, None, done);
    cleared.map_err(refused)?;
    kept.wait().await?;
    Ok(StatusCode::NO_CONTENT)
}
