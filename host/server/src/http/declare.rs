//! Making and deleting queues and exchanges, and emptying queues, as RabbitMQ's API does it.

use super::{
    Api, DEFAULT_EXCHANGE,
    acting::{self, NOBODY, name},
    arguments, aside,
    body::JsonBody,
    error::ApiError,
    kept::Put,
    login::Caller,
    path::Names,
};
use axum::{
    Extension,
    extract::State,
    http::{StatusCode, Uri},
};
use leveret_access::Operation;
use leveret_broker::{ExchangeSpec, QueueSpec, declared_name, port::Router as _};
use leveret_model::{Refusal, Table};
use leveret_plugin::Worker as PluginWorker;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The body of what is declared; what RabbitMQ's tools say besides (`node`) says nothing here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Declaration {
    #[serde(rename = "type")]
    type_name: Option<String>,
    #[serde(deserialize_with = "said")]
    durable: bool,
    #[serde(deserialize_with = "said")]
    auto_delete: bool,
    #[serde(deserialize_with = "said")]
    internal: bool,
    arguments: Option<Map<String, Value>>,
}

/// A boolean, which some tools send as a text.
fn said<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Bool(boolean) => Ok(boolean),
        Value::Null => Ok(false),
        Value::String(text) if text == "true" || text == "false" => Ok(text == "true"),
        other => Err(serde::de::Error::custom(format!("{other} is no boolean"))),
    }
}

/// Whether a deletion has that condition: `?if-unused=true`.
fn has_condition(uri: &Uri, condition: &str) -> bool {
    let parts = uri.query().unwrap_or_default().split('&');
    parts.filter_map(|part| part.split_once('=')).any(|part| part == (condition, "true"))
}

fn table(arguments: Option<Map<String, Value>>) -> Result<Table, ApiError> {
    arguments::from_json(&arguments.unwrap_or_default()).map_err(ApiError::BadRequest)
}

fn text<'a>(arguments: &'a Table, name: &[u8]) -> Option<&'a str> {
    arguments.get(name).and_then(|value| value.as_text())
}

/// `PUT /api/queues/{vhost}/{queue}`.
pub(super) async fn put_queue(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names((vhost, queue)): Names<(String, String)>,
    body: Option<JsonBody<Declaration>>,
) -> Result<Put, ApiError> {
    let said = body.map(|JsonBody(body)| body).unwrap_or_default();
    let (mut acting, queue) = (api.acting(&caller, &vhost)?, declared_name(&name(&queue)?));
    let spec = QueueSpec {
        name: queue.clone(),
        durable: said.durable,
        exclusive: false,
        auto_delete: said.auto_delete,
        arguments: table(said.arguments)?,
    };
    acting.demand(Operation::Configure, &queue)?;
    let is_new = acting.vhost.queue(&queue).is_none();
    if is_new {
        acting.demand_forwarding(&queue, text(&spec.arguments, b"x-dead-letter-exchange"))?;
        let place = acting.vhost.name();
        let quorum = api.shared.quorum.check(&queue, place, &spec.arguments);
        let fits = quorum.and_then(|()| api.shared.vhosts.check_queues(place, &queue));
        fits.map_err(|refusal| acting::refused(&refusal))?;
    }
    let declared = acting.vhost.declare_queue_kept(spec, NOBODY);
    let (_, receipt) = declared.map_err(|refusal| acting::refused(&refusal))?;
    aside::safe(&receipt).await?;
    Ok(Put::new(is_new))
}

/// `DELETE /api/queues/{vhost}/{queue}`.
pub(super) async fn delete_queue(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names((vhost, queue)): Names<(String, String)>,
    uri: Uri,
) -> Result<StatusCode, ApiError> {
    let (if_unused, if_empty) = (has_condition(&uri, "if-unused"), has_condition(&uri, "if-empty"));
    let mut acting = api.acting(&caller, &vhost)?;
    api.queue(&vhost, &queue)?;
    acting.demand(Operation::Configure, queue.as_bytes())?;
    let vhost = acting.vhost;
    let place = vhost.name().clone();
    let delete = move |worker: &mut PluginWorker| {
        let now = vhost.delete_queue_now(worker, queue.as_bytes(), if_unused, if_empty, NOBODY)?;
        acting::end(&vhost, worker, now, |_| Ok(leveret_broker::Receipt::default()))
    };
    let deleted: Result<_, Refusal> = aside::in_the_lane(&api, &place, delete).await?;
    aside::safe(&deleted.map_err(|refusal| acting::refused(&refusal))?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/queues/{vhost}/{queue}/contents`: its ready messages.
pub(super) async fn purge_queue(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names((vhost, queue)): Names<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let mut acting = api.acting(&caller, &vhost)?;
    api.queue(&vhost, &queue)?;
    acting.demand(Operation::Read, queue.as_bytes())?;
    let purged = acting.vhost.purge_queue_kept(queue.as_bytes(), NOBODY);
    let (_, receipt) = purged.map_err(|refusal| acting::refused(&refusal))?;
    aside::safe(&receipt).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /api/exchanges/{vhost}/{exchange}`.
pub(super) async fn put_exchange(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names((vhost, exchange)): Names<(String, String)>,
    body: Option<JsonBody<Declaration>>,
) -> Result<Put, ApiError> {
    let said = body.map(|JsonBody(body)| body).unwrap_or_default();
    let (mut acting, exchange) = (api.acting(&caller, &vhost)?, declared_name(&name(&exchange)?));
    let spec = ExchangeSpec {
        name: exchange.clone(),
        type_name: name(said.type_name.as_deref().unwrap_or("direct"))?,
        durable: said.durable,
        auto_delete: said.auto_delete,
        internal: said.internal,
        arguments: table(said.arguments)?,
    };
    acting.demand(Operation::Configure, &exchange)?;
    let is_new = acting.vhost.exchange(&exchange).is_none();
    if is_new {
        acting.demand_forwarding(&exchange, text(&spec.arguments, b"alternate-exchange"))?;
    }
    let vhost = acting.vhost;
    let place = vhost.name().clone();
    let declare = move |worker: &mut PluginWorker| {
        worker.check_type(vhost.name(), &spec.type_name, &spec.name)?;
        vhost.declare_exchange(worker, spec)
    };
    let declared: Result<_, Refusal> = aside::in_the_lane(&api, &place, declare).await?;
    aside::safe(&declared.map_err(|refusal| acting::refused(&refusal))?).await?;
    Ok(Put::new(is_new))
}

/// `DELETE /api/exchanges/{vhost}/{exchange}`.
pub(super) async fn delete_exchange(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names((vhost, exchange)): Names<(String, String)>,
    uri: Uri,
) -> Result<StatusCode, ApiError> {
    let if_unused = has_condition(&uri, "if-unused");
    let mut acting = api.acting(&caller, &vhost)?;
    api.exchange(&vhost, &exchange)?;
    acting.demand(Operation::Configure, exchange.as_bytes())?;
    let vhost = acting.vhost;
    let place = vhost.name().clone();
    let exchange = if exchange == DEFAULT_EXCHANGE { String::new() } else { exchange };
    let delete = move |worker: &mut PluginWorker| {
        let now = vhost.delete_exchange_now(worker, exchange.as_bytes(), if_unused)?;
        acting::end(&vhost, worker, now, |_| Ok(leveret_broker::Receipt::default()))
    };
    let deleted: Result<_, Refusal> = aside::in_the_lane(&api, &place, delete).await?;
    aside::safe(&deleted.map_err(|refusal| acting::refused(&refusal))?).await?;
    Ok(StatusCode::NO_CONTENT)
}
