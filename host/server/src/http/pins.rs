//! `/api/plugins-pins`: exchanges that stay on a version of their plugin. Not in RabbitMQ.
//!
//! A pin lasts until it is taken back, its exchange is deleted, or the broker ends.

use super::{
    Api,
    body::JsonBody,
    error::ApiError,
    json::candidates::{PinJson, PinOrderJson, UnpinnedJson},
    path::Names,
};
use axum::{Json, extract::State};
use leveret_plugin::registry::{PinInfo, PinTo};
use std::sync::Arc;

/// By virtual host and exchange.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Vec<PinJson>> {
    Json(api.shared.plugins.registry().pins().into_iter().map(describe).collect())
}

/// Keeps an exchange on a version, and answers when it is there.
pub(super) async fn pin(
    State(api): State<Arc<Api>>,
    Names((vhost, exchange)): Names<(String, String)>,
    JsonBody(order): JsonBody<PinOrderJson>,
) -> Result<Json<PinJson>, ApiError> {
    let (_, exchange) = api.exchange(&vhost, &exchange)?;
    let to = match order.version.as_str() {
        "current" => PinTo::Current,
        name => PinTo::Named(name.to_owned()),
    };
    let registry = api.shared.plugins.registry().clone();
    let pinned = api.aside.run(move || registry.pin(&exchange, &to)).await?;
    pinned.map(|pin| Json(describe(pin))).map_err(|error| ApiError::Refused(error.to_string()))
}

/// Takes that back.
pub(super) async fn unpin(
    State(api): State<Arc<Api>>,
    Names((vhost, exchange)): Names<(String, String)>,
) -> Result<Json<UnpinnedJson>, ApiError> {
    let (_, exchange) = api.exchange(&vhost, &exchange)?;
    let registry = api.shared.plugins.registry().clone();
    let unpinned = api.aside.run(move || registry.unpin(&exchange)).await?;
    match unpinned {
        Ok(unpinned) => Ok(Json(UnpinnedJson { unpinned })),
        Err(error) => Err(ApiError::Refused(error.to_string())),
    }
}

pub(super) fn describe(pin: PinInfo) -> PinJson {
    PinJson {
        vhost: pin.vhost.to_text(),
        exchange: pin.exchange.to_text(),
        type_name: pin.exchange_type.to_text(),
        plugin: pin.plugin,
        scope: pin.scope.to_string(),
        version: pin.version,
        digest: pin.digest.to_hex(),
        serving: pin.serving,
    }
}
