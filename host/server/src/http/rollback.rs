//! `/api/plugins-versions` and `/api/plugins-rollback`: the versions of a plugin that served, and the way
//! to one of them, back or forward. Not in RabbitMQ.
//!
//! A plugin is named by its file without `.wasm`. One of a virtual host's own is another plugin than one
//! of the same name that is there for all.

use super::{
    Api,
    body::JsonBody,
    error::ApiError,
    json::versions::{RollbackJson, VersionJson, VersionsJson, WentBackJson},
    path::Names,
    plugins::hexadecimal,
};
use axum::{Json, extract::State};
use leveret_plugin::{
    Digest, LoadChange, LoadError, LoadReport, Scope,
    registry::{GoTo, Stage, VersionInfo},
};
use std::{sync::Arc, time::UNIX_EPOCH};

/// The newest first, of a plugin for all virtual hosts.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Names(plugin): Names<String>,
) -> Result<Json<VersionsJson>, ApiError> {
    kept(&api, Scope::Global, &plugin).map(Json)
}

/// The newest first, of a plugin of a virtual host's own.
pub(super) async fn list_of_vhost(
    State(api): State<Arc<Api>>,
    Names((plugin, vhost)): Names<(String, String)>,
) -> Result<Json<VersionsJson>, ApiError> {
    let scope = Scope::Vhost(api.vhost(&vhost)?.name().clone());
    kept(&api, scope, &plugin).map(Json)
}

fn kept(api: &Api, scope: Scope, plugin: &str) -> Result<VersionsJson, ApiError> {
    let versions = api.shared.plugins.registry().versions(&scope, plugin);
    if versions.is_empty() {
        return Err(ApiError::NotFound);
    }
    let versions = versions.into_iter().map(describe).collect();
    Ok(VersionsJson { plugin: plugin.to_owned(), scope: scope.to_string(), versions })
}

/// Goes to another version, and answers when it serves.
pub(super) async fn go_back(
    State(api): State<Arc<Api>>,
    JsonBody(request): JsonBody<RollbackJson>,
) -> Result<Json<WentBackJson>, ApiError> {
    let to = match (&request.to, request.newest) {
        (Some(_), true) => return Err(ApiError::BadRequest("to and newest together".to_owned())),
        (Some(name), false) => GoTo::Named(name.clone()),
        (None, true) => GoTo::Newest,
        (None, false) => GoTo::Before,
    };
    let scope = match &request.vhost {
        None => Scope::Global,
        Some(vhost) => Scope::Vhost(api.vhost(vhost)?.name().clone()),
    };
    let registry = api.shared.plugins.registry().clone();
    let versions = registry.versions(&scope, &request.plugin);
    if versions.is_empty() {
        return Err(ApiError::NotFound);
    }
    let plugin = request.plugin.clone();
    let went = api.aside.run(move || {
        let report = registry.go_to(&scope, &plugin, &to)?;
        Ok::<_, LoadError>((registry.left_out(&scope, &plugin), report))
    });
    match went.await? {
        Ok((left_out, report)) => Ok(Json(describe_report(request.plugin, &versions, left_out, report))),
        Err(error) if error.stage == Stage::Read => Err(ApiError::Refused(error.reason)),
        Err(error) => Err(ApiError::Refused(error.to_string())),
    }
}

fn describe(version: VersionInfo) -> VersionJson {
    let since = version.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    VersionJson {
        digest: hexadecimal(&version.digest.0),
        version: version.version,
        serving: version.serving,
        since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    }
}

fn describe_report(
    plugin: String,
    before: &[VersionInfo],
    file_left_out: bool,
    report: LoadReport,
) -> WentBackJson {
    let from = match report.change {
        LoadChange::Replaced { digest } => Some(digest),
        LoadChange::Added | LoadChange::Unchanged => None,
    };
    let version_of = |digest: Digest| before.iter().find(|version| version.digest == digest);
    // The newest is the first.
    let place = |digest| before.iter().position(|version| version.digest == digest).unwrap_or(usize::MAX);
    WentBackJson {
        plugin,
        scope: report.scope.to_string(),
        version: report.version,
        digest: hexadecimal(&report.digest.0),
        from_version: from.and_then(version_of).map(|version| version.version.clone()),
        from_digest: from.map(|digest| hexadecimal(&digest.0)),
        exchanges: report.exchanges,
        bindings: report.bindings,
        forward: from.is_some_and(|from| place(report.digest) < place(from)),
        states_migrated: report.state.migrated,
        states_restored: report.state.restored,
        states_emptied: report.state.emptied,
        discarded_entries: report.state.discarded_entries,
        discarded_bytes: report.state.discarded_bytes,
        file: report.path.display().to_string(),
        file_left_out,
    }
}
