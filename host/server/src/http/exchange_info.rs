//! `/api/exchanges-info`: an exchange from the inside, as its types show it; `/api/exchanges-arguments`:
//! its arguments changed while it is in use. Not in RabbitMQ.

use super::{
    Api, arguments, aside,
    body::JsonBody,
    error::ApiError,
    json::exchange_info::{ConfigureJson, ConfiguredJson, ExchangeInfoJson, LayerInfoJson},
    path::Names,
};
use axum::{Json, extract::State};
use leveret_broker::exchange::ArgumentsChange;
use leveret_model::{Name, Refusal};
use leveret_plugin::{LayerInfo, Worker as PluginWorker};
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
        arguments: arguments::to_json(&exchange.settings().arguments),
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

/// Changes arguments; answers when publishes that begin afterwards are decided with them.
pub(super) async fn configure(
    State(api): State<Arc<Api>>,
    Names((vhost, exchange)): Names<(String, String)>,
    JsonBody(request): JsonBody<ConfigureJson>,
) -> Result<Json<ConfiguredJson>, ApiError> {
    let (vhost, exchange) = api.exchange(&vhost, &exchange)?;
    let (vhost, name) = (vhost.clone(), exchange.spec.name.clone());
    let unset = request.unset.iter().map(|name| Name::new(name.as_bytes()));
    let change = ArgumentsChange {
        set: arguments::from_json(&request.set).map_err(ApiError::BadRequest)?,
        unset: unset.collect::<Result<_, _>>().map_err(|error| ApiError::BadRequest(error.to_string()))?,
    };
    let in_vhost = vhost.name().clone();
    let configure = move |worker: &mut PluginWorker| vhost.configure_exchange_kept(worker, &name, &change);
    match aside::in_the_lane(&api, &in_vhost, configure).await? {
        Ok((settings, receipt)) => {
            aside::safe(&receipt).await?;
            Ok(Json(ConfiguredJson {
                arguments: arguments::to_json(&settings.arguments),
                changes: settings.number,
            }))
        }
        Err(Refusal::NotFound { .. }) => Err(ApiError::NotFound),
        // Its words are those of a deletion, which is what clients ask for.
        Err(Refusal::Protected { exchange, vhost }) => Err(ApiError::Refused(format!(
            "the arguments of the system exchange '{exchange}' in vhost '{vhost}' cannot be changed"
        ))),
        Err(refusal) => Err(ApiError::Refused(refusal.to_string())),
    }
}
