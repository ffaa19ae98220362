//! `/api/connections` and `/api/channels`: who is connected, and how to end that.

use super::{
    Api, arguments, consumers,
    error::ApiError,
    json::connections::{ChannelJson, ConnectionJson, ConnectionOfChannelJson, TlsJson},
    login::Caller,
    nodes,
    path::Names,
    stats,
};
use crate::{amqp10, live::About};
use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use leveret_access::user::ADMINISTRATOR;
use leveret_broker::traffic::ChannelTraffic;
use std::sync::{Arc, atomic::Ordering};

/// The header that says why a connection is closed.
const REASON: &str = "x-reason";
/// What a client is told that is closed without a reason, as by RabbitMQ.
const NO_REASON: &str = "Closed via management plugin";

/// Whether a caller may know of a connection.
fn may_see(caller: &Caller, about: &About) -> bool {
    match caller {
        Caller::User(user) if !caller.monitors() => user.name == about.user,
        _ => true,
    }
}

/// Whether a caller may end a connection: to see it is not enough.
fn may_end(caller: &Caller, about: &About) -> Result<(), ApiError> {
    match caller {
        Caller::User(user) if !user.has_tag(ADMINISTRATOR) && user.name != about.user => {
            Err(ApiError::Denied)
        }
        _ => Ok(()),
    }
}

/// Those that a caller may know of, in no order.
pub(super) fn visible(api: &Api, caller: &Caller) -> Vec<Arc<About>> {
    let mut all = api.shared.live.list();
    all.retain(|about| may_see(caller, about));
    all
}

/// By name.
fn all(api: &Api, caller: &Caller) -> Vec<Arc<About>> {
    let mut all = visible(api, caller);
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn one(api: &Api, caller: &Caller, name: &str) -> Result<Arc<About>, ApiError> {
    all(api, caller).into_iter().find(|about| about.name == name).ok_or(ApiError::NotFound)
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<ConnectionJson>> {
    Json(all(&api, &caller).iter().map(|about| describe(&api, about)).collect())
}

pub(super) async fn list_of_user(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names(user): Names<String>,
) -> Json<Vec<ConnectionJson>> {
    let all = all(&api, &caller).into_iter().filter(|about| about.user.as_bytes() == user.as_bytes());
    Json(all.map(|about| describe(&api, &about)).collect())
}

pub(super) async fn list_of_vhost(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names(vhost): Names<String>,
) -> Result<Json<Vec<ConnectionJson>>, ApiError> {
    let vhost = api.vhost(&vhost)?;
    let all = all(&api, &caller).into_iter().filter(|about| about.vhost == *vhost.name());
    Ok(Json(all.map(|about| describe(&api, &about)).collect()))
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names(name): Names<String>,
) -> Result<Json<ConnectionJson>, ApiError> {
    Ok(Json(describe(&api, &*one(&api, &caller, &name)?)))
}

fn reason(headers: &HeaderMap) -> String {
    let said = headers.get(REASON).and_then(|reason| reason.to_str().ok());
    said.unwrap_or(NO_REASON).to_owned()
}

/// Ends one.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names(name): Names<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let about = one(&api, &caller, &name)?;
    may_end(&caller, &about)?;
    api.shared.live.close_one(about.id, &reason(&headers));
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all of a user.
pub(super) async fn delete_of_user(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names(user): Names<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    for about in all(&api, &caller).iter().filter(|about| about.user.as_bytes() == user.as_bytes()) {
        may_end(&caller, about)?;
        api.shared.live.close_one(about.id, &reason(&headers));
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn channels(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<ChannelJson>> {
    Json(channels_of(&api, &all(&api, &caller)))
}

pub(super) async fn channels_of_vhost(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names(vhost): Names<String>,
) -> Result<Json<Vec<ChannelJson>>, ApiError> {
    let vhost = api.vhost(&vhost)?;
    let mut all = all(&api, &caller);
    all.retain(|about| about.vhost == *vhost.name());
    Ok(Json(channels_of(&api, &all)))
}

pub(super) async fn channels_of_connection(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names(name): Names<String>,
) -> Result<Json<Vec<ChannelJson>>, ApiError> {
    Ok(Json(channels_of(&api, &[one(&api, &caller, &name)?])))
}

pub(super) async fn channel(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names(name): Names<String>,
) -> Result<Json<ChannelJson>, ApiError> {
    let mut channels = channels_of(&api, &all(&api, &caller)).into_iter();
    channels.find(|channel| channel.name == name).map(Json).ok_or(ApiError::NotFound)
}

fn channels_of(api: &Api, connections: &[Arc<About>]) -> Vec<ChannelJson> {
    let consumers = consumers::counts(api);
    let mut told = Vec::new();
    for about in connections {
        let channels = about.channels.lock().clone();
        told.extend(channels.into_iter().map(|(number, traffic)| {
            let consumer_count = consumers.get(&(about.id, number)).copied().unwrap_or_default();
            describe_channel(api, about, (number, &traffic), consumer_count)
        }));
    }
    told
}

fn describe_channel(
    api: &Api,
    about: &About,
    (number, traffic): (u16, &ChannelTraffic),
    consumer_count: u64,
) -> ChannelJson {
    let (prefetch_count, global_prefetch_count) = traffic.mode.prefetch();
    let counts = traffic.read();
    ChannelJson {
        name: format!("{} ({number})", about.name),
        number,
        user: about.user.to_text(),
        vhost: about.vhost.to_text(),
        state: "running",
        node: nodes::name(api),
        consumer_count,
        confirm: traffic.mode.confirms.load(Ordering::Relaxed),
        transactional: traffic.mode.is_transactional(),
        prefetch_count,
        global_prefetch_count,
        messages_unacknowledged: traffic.unacknowledged(),
        messages_unconfirmed: counts.publish_confirm.saturating_sub(counts.confirm),
        connection_details: ConnectionOfChannelJson {
            name: about.name.clone(),
            peer_host: about.peer.ip(),
            peer_port: about.peer.port(),
        },
        message_stats: stats::channel(api, about, number),
    }
}

/// What a client calls its connection.
fn given_name(about: &About) -> Option<String> {
    about.client.get(b"connection_name").and_then(|name| name.as_text()).map(str::to_owned)
}

/// The container of a client of AMQP 1.0 (2.7.1), by which RabbitMQ's clients find their connections.
fn container_id(about: &About) -> Option<String> {
    let container = about.client.get(b"container_id").filter(|_| about.protocol == amqp10::PROTOCOL);
    container.and_then(|id| id.as_text()).map(str::to_owned)
}

fn describe(api: &Api, about: &About) -> ConnectionJson {
    ConnectionJson {
        name: about.name.clone(),
        node: nodes::name(api),
        user_provided_name: given_name(about),
        container_id: container_id(about),
        user: about.user.to_text(),
        vhost: about.vhost.to_text(),
        protocol: about.protocol,
        state: if about.is_blocked.load(Ordering::Relaxed) { "blocked" } else { "running" },
        kind: "network",
        host: about.local.ip(),
        port: about.local.port(),
        peer_host: about.peer.ip(),
        peer_port: about.peer.port(),
        ssl: about.with_tls,
        tls: about.tls.as_deref().map(TlsJson::from).unwrap_or_default(),
        auth_mechanism: about.mechanism.clone(),
        channels: about.channels.lock().len(),
        channel_max: about.channel_max,
        frame_max: about.frame_bytes_max,
        timeout: about.heartbeat_seconds,
        connected_at: about.connected_ms,
        client_properties: arguments::to_json(&about.client),
        bytes: stats::connection(api, about),
    }
}
