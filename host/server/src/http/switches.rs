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
    let meant = |scope: &&Scope| match (scope, switch) {
        (Scope::Vhost(own), Switch::PluginInVhost { vhost, .. }) => own == vhost,
        _ => true,
    };
    // A file of that name is another plugin than the core type.
    if CORE_TYPES.contains(&wanted) && scopes.iter().filter(meant).all(|scope| *scope == Scope::Shipped) {
        return Err(ApiError::BadRequest(format!("the core exchange type {wanted} cannot be switched")));
    }
    let off = registry.policies().disabled();
    match switch {
        _ if scopes.iter().any(|scope| meant(&scope)) || off.contains(switch) => Ok(()),
        Switch::PluginInVhost { vhost, .. } if !scopes.is_empty() => Err(of_others(wanted, vhost, &scopes)),
        _ if off.iter().any(|off| plugin_of(off) == Some(wanted)) => Ok(()),
        _ => Err(ApiError::NotFound),
    }
}

/// That a plugin is the own one of other virtual hosts than the one that was named.
pub(super) fn of_others(plugin: &str, vhost: &Name, scopes: &[Scope]) -> ApiError {
    let mut owners: Vec<String> = scopes.iter().map(ToString::to_string).collect();
    owners.sort();
    owners.dedup();
    let owners = owners.join(", ");
    ApiError::BadRequest(format!(
        "the plugin {plugin} is there for {owners} alone; vhost '{vhost}' has none of that name"
    ))
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
