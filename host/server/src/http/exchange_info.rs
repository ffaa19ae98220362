//! `/api/exchanges-info`: an exchange from the inside, as its types show it. Not in RabbitMQ.

use super::{
    Api, arguments,
    error::ApiError,
    json::exchange_info::{ExchangeInfoJson, LayerInfoJson},
    path::Names,
};
use axum::{Json, extract::State};
use leveret_plugin::LayerInfo;
use std::sync::Arc;

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names((vhost, exchange)): Names<(String, String)>,
) -> Result<Json<ExchangeInfoJson>, ApiError> {
    let (_, exchange) = api.exchange(&vhost, &exchange)?;
    let asked = exchange.clone();
    let types =
        api.explainer.with_worker(move |worker| worker.info(&asked)).await.map_err(|_| ApiError::Busy)?;
    Ok(Json(ExchangeInfoJson {
        name: exchange.spec.name.to_text(),
        vhost: exchange.vhost.to_text(),
        type_name: exchange.spec.type_name.to_text(),
        arguments: arguments::to_json(&exchange.spec.arguments),
        bindings: exchange.binding_count(),
        held: exchange.hold_count() as u64,
        rejected: exchange.rejected_count(),
        types: types.into_iter().map(describe).collect(),
    }))
}

fn describe(layer: LayerInfo) -> LayerInfoJson {
    let LayerInfo { type_name, plugin, shown, .. } = layer;
    let (plugin, version) = plugin.unzip();
    let (info, error) = match shown {
        Ok(fields) => (arguments::to_json(&fields.into_iter().collect()), None),
        Err(why) => (serde_json::Map::new(), Some(why)),
    };
    LayerInfoJson { type_name: type_name.to_text(), plugin, version, info, error }
}
