//! `/api/parameters`: those of RabbitMQ's runtime parameters that there are here too, which have paths of their own
//! besides: operator policies, and the limits of virtual hosts. Others, of shovels for one, are refused.

use super::{
    Api,
    body::{JsonBody, field},
    definitions::{Object, fields, picked},
    error::ApiError,
    kept::{Put, term},
    login::Caller,
    path::Names,
    policies, vhosts,
};
use axum::{Extension, Json, extract::State, http::StatusCode};
use leveret_broker::{Vhost, policy::PolicyKind};
use serde_json::{Value, json};
use std::sync::Arc;

/// The component of parameters that are limits of a virtual host, and the name of its only one.
const LIMITS: (&str, &str) = ("vhost-limits", "limits");
/// The component of parameters that are operator policies.
const OPERATOR_POLICY: &str = "operator_policy";
/// What is told of those as the value.
const OF_OPERATOR_POLICY: &[&str] = &["pattern", "apply-to", "definition", "priority"];

/// `GET /api/parameters`.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<Object>> {
    Json(of_vhosts(&api, &api.vhosts_of(&caller)))
}

/// `GET /api/parameters/{component}`.
pub(super) async fn list_of_component(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names(component): Names<String>,
) -> Json<Vec<Object>> {
    Json(of_component(&api, &api.vhosts_of(&caller), &component))
}

/// `GET /api/parameters/{component}/{vhost}`.
pub(super) async fn list_of_vhost(
    State(api): State<Arc<Api>>,
    Names((component, vhost)): Names<(String, String)>,
) -> Result<Json<Vec<Object>>, ApiError> {
    Ok(Json(of_component(&api, &[api.vhost(&vhost)?], &component)))
}

/// `GET /api/parameters/{component}/{vhost}/{name}`.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names((component, vhost, name)): Names<(String, String, String)>,
) -> Result<Json<Object>, ApiError> {
    one(&api, [&component, &vhost, &name]).map(Json)
}

/// Sets one: `{"value": …}`.
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Names((component, vhost, name)): Names<(String, String, String)>,
    JsonBody(body): JsonBody<Object>,
) -> Result<Put, ApiError> {
    let value = field(&body, "value")?.clone();
    api.shared.vhosts.get(vhost.as_bytes()).ok_or(ApiError::NoVhost)?;
    let is_new = one(&api, [&component, &vhost, &name]).is_err();
    set(&api, [component, vhost, name], value).await?;
    Ok(Put::new(is_new))
}

/// Takes one away.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Names((component, vhost, name)): Names<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    one(&api, [&component, &vhost, &name])?;
    if component == OPERATOR_POLICY {
        return policies::delete(PolicyKind::Operator, State(api), Names((vhost, name))).await;
    }
    for limit in vhosts::LIMITS {
        vhosts::delete_limit(State(api.clone()), Names((vhost.clone(), limit.to_owned()))).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// All in these virtual hosts.
pub(super) fn of_vhosts(api: &Arc<Api>, vhosts: &[Arc<Vhost>]) -> Vec<Object> {
    let limits = vhosts.iter().filter_map(|vhost| vhosts::limits_definition(api, vhost));
    let limits = limits.map(|(vhost, value)| {
        fields(json!({ "component": LIMITS.0, "name": LIMITS.1, "vhost": vhost, "value": value }))
    });
    let policies = policies::describe_all(api, PolicyKind::Operator, vhosts).into_iter();
    let policies = policies.map(|policy| {
        let value = picked(&policy, OF_OPERATOR_POLICY);
        let (name, vhost) = (policy.name, policy.vhost);
        fields(json!({ "component": OPERATOR_POLICY, "name": name, "vhost": vhost, "value": value }))
    });
    limits.chain(policies).collect()
}

fn of_component(api: &Arc<Api>, vhosts: &[Arc<Vhost>], component: &str) -> Vec<Object> {
    let all = of_vhosts(api, vhosts).into_iter();
    all.filter(|parameter| parameter.get("component").is_some_and(|of| *of == component)).collect()
}

fn one(api: &Arc<Api>, [component, vhost, name]: [&str; 3]) -> Result<Object, ApiError> {
    let mut all = of_component(api, &[api.vhost(vhost)?], component).into_iter();
    let named = |parameter: &Object| parameter.get("name").and_then(Value::as_str) == Some(name);
    all.find(named).ok_or(ApiError::NotFound)
}

/// Whether there are parameters of a component.
///
/// # Errors
/// There are none, in RabbitMQ's words.
pub(super) fn check_component(component: &str) -> Result<(), ApiError> {
    if component == LIMITS.0 || component == OPERATOR_POLICY {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!("Validation failed\n\ncomponent {component} not found\n")))
}

/// What a parameter of that name says; an empty list says as much as an empty object.
///
/// # Errors
/// It is no object, in RabbitMQ's words.
fn object(name: &str, value: Value) -> Result<Object, ApiError> {
    let why = match value {
        Value::Object(value) => return Ok(value),
        Value::Array(list) if list.is_empty() => return Ok(Object::new()),
        Value::Array(list) => format!("Unrecognised terms {} in {name}", term(&Value::Array(list))),
        other => format!("{name} not a list {}", term(&other)),
    };
    Err(ApiError::BadRequest(format!("Validation failed\n\n{why}\n")))
}

/// Whether a parameter that is an operator policy says what it must and nothing else: stricter than the policy's own path,
/// as RabbitMQ is.
///
/// # Errors
/// It does not, in RabbitMQ's words.
fn check_terms(name: &str, value: &Object) -> Result<(), ApiError> {
    let strange = value.iter().filter(|(key, _)| !OF_OPERATOR_POLICY.contains(&key.as_str()));
    let strange: Vec<String> =
        strange.map(|(key, value)| format!("{{<<{key:?}>>,{}}}", term(value))).collect();
    let mut why = String::new();
    if !strange.is_empty() {
        why.push_str(&format!("Unrecognised terms [{}] in {name}\n", strange.join(",")));
    }
    for key in ["priority", "definition", "pattern"].into_iter().filter(|key| !value.contains_key(*key)) {
        why.push_str(&format!("Key \"{key}\" not found in {name}\n"));
    }
    if why.is_empty() { Ok(()) } else { Err(ApiError::BadRequest(format!("Validation failed\n\n{why}"))) }
}

/// Sets one of a component, a virtual host, and a name.
///
/// # Errors
/// There are no such parameters, there is no such virtual host, or what is said makes no sense.
pub(super) async fn set(
    api: &Arc<Api>,
    [component, vhost, name]: [String; 3],
    value: Value,
) -> Result<(), ApiError> {
    check_component(&component)?;
    let mut value = object(&name, value)?;
    if component == LIMITS.0 {
        return put_limits(api, &vhost, value).await;
    }
    check_terms(&name, &value)?;
    value.insert("vhost".to_owned(), json!(vhost));
    value.insert("name".to_owned(), json!(name));
    let names = Names((vhost, name));
    policies::put(PolicyKind::Operator, State(api.clone()), names, Some(JsonBody(value))).await.map(|_| ())
}

/// Sets limits of a virtual host.
///
/// # Errors
/// As of each limit by itself.
pub(super) async fn put_limits(api: &Arc<Api>, vhost: &str, limits: Object) -> Result<(), ApiError> {
    for (limit, value) in limits {
        let body = JsonBody(fields(json!({ "value": value })));
        vhosts::put_limit(State(api.clone()), Names((vhost.to_owned(), limit)), body).await?;
    }
    Ok(())
}
