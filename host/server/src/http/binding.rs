//! Bindings between two ends: made, looked at, taken away, as RabbitMQ's API does it. Lists of all bindings are in
//! `bindings.rs`.

use super::{
    Api,
    acting::{self, NOBODY, name},
    arguments, aside,
    bindings::{self, Found},
    body::JsonBody,
    error::ApiError,
    json::{BindingJson, DestinationType},
    login::Caller,
    path::Names,
};
use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use leveret_broker::{BindTo, exchange::Destination};
use leveret_model::{Refusal, Table};
use leveret_plugin::Worker as PluginWorker;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What is said of a binding.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    routing_key: String,
    arguments: Map<String, Value>,
}

/// Which ends: `{vhost}/e/{source}/(q|e)/{destination}`.
type Ends = (String, String, String, String);

/// The bindings between two ends.
fn between(api: &Api, (vhost, source, kind, destination): &Ends) -> Result<Vec<Found>, ApiError> {
    let (vhost, source) = api.exchange(vhost, source)?;
    let destination = match kind.as_str() {
        "q" => Destination::Queue(vhost.queue(destination.as_bytes()).ok_or(ApiError::NotFound)?),
        "e" => Destination::Exchange(vhost.exchange(destination.as_bytes()).ok_or(ApiError::NotFound)?),
        _ => return Err(ApiError::NotFound),
    };
    Ok(bindings::between(&vhost, &source, &destination))
}

/// `GET /api/bindings/{vhost}/e/{source}/(q|e)/{destination}`.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Names(ends): Names<Ends>,
) -> Result<Json<Vec<BindingJson>>, ApiError> {
    Ok(Json(between(&api, &ends)?.into_iter().map(|found| found.shown).collect()))
}

/// The one with the key at the end of a path.
fn by_key(api: &Api, ends: &Ends, uri: &Uri, key: &str) -> Result<Found, ApiError> {
    let raw = uri.path().rsplit('/').next().unwrap_or_default();
    bindings::by_key(between(api, ends)?, raw, key).ok_or(ApiError::NotFound)
}

/// `GET` of one, by its key.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names((vhost, source, kind, destination, key)): Names<(String, String, String, String, String)>,
    uri: Uri,
) -> Result<Json<BindingJson>, ApiError> {
    Ok(Json(by_key(&api, &(vhost, source, kind, destination), &uri, &key)?.shown))
}

/// `POST`: makes one. Answers with where it is.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names((vhost, source, kind, destination)): Names<Ends>,
    body: Option<JsonBody<Said>>,
) -> Result<Response, ApiError> {
    let said = body.map(|JsonBody(body)| body).unwrap_or_default();
    let (mut entered, is_queue) = (api.enter(&caller, &vhost).map_err(|_| ApiError::NoVhost)?, kind == "q");
    let to = if is_queue {
        BindTo::Queue(destination.as_bytes())
    } else {
        BindTo::Exchange(destination.as_bytes())
    };
    entered.acting().demand_bind(to, source.as_bytes(), said.routing_key.as_bytes())?;
    let (vhost, routing_key) = (entered.vhost, name(&said.routing_key)?);
    let table = arguments::from_json(&said.arguments).map_err(ApiError::BadRequest)?;
    let key = arguments::properties_key(&routing_key, &said.arguments);
    // As RabbitMQ has it, the key is quoted once more as a part of a path.
    let location = format!("{}/{}", arguments::quoted(&destination), arguments::quoted_key(&key));
    let place = vhost.name().clone();
    let bind = move |worker: &mut PluginWorker| {
        let to = match is_queue {
            true => BindTo::Queue(destination.as_bytes()),
            false => BindTo::Exchange(destination.as_bytes()),
        };
        vhost.bind(worker, source.as_bytes(), to, &routing_key, table, NOBODY)
    };
    if !["q", "e"].contains(&kind.as_str()) {
        return Err(ApiError::NotFound);
    }
    let bound: Result<_, Refusal> = aside::in_the_lane(&api, &place, bind).await?;
    aside::safe(&bound?).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

/// `DELETE` of one, by its key.
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names((vhost, source, kind, destination, key)): Names<(String, String, String, String, String)>,
    uri: Uri,
) -> Result<StatusCode, ApiError> {
    let ends = (vhost, source, kind, destination);
    let Found { shown, binding } = by_key(&api, &ends, &uri, &key)?;
    let (vhost, source, _, destination) = ends;
    let mut entered = api.enter(&caller, &vhost)?;
    let to = match shown.destination_type {
        DestinationType::Queue => BindTo::Queue(destination.as_bytes()),
        DestinationType::Exchange => BindTo::Exchange(destination.as_bytes()),
    };
    entered.acting().demand_bind(to, source.as_bytes(), shown.routing_key.as_bytes())?;
    let (vhost, place) = (entered.vhost.clone(), entered.vhost.name().clone());
    // As they were said: what is shown of them is not all.
    let (routing_key, table) = match binding {
        Some(binding) => (binding.routing_key.clone(), binding.arguments.clone()),
        None => (name(&shown.routing_key)?, Table::new()),
    };
    let unbind = move |worker: &mut PluginWorker| {
        let to = match shown.destination_type {
            DestinationType::Queue => BindTo::Queue(destination.as_bytes()),
            DestinationType::Exchange => BindTo::Exchange(destination.as_bytes()),
        };
        let now = vhost.unbind_now(worker, source.as_bytes(), to, &routing_key, table, NOBODY)?;
        acting::end(&vhost, worker, now, |_| Ok(leveret_broker::Receipt::default()))
    };
    let unbound: Result<_, Refusal> = aside::in_the_lane(&api, &place, unbind).await?;
    aside::safe(&unbound?).await?;
    Ok(StatusCode::NO_CONTENT)
}
