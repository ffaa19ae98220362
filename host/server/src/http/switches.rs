//! `/api/plugins-switches`: plugins switched off and on, at once. Not in RabbitMQ.
//!
//! Switches hold against the configuration, also after a restart, until they are turned again.

use super::{
    Api,
    body::JsonBody,
    error::ApiError,
    json::seen::{SwitchJson, SwitchedJson},
};
use axum::{Json, extract::State};
use leveret_model::Name;
use leveret_plugin::{CORE_TYPES, Scope, policy::Switch};
use std::sync::Arc;

/// What is switched off.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Vec<SwitchJson>> {
    let mut off: Vec<SwitchJson> =
        api.shared.plugins.registry().policies().disabled().into_iter().map(describe).collect();
    off.sort_by(|a, b| (&a.plugin, &a.vhost).cmp(&(&b.plugin, &b.vhost)));
    Json(off)
}

/// Turns a switch.
pub(super) async fn turn(
    State(api): State<Arc<Api>>,
    JsonBody(request): JsonBody<SwitchJson>,
) -> Result<Json<SwitchedJson>, ApiError> {
    let switch = match (request.plugin, request.vhost) {
        (None, None) => Switch::All,
        (None, Some(_)) => return Err(ApiError::BadRequest("a vhost without a plugin".to_owned())),
        (Some(plugin), None) => Switch::Plugin(plugin),
        (Some(plugin), Some(vhost)) => {
            let vhost: Name = api.vhost(&vhost)?.name().clone();
            Switch::PluginInVhost { plugin, vhost }
        }
    };
    check(&api, &switch)?;
    let registry = api.shared.plugins.registry().clone();
    let changed = match request.enabled {
        // Exchanges are replayed, however long that takes.
        true => {
            let registry = registry.clone();
            api.aside.run(move || registry.enable(&switch)).await?
        }
        // At once, whatever else goes on.
        false => registry.disable(&switch),
    };
    Ok(Json(SwitchedJson { changed, not_kept: registry.decisions_not_kept() }))
}

/// A name that no plugin has is a slip of the pen, and a core type is not to be switched off.
fn check(api: &Api, switch: &Switch) -> Result<(), ApiError> {
    let Some(wanted) = plugin_of(switch) else {
        return Ok(());
    };
    let registry = api.shared.plugins.registry();
    let scopes = registry.scopes_of(wanted);
    // A file of that name is another plugin than the core type.
    if CORE_TYPES.contains(&wanted) && scopes.iter().all(|scope| *scope == Scope::Shipped) {
        return Err(ApiError::BadRequest(format!("the core exchange type {wanted} cannot be switched")));
    }
    let is_off = || registry.policies().disabled().iter().any(|off| plugin_of(off) == Some(wanted));
    if scopes.is_empty() && !is_off() { Err(ApiError::NotFound) } else { Ok(()) }
}

fn plugin_of(switch: &Switch) -> Option<&str> {
    match switch {
        Switch::All => None,
        Switch::Plugin(plugin) | Switch::PluginInVhost { plugin, .. } => Some(plugin),
    }
}

fn describe(switch: Switch) -> SwitchJson {
    let (plugin, vhost) = match switch {
        Switch::All => (None, None),
        Switch::Plugin(plugin) => (Some(plugin), None),
        Switch::PluginInVhost { plugin, vhost } => (Some(plugin), Some(vhost.to_text())),
    };
    SwitchJson { plugin, vhost, enabled: false }
}
