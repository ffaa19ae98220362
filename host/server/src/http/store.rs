//! `/api/store`: what the store on disk has, did, and whether it is well.

use super::Api;
use crate::store::Pressure;
use axum::{Json, extract::State};
use serde::Serialize;
use std::sync::Arc;

/// What is told of the store. Counts of what it did are since the start.
#[derive(Serialize)]
pub(super) struct StoreJson {
    /// `running`, `full`, `failing` or `behind`.
    state: &'static str,
    /// Why, where it is not running.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Messages; one that several queues have counts once.
    messages: u64,
    /// The bytes of them.
    message_bytes: u64,
    /// The bytes of all segments, free ones too.
    segment_bytes: u64,
    /// Syncs of the journal.
    syncs: u64,
    /// Batches written; many groups may go in one.
    batches: u64,
    /// Groups written.
    groups: u64,
    /// Bytes written to the journal.
    journal_bytes: u64,
    /// Of those, bytes that were copied from mostly dead segments.
    moved_bytes: u64,
    /// Bytes of checkpoints.
    checkpoint_bytes: u64,
    /// How often what was in flight was written again because the disk failed.
    rescues: u64,
}

pub(super) async fn read(State(api): State<Arc<Api>>) -> Json<StoreJson> {
    let store = &api.shared.store;
    let pressure = store.pressure();
    let state = match &pressure {
        None => "running",
        Some(Pressure::Full) => "full",
        Some(Pressure::Failing(_)) => "failing",
        Some(Pressure::Behind) => "behind",
    };
    let stat = store.stat();
    Json(StoreJson {
        state,
        reason: pressure.map(|pressure| pressure.to_string()),
        messages: stat.messages,
        message_bytes: stat.live_bytes,
        segment_bytes: stat.segment_bytes,
        syncs: stat.syncs,
        batches: stat.batches,
        groups: stat.groups,
        journal_bytes: stat.journal_bytes,
        moved_bytes: stat.moved_bytes,
        checkpoint_bytes: stat.checkpoint_bytes,
        rescues: stat.rescues,
    })
}
