//! `/api/plugins-warnings`: what an operator should know before messages fail. Not in RabbitMQ.

use super::{
    Api,
    json::warnings::{AboutJson, WarningJson},
};
use axum::{Json, extract::State};
use leveret_plugin::registry::WarningAbout;
use std::sync::Arc;

pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Vec<WarningJson>> {
    let told = api.shared.plugins.registry().warnings().into_iter().map(|warning| {
        let about = match warning.about {
            WarningAbout::NoInterceptor => AboutJson::NoInterceptor,
            WarningAbout::NoPlugin => AboutJson::NoPlugin,
            WarningAbout::NotGranted => AboutJson::NotGranted,
        };
        WarningJson { about, text: warning.text, hint: warning.hint }
    });
    Json(told.collect())
}
