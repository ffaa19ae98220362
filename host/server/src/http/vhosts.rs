//! `/api/vhosts` and `/api/vhost-limits`: virtual hosts with their counts of messages, how they come and go, and how much
//! there may be in them.

use super::{
    Api, aside,
    body::{JsonBody, field},
    error::ApiError,
    json::{
        MessagesJson, VhostJson,
        users::{VhostLimitsJson, VhostLimitsOfJson},
    },
    kept::{self, Put},
    login::Caller,
    nodes,
    path::Names,
    stats,
    users::{name_of, tags},
};
use crate::{
    config::VhostLimits,
    store::VhostRecord,
    vhosts::{Place, VhostRefused},
};
use axum::{Extension, Json, extract::State, http::StatusCode};
use leveret_access::Permissions;
use leveret_broker::{Vhost, queue::QueueKind, traffic::ChannelCounts};
use leveret_model::Name;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The two limits by their names.
const MAX_CONNECTIONS: &str = "max-connections";
const MAX_QUEUES: &str = "max-queues";
/// Both limits.
pub(super) const LIMITS: [&str; 2] = [MAX_CONNECTIONS, MAX_QUEUES];
/// The field that says that a virtual host is not deleted.
const PROTECTED: &str = "protected_from_deletion";

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<VhostJson>> {
    // Once for all of them: it looks at all connections.
    let mut counts = api.shared.live.counts_by_vhost();
    let mut of = |place: &Place| counts.remove(place.vhost.name()).unwrap_or_default();
    Json(places(&api, &caller).iter().map(|place| describe(&api, place, of(place))).collect())
}

/// Those that a caller may know of.
fn places(api: &Api, caller: &Caller) -> Vec<Place> {
    let all = api.shared.vhosts.list().into_iter();
    all.filter(|place| caller.may_know_of(place.vhost.name())).collect()
}

fn place(api: &Api, name: &str) -> Result<Place, ApiError> {
    api.shared.vhosts.get(name.as_bytes()).ok_or(ApiError::NotFound)
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<VhostJson>, ApiError> {
    let place = place(&api, &vhost)?;
    let counts = api.shared.live.counts_by_vhost().remove(place.vhost.name()).unwrap_or_default();
    Ok(Json(describe(&api, &place, counts)))
}

fn describe(api: &Api, place: &Place, counts: ChannelCounts) -> VhostJson {
    let Place { vhost, record, .. } = place;
    let queues = vhost.queues();
    let messages = queues.iter().map(|queue| MessagesJson::from(queue.counts())).sum();
    let running = (nodes::name(api), Value::from("running"));
    VhostJson {
        name: vhost.name().to_text(),
        default_queue_type: place.queue_type().as_str(),
        description: record.description.clone(),
        tags: record.tags.clone(),
        metadata: metadata(place),
        tracing: false,
        cluster_state: [running].into_iter().collect(),
        protected_from_deletion: record.is_protected,
        messages,
        message_stats: stats::vhost(api, vhost, counts),
    }
}

/// Makes one, or says something else of it. Who makes one may do everything there.
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names(name): Names<String>,
    body: Option<JsonBody<Map<String, Value>>>,
) -> Result<Put, ApiError> {
    let body = body.map(|JsonBody(body)| body).unwrap_or_default();
    let vhost = name_of(&name)?;
    if vhost.is_empty() {
        return Err(ApiError::BadRequest("a virtual host needs a name".to_owned()));
    }
    let description = body.get("description").and_then(Value::as_str).map(str::to_owned);
    let tags = body.get("tags").map(tags).transpose()?;
    let queue_type = queue_type(body.get("default_queue_type"))?;
    let is_protected = body.get(PROTECTED).and_then(Value::as_bool);
    let is_new = change(&api, (&vhost, true), move |record| {
        record.description = description.unwrap_or_default();
        record.tags = tags.unwrap_or_default();
        record.queue_type = queue_type;
        record.is_protected = is_protected.unwrap_or(record.is_protected);
    })
    .await?;
    if is_new && let Caller::User(user) = caller {
        let (done, kept) = kept::done();
        // A user that the configuration declares may do there what that says.
        if api.shared.access.set_permissions(&user.name, &vhost, Some(Permissions::all()), done).is_ok() {
            kept.wait().await?;
        }
    }
    Ok(Put::new(is_new))
}

