//! What RabbitMQ's tools ask of the node itself: `/api/nodes`, `/api/version`, and whether it is
//! well (`/api/aliveness-test`, `/api/health/checks`).

use super::{Api, error::ApiError, path::Names};
use crate::store::Pressure;
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The node's name.
pub(super) fn name(api: &Api) -> String {
    api.shared.session.cluster_name.clone()
}

/// The process's resident memory, in bytes; 0 where the system does not tell.
pub(super) fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

fn is_disk_in_alarm(api: &Api) -> bool {
    matches!(api.shared.store.pressure(), Some(Pressure::Full | Pressure::Failing(_)))
}

fn node(api: &Api) -> Value {
    let memory = &api.shared.memory;
    json!({
        "name": name(api),
        "type": "disc",
        "running": true,
        "os_pid": std::process::id().to_string(),
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "uptime": u64::try_from(api.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        "rates_mode": "basic",
        "mem_used": resident_bytes(),
        "mem_limit": memory.watermark_bytes(),
        "mem_alarm": memory.over_watermark(),
        "disk_free": api.shared.store.disk_free_bytes(),
        // Publishers are held back where there is no room, and not before.
        "disk_free_limit": 0,
        "disk_free_alarm": is_disk_in_alarm(api),
        "partitions": [],
        "being_drained": false,
    })
}

/// `GET /api/nodes`: one.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Vec<Value>> {
    Json(vec![node(&api)])
}

/// `GET /api/nodes/{node}`.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names(node_name): Names<String>,
) -> Result<Json<Value>, ApiError> {
    if node_name == name(&api) { Ok(Json(node(&api))) } else { Err(ApiError::NotFound) }
}

/// `GET /api/version`.
pub(super) async fn version(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!(api.shared.session.version))
}

/// `GET /api/aliveness-test/{vhost}`: whether a virtual host is there.
pub(super) async fn aliveness(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<Value>, ApiError> {
    api.vhost(&vhost)?;
    Ok(Json(json!({ "status": "ok" })))
}

/// `GET /api/healthchecks/node`, which RabbitMQ has for old tools.
pub(super) async fn healthy() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /api/healthchecks/node/{node}`.
pub(super) async fn healthy_by_name(
    State(api): State<Arc<Api>>,
    Names(node): Names<String>,
) -> Result<Json<Value>, ApiError> {
    if node == name(&api) { Ok(healthy().await) } else { Err(ApiError::NotFound) }
}

fn checked(is_well: bool, reason: &str, more: &[(&str, Value)]) -> Response {
    let mut body = json!({ "status": if is_well { "ok" } else { "failed" } });
    if let Some(fields) = body.as_object_mut() {
        fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        if !is_well {
            fields.insert("reason".to_owned(), Value::from(reason));
        }
    }
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// `GET /api/health/checks/{check}`.
pub(super) async fn health(State(api): State<Arc<Api>>, Names(check): Names<String>) -> Response {
    match check.as_str() {
        "alarms" | "local-alarms" => {
            let is_well = !api.shared.memory.over_watermark() && !is_disk_in_alarm(&api);
            checked(is_well, "There are alarms in effect", &[])
        }
        // Of one node, which is in service once it answers; there is nobody whose absence it could notice.
        "virtual-hosts" | "is-in-service" | "ready-to-serve-clients" => checked(true, "", &[]),
        "node-is-quorum-critical" => checked(true, "", &[("reason", Value::from("single node cluster"))]),
        _ => ApiError::NotFound.into_response(),
    }
}

/// `GET /api/health/checks/port-listener/{port}`.
pub(super) async fn port_listener(State(api): State<Arc<Api>>, Names(port): Names<u16>) -> Response {
    let ports: Vec<u16> = listeners(&api).into_iter().map(|(_, port)| port).collect();
    match ports.contains(&port) {
        true => checked(true, "", &[("port", port.into())]),
        false => checked(false, "No active listener", &[("missing", port.into()), ("ports", json!(ports))]),
    }
}

/// `GET /api/health/checks/protocol-listener/{protocol}`.
pub(super) async fn protocol_listener(
    State(api): State<Arc<Api>>,
    Names(protocol): Names<String>,
) -> Response {
    let known = match protocol.as_str() {
        "amqp" | "amqp091" | "amqp0.9.1" => "amqp",
        "http" | "management" => "http",
        "amqps" | "amqp/ssl" => "amqp/ssl",
        other => other,
    };
    let protocols: Vec<&str> = listeners(&api).into_iter().map(|(protocol, _)| protocol).collect();
    let is_there = protocols.contains(&known);
    let more = match is_there {
        true => vec![("protocols", json!(protocols))],
        false => vec![("missing", Value::from(protocol.as_str())), ("protocols", json!(protocols))],
    };
    checked(is_there, "No active listener", &more)
}

fn listeners(api: &Api) -> Vec<(&'static str, u16)> {
    api.listeners().map(|(protocol, address)| (protocol, address.port())).collect()
}
