//! `/api/policies` and `/api/operator-policies`: what holds for queues and exchanges by their names.

use super::{
    Api, arguments, aside,
    body::JsonBody,
    error::ApiError,
    json::policies::PolicyJson,
    kept::{self, Put},
    login::Caller,
    path::Names,
    users::name_of,
};
use crate::policies::{self, PolicyRefused};
use axum::{Extension, Json, extract::State, http::StatusCode};
use leveret_broker::{
    Vhost,
    policy::{Policy, PolicyKind},
    port::Router as _,
};
use serde_json::{Map, Number, Value};
use std::sync::Arc;

/// What must be said of a policy.
const NEEDED: [&str; 2] = ["pattern", "definition"];
/// What may be said besides.
const MORE: [&str; 2] = ["apply-to", "priority"];

pub(super) async fn list(
    kind: PolicyKind,
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<PolicyJson>> {
    Json(describe_all(&api, kind, &api.vhosts_of(&caller)))
}

pub(super) async fn list_of_vhost(
    kind: PolicyKind,
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<Vec<PolicyJson>>, ApiError> {
    Ok(Json(describe_all(&api, kind, &[api.vhost(&vhost)?])))
}

pub(super) async fn read(
    kind: PolicyKind,
    State(api): State<Arc<Api>>,
    Names((vhost, policy)): Names<(String, String)>,
) -> Result<Json<PolicyJson>, ApiError> {
    let vhost = api.vhost(&vhost)?;
    let policies = vhost.policies();
    let policy = policies.get(kind, policy.as_bytes()).ok_or(ApiError::NotFound)?;
    Ok(Json(describe(&api, kind, &vhost, policy)))
}

/// The one that counts least first, as RabbitMQ has them.
pub(super) fn describe_all(api: &Api, kind: PolicyKind, vhosts: &[Arc<Vhost>]) -> Vec<PolicyJson> {
    let of = |vhost: &Arc<Vhost>| vhost.policies().of(kind).to_vec();
    let mut all: Vec<_> =
        vhosts.iter().flat_map(|vhost| of(vhost).into_iter().map(move |policy| (vhost, policy))).collect();
    // By virtual host and name where the priority is the same.
    all.sort_by(|(a_vhost, a), (b_vhost, b)| {
        let names = || (a_vhost.name(), a.name()).cmp(&(b_vhost.name(), b.name()));
        a.priority().total_cmp(&b.priority()).then_with(names)
    });
    all.iter().map(|(vhost, policy)| describe(api, kind, vhost, policy)).collect()
}

fn describe(api: &Api, kind: PolicyKind, vhost: &Vhost, policy: &Policy) -> PolicyJson {
    let mut fields = arguments::to_json(&policies::fields(policy));
    let priority = fields.remove("priority").and_then(|priority| match priority {
        Value::Number(number) => Some(number),
        _ => None,
    });
    PolicyJson {
        vhost: vhost.name().to_text(),
        name: policy.name().to_text(),
        pattern: policy.pattern().to_owned(),
        apply_to: policy.apply_to().as_str().to_owned(),
        definition: arguments::to_json(policy.definition()),
        priority: priority.unwrap_or_else(|| Number::from(0)),
        declared: api.shared.policies.is_declared(vhost.name(), kind, policy.name()),
    }
}

/// Sets one. It holds when this is answered, and is kept.
pub(super) async fn put(
    kind: PolicyKind,
    State(api): State<Arc<Api>>,
    Names((vhost, policy)): Names<(String, String)>,
    body: Option<JsonBody<Map<String, Value>>>,
) -> Result<Put, ApiError> {
    let body = body.map(|JsonBody(body)| body).unwrap_or_default();
    let (vhost, name) = (name_of(&vhost)?, name_of(&policy)?);
    api.shared.vhosts.get(&vhost).ok_or(ApiError::NoVhost)?;
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|field| !body.contains_key(**field))
        .map(|field| format!("{{key_missing,{field}}}"))
        .collect();
    if !missing.is_empty() {
        return Err(ApiError::BadRequest(format!("[{}]", missing.join(","))));
    }
    let said = body.into_iter().filter(|(field, _)| NEEDED.iter().chain(&MORE).any(|known| known == field));
    let said = arguments::from_json(&said.collect()).map_err(ApiError::BadRequest)?;
    let policy = policies::policy(kind, name, &said)
        .map_err(|why| ApiError::BadRequest(format!("Validation failed\n\n{why}\n")))?;
    let (done, kept) = kept::done();
    let (there, place) = (api.clone(), vhost.clone());
    let put = move |router: &mut leveret_plugin::Worker| {
        // It may have been deleted meanwhile.
        let vhost = there.shared.vhosts.get(&place).ok_or(PolicyRefused::NotThere)?.vhost;
        there.shared.policies.put(&vhost, (kind, policy), router.now_ms(), done)
    };
    let is_new = aside::in_the_lane(&api, &vhost, put).await?.map_err(refused)?;
    kept.wait().await?;
    Ok(Put::new(is_new))
}

/// Takes one away. What it said does not hold any more when this is answered.
pub(super) async fn delete(
    kind: PolicyKind,
    State(api): State<Arc<Api>>,
    Names((vhost, policy)): Names<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (vhost, name) = (name_of(&vhost)?, name_of(&policy)?);
    let (done, kept) = kept::done();
    let (there, place) = (api.clone(), vhost.clone());
    let delete = move |router: &mut leveret_plugin::Worker| {
        let vhost = there.shared.vhosts.get(&place).ok_or(PolicyRefused::NotThere)?.vhost;
        there.shared.policies.delete(&vhost, (kind, &name), router.now_ms(), done)
    };
    aside::in_the_lane(&api, &vhost, delete).await?.map_err(refused)?;
    kept.wait().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn refused(why: PolicyRefused) -> ApiError {
    match why {
        PolicyRefused::NotThere => ApiError::NotFound,
        why @ (PolicyRefused::Declared(_) | PolicyRefused::NotKept(_)) => ApiError::Refused(why.to_string()),
    }
}
