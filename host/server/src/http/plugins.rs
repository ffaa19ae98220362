//! `/api/plugins`: the exchange types and what serves them. Not in RabbitMQ.
//!
//! `/api/plugins/{type}` is one type; what will be told or done of one goes below that path.

use super::{
    Api,
    error::ApiError,
    json::{PluginJson, PluginState, ServingJson},
    path::Names,
};
use axum::{Json, extract::State};
use leveret_plugin::{
    CodeStrategy,
    registry::{TypeInfo, TypeState},
};
use std::sync::Arc;

/// By the name of the type.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Vec<PluginJson>> {
    Json(api.shared.plugins.registry().types().into_iter().map(describe).collect())
}

pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names(type_name): Names<String>,
) -> Result<Json<PluginJson>, ApiError> {
    let mut types = api.shared.plugins.registry().types().into_iter();
    let found = types.find(|info| info.name.as_bytes() == type_name.as_bytes());
    found.map(describe).map(Json).ok_or(ApiError::NotFound)
}

fn describe(info: TypeInfo) -> PluginJson {
    let (type_name, exchanges, scope) = (info.name.to_text(), info.exchanges, info.scope.to_string());
    match info.state {
        TypeState::Serving {
            plugin,
            version,
            digest,
            strategy,
            builtin,
            summary,
            pure,
            purity_withdrawn,
        } => {
            let (digest, compiler) = (hexadecimal(&digest.0), compiler(strategy).to_owned());
            let serving =
                ServingJson { plugin, version, digest, compiler, builtin, summary, pure, purity_withdrawn };
            let (state, serving) = (PluginState::Serving, Some(serving));
            PluginJson { type_name, scope, state, exchanges, serving, reason: None }
        }
        TypeState::Parked { why } => {
            let (state, reason) = (PluginState::Parked, Some(why));
            PluginJson { type_name, scope, state, exchanges, serving: None, reason }
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn compiler(strategy: CodeStrategy) -> &'static str {
    match strategy {
        CodeStrategy::Cranelift => "cranelift",
        CodeStrategy::Winch => "winch",
    }
}
