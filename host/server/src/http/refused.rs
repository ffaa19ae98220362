//! Files of plugins that were not taken, as `/api/plugins` tells them: beside the types of an older version
//! that serves, or by themselves where none does. And `/api/plugins-retry`, which tries once more.

use super::{
    Api,
    body::JsonBody,
    error::ApiError,
    json::{
        PluginJson, PluginState,
        refused::{HeldBackJson, RefusedJson, RetriedJson, RetryJson},
        seen::CallsJson,
    },
    plugins::millis,
};
use axum::{Json, extract::State};
use leveret_plugin::{
    Scope,
    registry::{RefusedInfo, RetryReport, Stage},
};
use std::sync::Arc;

/// Tries once more, and answers when that is done.
pub(super) async fn retry(
    State(api): State<Arc<Api>>,
    JsonBody(request): JsonBody<RetryJson>,
) -> Result<Json<RetriedJson>, ApiError> {
    let vhost = match &request.vhost {
        None => None,
        Some(vhost) => Some(api.vhost(vhost)?.name().clone()),
    };
    let registry = api.shared.plugins.registry().clone();
    // A virtual host's own plugin of that name comes first, as it does for messages.
    let own = vhost.clone().map(Scope::Vhost).filter(|own| {
        registry.refused().iter().any(|info| info.scope == *own && info.plugin() == request.plugin)
    });
    let plugin = request.plugin.clone();
    let retried = api.aside.run(move || match &own {
        Some(own) => registry.retry(own, &plugin, None),
        None => registry.retry(&Scope::Global, &plugin, vhost.as_ref()),
    });
    match retried.await? {
        Ok(report) => Ok(Json(describe_retry(request.plugin, report))),
        Err(error) if error.stage == Stage::Read => Err(ApiError::Refused(error.reason)),
        Err(error) => Err(ApiError::Refused(error.to_string())),
    }
}

fn describe_retry(plugin: String, report: RetryReport) -> RetriedJson {
    let loaded = report.loaded.iter().flat_map(|loaded| loaded.held_back.iter().cloned());
    // What the file's own way has found out, and what was tried after it.
    let mut held_back: Vec<HeldBackJson> = Vec::new();
    for (vhost, error) in loaded.chain(report.held_back) {
        let vhost = vhost.to_text();
        held_back.retain(|known| known.vhost != vhost);
        held_back.push(HeldBackJson { vhost, stage: error.stage.to_string(), reason: error.reason });
    }
    RetriedJson {
        plugin,
        version: report.loaded.map(|loaded| loaded.version),
        moved: report.moved.iter().map(|vhost| vhost.to_text()).collect(),
        held_back,
    }
}

pub(super) fn describe(info: RefusedInfo) -> RefusedJson {
    let plugin = info.plugin();
    let (serving_version, digest) = info.serving.unzip();
    RefusedJson {
        file: info.path.display().to_string(),
        plugin,
        scope: info.scope.to_string(),
        vhost: info.vhost.map(|vhost| vhost.to_text()),
        stage: info.error.stage.to_string(),
        reason: info.error.reason,
        since_ms: millis(info.since),
        serving_version,
        serving_digest: digest.map(|digest| digest.to_hex()),
    }
}

/// Puts each refused file to the types that an older version of it serves; what is left gets a line of its
/// own, without a type.
pub(super) fn put_beside(refused: Vec<RefusedJson>, plugins: &mut Vec<PluginJson>) {
    for file in refused {
        let is_of = |plugin: &&mut PluginJson| {
            let serving = plugin.serving.as_ref();
            plugin.scope == file.scope && serving.is_some_and(|s| !s.builtin && s.plugin == file.plugin)
        };
        let mut beside: Vec<&mut PluginJson> = plugins.iter_mut().filter(is_of).collect();
        beside.iter_mut().for_each(|plugin| plugin.refused.push(file.clone()));
        if beside.is_empty() {
            plugins.push(alone(file));
        }
    }
}

/// A refused file as a line of its own.
pub(super) fn alone(file: RefusedJson) -> PluginJson {
    PluginJson {
        type_name: String::new(),
        scope: file.scope.clone(),
        state: PluginState::Refused,
        parked_plugin: None,
        exchanges: 0,
        serving: None,
        reason: Some(format!("{} was refused at stage {}: {}", file.file, file.stage, file.reason)),
        fallback: None,
        memory_bytes: 0,
        remembered_bytes: 0,
        calls: CallsJson::default(),
        vhosts: Vec::new(),
        candidate: None,
        pinned: Vec::new(),
        refused: vec![file],
    }
}
