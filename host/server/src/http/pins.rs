//! `/api/plugins-pins`: exchanges that stay on a version of their plugin. Not in RabbitMQ.
//!
//! A pin lasts until it is taken back or its exchange is deleted. After a restart it waits for its exchange.

use super::{
    Api,
    body::JsonBody,
    error::ApiError,
    json::candidates::{PinJson, PinOrderJson, UnpinnedJson},
    path::Names,
};
use axum::{Json, extract::State};
use leveret_model::Name;
use leveret_plugin::{
    Registry,
    registry::{PinInfo, PinTo},
};
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
    let not_kept = api.shared.plugins.registry().decisions_not_kept();
    match pinned {
        Ok(pin) => Ok(Json(PinJson { not_kept, ..describe(pin) })),
        Err(error) => Err(ApiError::Refused(error.to_string())),
    }
}

/// Takes that back.
pub(super) async fn unpin(
    State(api): State<Arc<Api>>,
    Names((vhost, exchange)): Names<(String, String)>,
) -> Result<Json<UnpinnedJson>, ApiError> {
    let registry = api.shared.plugins.registry().clone();
    let unpinned = match api.exchange(&vhost, &exchange) {
        Ok((_, exchange)) => {
            let registry = registry.clone();
            api.aside.run(move || registry.unpin(&exchange)).await?
        }
        // It may be pinned for when it is declared again.
        Err(not_there) => {
            let (vhost, name) = (api.vhost(&vhost)?.name().clone(), Name::new(exchange.as_bytes()));
            let awaited = name.is_ok_and(|name| registry.unpin_awaited(&vhost, &name));
            return if awaited { Ok(Json(unpinned_json(&registry, true))) } else { Err(not_there) };
        }
    };
    match unpinned {
        Ok(unpinned) => Ok(Json(unpinned_json(&registry, unpinned))),
        Err(error) => Err(ApiError::Refused(error.to_string())),
    }
}

fn unpinned_json(registry: &Registry, unpinned: bool) -> UnpinnedJson {
    UnpinnedJson { unpinned, not_kept: registry.decisions_not_kept() }
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
        waiting: pin.waiting,
        problem: pin.problem,
        not_kept: None,
    }
}
