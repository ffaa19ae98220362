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
use leveret_model::{Refusal, Table, refusal::Resource};
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

/// `PUT /api/queues/{vhost}/{queue}`.
pub(super) async fn put_queue(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names((vhost, queue)): Names<(String, String)>,
    body: Option<JsonBody<Declaration>>,
) -> Result<Put, ApiError> {
    let said = body.map(|JsonBody(body)| body).unwrap_or_default();
    let (mut entered, queue) = (api.enter(&caller, &vhost).map_err(|_| ApiError::NoVhost)?, name(&queue)?);
    let is_new = entered.vhost.queue(&declared_name(&queue)).is_none();
    let spec = QueueSpec {
        name: queue,
        durable: said.durable,
        exclusive: false,
        auto_delete: said.auto_delete,
        arguments: table(said.arguments)?,
    };
    let (_, receipt) = entered.acting().declare_queue(&api.shared, spec, NOBODY)?;
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
    let mut entered = api.enter(&caller, &vhost)?;
    api.queue(&vhost, &queue)?;
    entered.acting().demand(Operation::Configure, Resource::Queue, queue.as_bytes())?;
    let vhost = entered.vhost;
    let place = vhost.name().clone();
    let delete = move |worker: &mut PluginWorker| {
        let now = vhost.delete_queue_now(worker, queue.as_bytes(), if_unused, if_empty, NOBODY)?;
        acting::end(&vhost, worker, now, |_| Ok(leveret_broker::Receipt::default()))
    };
    let deleted: Result<_, Refusal> = aside::in_the_lane(&api, &place, delete).await?;
    aside::safe(&deleted?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/queues/{vhost}/{queue}/contents`: its ready messages.
pub(super) async fn purge_queue(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Names((vhost, queue)): Names<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let mut entered = api.enter(&caller, &vhost)?;
    api.queue(&vhost, &queue)?;
    entered.acting().demand_read(queue.as_bytes())?;
    let (_, receipt) = entered.vhost.purge_queue_kept(queue.as_bytes(), NOBODY)?;
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
    let (mut entered, exchange) =
        (api.enter(&caller, &vhost).map_err(|_| ApiError::NoVhost)?, name(&exchange)?);
    let is_new = entered.vhost.exchange(&declared_name(&exchange)).is_none();
    let spec = ExchangeSpec {
        name: exchange,
        type_name: name(said.type_name.as_deref().unwrap_or("direct"))?,
        durable: said.durable,
        auto_delete: said.auto_delete,
        internal: said.internal,
        arguments: table(said.arguments)?,
    };
    let place = entered.vhost.name().clone();
    let declare = move |worker: &mut PluginWorker| {
        entered.acting().demand_exchange_declare(&spec, worker)?;
        worker.check_type(entered.vhost.name(), &spec.type_name, &spec.name)?;
        entered.vhost.declare_exchange(worker, spec)
    };
    let declared: Result<_, Refusal> = aside::in_the_lane(&api, &place, declare).await?;
    aside::safe(&declared?).await?;
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
    let mut entered = api.enter(&caller, &vhost)?;
    api.exchange(&vhost, &exchange)?;
    let exchange = if exchange == DEFAULT_EXCHANGE { String::new() } else { exchange };
    entered.acting().demand_exchange_delete(exchange.as_bytes())?;
    let vhost = entered.vhost;
    let place = vhost.name().clone();
    let delete = move |worker: &mut PluginWorker| {
        let now = vhost.delete_exchange_now(worker, exchange.as_bytes(), if_unused)?;
        acting::end(&vhost, worker, now, |_| Ok(leveret_broker::Receipt::default()))
    };
    let deleted: Result<_, Refusal> = aside::in_the_lane(&api, &place, delete).await?;
    aside::safe(&deleted?).await?;
    Ok(StatusCode::NO_CONTENT)
}
