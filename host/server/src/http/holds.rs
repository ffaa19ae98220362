//! `/api/holds`: messages that exchanges hold back until a time. Not in RabbitMQ.

use super::{
    Api, aside,
    error::ApiError,
    json::{
        later::LaterJson,
        seen::{CancelledJson, HoldJson, HoldsJson},
    },
    path::Names,
};
use axum::{
    Json,
    extract::{RawQuery, State},
};
use leveret_broker::{later::HoldInfo, port::HoldId};
use std::sync::Arc;

/// The most messages in one answer.
const LISTED_MAX: usize = 1000;

/// The first of them, by their times, or `?skip=N` later ones.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Names((vhost, exchange)): Names<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<HoldsJson>, ApiError> {
    let skip = skip(query.as_deref().unwrap_or_default())?;
    let (_, exchange) = api.exchange(&vhost, &exchange)?;
    let holds = exchange.holds(skip, LISTED_MAX).into_iter().map(describe).collect();
    Ok(Json(HoldsJson { count: exchange.hold_count(), holds }))
}

/// How many to leave out at the front, as a query says.
fn skip(query: &str) -> Result<usize, ApiError> {
    let said = query.split('&').find_map(|part| part.strip_prefix("skip="));
    let wrong = |said| ApiError::BadRequest(format!("skip={said} is no number of messages"));
    said.map_or(Ok(0), |said| said.parse().map_err(|_| wrong(said)))
}

/// Drops all of an exchange.
pub(super) async fn cancel_all(
    State(api): State<Arc<Api>>,
    Names((vhost, exchange)): Names<(String, String)>,
) -> Result<Json<CancelledJson>, ApiError> {
    let (vhost, exchange) = api.exchange(&vhost, &exchange)?;
    let (cancelled, receipt) = vhost.cancel_holds_kept(&exchange.spec.name);
    aside::safe(&receipt).await?;
    Ok(Json(CancelledJson { cancelled }))
}

/// Drops one.
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Names((vhost, exchange, id)): Names<(String, String, u64)>,
) -> Result<Json<CancelledJson>, ApiError> {
    let (vhost, exchange) = api.exchange(&vhost, &exchange)?;
    let is_there = exchange.holds(0, usize::MAX).iter().any(|hold| hold.id == HoldId(id));
    let receipt = is_there.then(|| vhost.cancel_hold_kept(HoldId(id))).flatten().ok_or(ApiError::NotFound)?;
    aside::safe(&receipt).await?;
    Ok(Json(CancelledJson { cancelled: 1 }))
}

/// `/api/plugins-effects/{vhost}`: what a virtual host did later than when it was asked to, and what it could not do.
pub(super) async fn later(
    State(api): State<Arc<Api>>,
    Names(vhost): Names<String>,
) -> Result<Json<LaterJson>, ApiError> {
    Ok(Json(api.vhost(&vhost)?.later_counters().into()))
}

fn describe(hold: HoldInfo) -> HoldJson {
    HoldJson {
        id: hold.id.0,
        due_ms: hold.due_ms,
        length_bytes: hold.length_bytes,
        routing_key: hold.routing_key.to_text(),
        tries: hold.tries,
        stuck: hold.stuck.as_ref().map(ToString::to_string),
    }
}