/// What is said of the type of queues that name none, refused in RabbitMQ's words.
fn queue_type(said: Option<&Value>) -> Result<Option<QueueKind>, ApiError> {
    let why = match said {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(name)) if name == "undefined" => return Ok(None),
        Some(Value::String(name)) if name.is_empty() => {
            "default_queue_type must not be an empty string".to_owned()
        }
        Some(Value::String(name)) => match QueueKind::named(name) {
            Some(kind) => return Ok(Some(kind)),
            None => format!("{name} is not a valid queue type"),
        },
        Some(other) => format!("{other} is not a valid default_queue_type value"),
    };
    Err(ApiError::BadRequest(why))
}

async fn change(
    api: &Arc<Api>,
    (vhost, may_make): (&Name, bool),
    change: impl FnOnce(&mut VhostRecord) + Send + 'static,
) -> Result<bool, ApiError> {
    let (done, kept) = kept::done();
    let (there, name) = (api.clone(), vhost.clone());
    let put = move |router: &mut leveret_plugin::Worker| {
        there.shared.vhosts.put_record((&name, may_make), router, change, done)
    };
    let is_new = aside::in_the_lane(api, vhost, put).await?.map_err(refused)?;
    kept.wait().await?;
    Ok(is_new)
}

/// `POST /api/vhosts/{vhost}/deletion/protection`: it is not deleted any more.
pub(super) async fn protect(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<StatusCode, ApiError> {
    set_protected(&api, &name, true).await
}

/// `DELETE /api/vhosts/{vhost}/deletion/protection`: it may be deleted again.
pub(super) async fn unprotect(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<StatusCode, ApiError> {
    set_protected(&api, &name, false).await
}

async fn set_protected(api: &Arc<Api>, name: &str, is_protected: bool) -> Result<StatusCode, ApiError> {
    place(api, name)?;
    change(api, (&name_of(name)?, false), move |record| record.is_protected = is_protected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes one with all that is in it, once its connections have ended.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<StatusCode, ApiError> {
    let vhost = name_of(&name)?;
    if place(&api, &name)?.record.is_protected {
        let why = format!("Refusing to delete virtual host '{name}' because it is protected from deletion");
        return Err(ApiError::Protected(why));
    }
    let (there, gone) = (api.clone(), vhost.clone());
    // On a thread of its own: it waits for connections, which may wait for the lane.
    let closed = api.aside.run(move || there.shared.vhosts.close(&gone, &there.shared.live));
    let closed = closed.await?.map_err(refused)?;
    let (done, kept) = kept::done();
    let there = api.clone();
    let delete = move |router: &mut leveret_plugin::Worker| there.shared.vhosts.delete(&closed, router, done);
    aside::in_the_lane(&api, &vhost, delete).await?;
    api.shared.access.forget_vhost(&vhost);
    let registry = api.shared.plugins.registry().clone();
    api.aside.run(move || registry.forget_vhost(&vhost)).await?;
    kept.wait().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn refused(why: VhostRefused) -> ApiError {
    match why {
        VhostRefused::NotThere => ApiError::NotFound,
        VhostRefused::Configured => ApiError::Refused(
            "the configuration names this virtual host, so it is deleted there and is gone after a restart"
                .to_owned(),
        ),
        VhostRefused::Failed(why) => ApiError::Refused(why),
    }
}

/// What was said of a virtual host, as RabbitMQ has it together.
fn metadata(place: &Place) -> Value {
    let record = &place.record;
    let mut metadata = json!({
        "description": record.description,
        "tags": record.tags,
        "default_queue_type": place.queue_type().as_str(),
    });
    if let Some(fields) = metadata.as_object_mut().filter(|_| record.is_protected) {
        fields.insert(PROTECTED.to_owned(), json!(true));
    }
    metadata
}

/// All virtual hosts, as RabbitMQ's definition files have them.
pub(super) fn definitions(api: &Api) -> Vec<Map<String, Value>> {
    let describe = |place: &Place| {
        let limits = limits_json(place);
        let mut told = Map::new();
        told.insert("name".to_owned(), json!(limits.vhost));
        told.insert("metadata".to_owned(), metadata(place));
        told.insert("limits".to_owned(), json!(limits.value));
        told
    };
    api.shared.vhosts.list().iter().map(describe).collect()
}

/// The name of a virtual host and its limits, if it has some.
pub(super) fn limits_definition(api: &Api, vhost: &Vhost) -> Option<(String, VhostLimitsJson)> {
    let place = api.shared.vhosts.get(vhost.name()).filter(is_limited)?;
    let VhostLimitsOfJson { vhost, value } = limits_json(&place);
    Some((vhost, value))
}

/// The limits of a virtual host, as RabbitMQ lists them.
fn limits_json(place: &Place) -> VhostLimitsOfJson {
    let VhostLimits { connections_max, queues_max } = place.limits();
    let value = VhostLimitsJson { max_connections: connections_max, max_queues: queues_max };
    VhostLimitsOfJson { vhost: place.vhost.name().to_text(), value }
}

fn is_limited(place: &Place) -> bool {
    place.limits() != VhostLimits::default()
}

pub(super) async fn limits(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<VhostLimitsOfJson>> {
    Json(places(&api, &caller).iter().filter(|place| is_limited(place)).map(limits_json).collect())
}

pub(super) async fn limits_of(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<Json<Vec<VhostLimitsOfJson>>, ApiError> {
    let place = place(&api, &name)?;
    Ok(Json(is_limited(&place).then(|| limits_json(&place)).into_iter().collect()))
}

/// Sets one limit; a negative one is none.
pub(super) async fn put_limit(
    State(api): State<Arc<Api>>,
    Names((name, limit)): Names<(String, String)>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<StatusCode, ApiError> {
    let value = field(&body, "value")?;
    let invalid = |why: String| ApiError::BadRequest(format!("Validation failed\n\n{why}\n"));
    place(&api, &name).map_err(|_| ApiError::NoVhost)?;
    if limit != MAX_CONNECTIONS && limit != MAX_QUEUES {
        let why = format!("Unrecognised terms [{{<<\"{limit}\">>,{}}}] in limits", kept::term(value));
        return Err(invalid(why));
    }
    let number = value
        .as_i64()
        .ok_or_else(|| invalid(format!("{limit} should be a number, actually was {}", kept::term(value))))?;
    set_limit(&api, &name, limit, u64::try_from(number).ok()).await
}

pub(super) async fn delete_limit(
    State(api): State<Arc<Api>>,
    Names((name, limit)): Names<(String, String)>,
) -> Result<StatusCode, ApiError> {
    set_limit(&api, &name, limit, None).await
}

async fn set_limit(
    api: &Arc<Api>,
    name: &str,
    limit: String,
    value: Option<u64>,
) -> Result<StatusCode, ApiError> {
    let declared = place(api, name).map_err(|_| ApiError::NoVhost)?.declared_limits();
    let declared = match &*limit {
        MAX_CONNECTIONS => declared.connections_max,
        MAX_QUEUES => declared.queues_max,
        _ => None,
    };
    if let Some(declared) = declared {
        let why = || {
            format!("the configuration sets {limit} of vhost '{name}' to {declared}, so it is changed there")
        };
        // A file of definitions says it again.
        return if value == Some(declared) {
            Ok(StatusCode::NO_CONTENT)
        } else {
            Err(ApiError::Refused(why()))
        };
    }
    change(api, (&name_of(name)?, false), move |record| match &*limit {
        MAX_CONNECTIONS => record.connections_max = value,
        MAX_QUEUES => record.queues_max = value,
        _ => {}
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
