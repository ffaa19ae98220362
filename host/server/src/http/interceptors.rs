//! `/api/plugins-interceptors`: which interceptors there are, where they are attached, and what came of the
//! messages that met them. Not in RabbitMQ.

use super::{
    Api, arguments,
    error::ApiError,
    json::{
        PluginState,
        interceptors::{AttachmentJson, InterceptorJson, InterceptorsJson},
    },
    path::Names,
    plugins::{by_reason, failures, hexadecimal, now_ms},
};
use axum::{Json, extract::State};
use leveret_plugin::registry::{AttachedInfo, InterceptorInfo};
use std::sync::Arc;

pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<InterceptorsJson> {
    Json(all(&api))
}

/// One, with the places where it is attached, also if no plugin provides it; or all that a plugin of that
/// name provides.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Names(name): Names<String>,
) -> Result<Json<InterceptorsJson>, ApiError> {
    let mut told = all(&api);
    let is_one = told.interceptors.iter().any(|it| it.interceptor == name)
        || told.attachments.iter().any(|there| there.interceptor == name);
    told.interceptors.retain(|it| if is_one { it.interceptor == name } else { it.plugin == name });
    let names: Vec<String> = told.interceptors.iter().map(|it| it.interceptor.clone()).collect();
    told.attachments.retain(|there| match is_one {
        true => there.interceptor == name,
        false => names.contains(&there.interceptor),
    });
    let found = !told.interceptors.is_empty() || !told.attachments.is_empty();
    found.then_some(Json(told)).ok_or(ApiError::NotFound)
}

fn all(api: &Api) -> InterceptorsJson {
    let registry = api.shared.plugins.registry();
    InterceptorsJson {
        interceptors: registry.interceptors().into_iter().map(describe).collect(),
        attachments: registry.attached().into_iter().map(describe_attached).collect(),
    }
}

fn describe(info: InterceptorInfo) -> InterceptorJson {
    InterceptorJson {
        interceptor: info.name,
        scope: info.scope.to_string(),
        plugin: info.plugin,
        version: info.version,
        digest: hexadecimal(&info.digest.0),
        summary: info.summary,
        points: info.points.iter().map(ToString::to_string).collect(),
        pure: info.pure,
    }
}

fn describe_attached(info: AttachedInfo) -> AttachmentJson {
    let AttachedInfo { rule, vhost, provider, counts, failures: failed, drops, rejections } = info;
    let quarantined = failed.set_aside_until_ms > Some(now_ms());
    let (state, plugin, version, reason) = match provider {
        Ok(to) if quarantined => (PluginState::Quarantined, Some(to.plugin), Some(to.version), None),
        Ok(to) => (PluginState::Serving, Some(to.plugin), Some(to.version), None),
        Err(why) => (PluginState::Parked, None, None, Some(why)),
    };
    AttachmentJson {
        interceptor: rule.interceptor.clone(),
        vhost: vhost.to_text(),
        point: rule.point.to_string(),
        names: rule.names.as_ref().map(ToString::to_string),
        order: rule.order,
        on_failure: rule.on_failure.to_string(),
        arguments: arguments::to_json(&rule.arguments),
        state,
        plugin,
        version,
        reason,
        remembered: counts.remembered,
        asked: counts.asked,
        calls: counts.calls,
        failed: counts.failed,
        changed: counts.changed,
        dropped: counts.dropped,
        rejected: counts.rejected,
        failures: failures(failed),
        drops: by_reason(drops, None),
        rejections: by_reason(rejections, None),
    }
}
