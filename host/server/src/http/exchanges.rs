//! `/api/exchanges`: exchanges as they were declared, with the arguments that they have now.

use super::{Api, arguments, error::ApiError, json::ExchangeJson, login::Caller, path::Names, stats};
use axum::{Extension, Json, extract::State};
use leveret_broker::{Vhost, exchange::Exchange};
use std::sync::Arc;

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<ExchangeJson>> {
    Json(api.vhosts_of(&caller).into_iter().flat_map(|vhost| describe_all(&api, &vhost)).collect())
}

pub(super) async fn list_of_vhost(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<Vec<ExchangeJson>>, ApiError> {
    Ok(Json(describe_all(&api, &*api.vhost(&vhost)?)))
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names((vhost, exchange)): Names<(String, String)>,
) -> Result<Json<ExchangeJson>, ApiError> {
    let (vhost, exchange) = api.exchange(&vhost, &exchange)?;
    Ok(Json(describe(&api, &vhost, &exchange)))
}

/// By name.
pub(super) fn describe_all(api: &Api, vhost: &Vhost) -> Vec<ExchangeJson> {
    let mut exchanges = vhost.exchanges();
    exchanges.sort_unstable_by(|a, b| a.spec.name.cmp(&b.spec.name));
    exchanges.iter().map(|exchange| describe(api, vhost, exchange)).collect()
}

fn describe(api: &Api, vhost: &Vhost, exchange: &Exchange) -> ExchangeJson {
    let spec = &exchange.spec;
    ExchangeJson {
        name: spec.name.to_text(),
        vhost: exchange.vhost.to_text(),
        type_name: spec.type_name.to_text(),
        durable: spec.durable,
        auto_delete: spec.auto_delete,
        internal: spec.internal,
        arguments: arguments::to_json(&exchange.settings().arguments),
        policy: exchange.policy().map(|policy| policy.name().to_text()),
        message_stats: stats::exchange(api, vhost, exchange),
    }
}
