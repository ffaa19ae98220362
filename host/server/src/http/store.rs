//! `/api/store`: what the store on disk has, did, and whether it is well.

use super::Api;
use crate::store::{Pressure, Suspect};
use axum::{Json, extract::State};
use leveret_broker::store::KeptId;
use leveret_store::{Damaged, Lost, Report};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc};

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
    /// The bytes of them, bodies that are files of their own too.
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
    /// How often all that is live was read to find what is damaged.
    scrub_passes: u64,
    /// Messages that were read for that.
    scrubbed_messages: u64,
    /// Messages that were found to be damaged and are still there.
    damaged_messages: u64,
    /// Those, the first thousand.
    damaged: Vec<DamagedJson>,
    /// Files in the store's folder that were set aside because something in them is damaged. Nothing needs them.
    set_aside: Vec<String>,
    /// Messages that were in hand when the broker ended uncleanly several times in a row, and are still there.
    suspects: Vec<SuspectJson>,
    /// What the start found.
    start: StartJson,
}

/// What the start found.
#[derive(Serialize)]
struct StartJson {
    /// The store had been closed. If not, all messages count as delivered before.
    clean: bool,
    /// Whether nothing is damaged, nor missing that was once safe.
    sound: bool,
    /// Of batches up to this one everything is there, and which was the last.
    certain_to_batch: u64,
    last_batch: u64,
    /// Files of the journal that are gone, batches that are lost, groups of others, messages that are damaged or gone with their segments, bodies, and messages of queues that are
    /// not there because what created them is lost.
    lost_segments: u64,
    lost_batches: u64,
    lost_groups: u64,
    lost_messages: u64,
    lost_bodies: u64,
    lost_with_their_queues: u64,
    /// Checkpoints that could not be read.
    damaged_checkpoints: u64,
    /// What was wrong, the first thousand; all are in `problem_count`.
    problem_count: u64,
    problems: Vec<String>,
}

impl StartJson {
    fn of(report: &Report) -> Self {
        let verdict = &report.verdict;
        let Lost { segments, batches, groups, messages, bodies, orphans } = verdict.lost;
        Self {
            clean: report.clean,
            sound: verdict.is_sound(),
            certain_to_batch: verdict.certain_to,
            last_batch: verdict.last,
            lost_segments: segments,
            lost_batches: batches,
            lost_groups: groups,
            lost_messages: messages,
            lost_bodies: bodies,
            lost_with_their_queues: orphans,
            damaged_checkpoints: verdict.checkpoints_unreadable,
            problem_count: report.problem_count,
            problems: report.problems.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A message that cannot be read.
#[derive(Serialize)]
struct DamagedJson {
    /// Its virtual host and its queue; none if it is held, or kept for an exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    vhost: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    /// The number of what has it, as in the log.
    queue_number: u64,
    /// Its own there.
    message: u64,
    /// The file within the store's folder, and the bytes of it that cannot be read.
    file: String,
    offset: u64,
    bytes: u64,
}

/// A message that may be what ends the broker.
#[derive(Serialize)]
struct SuspectJson {
    /// Its virtual host and its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    vhost: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    /// The number of the queue, as in the log, and its own there.
    queue_number: u64,
    message: u64,
    /// At how many unclean ends it was in hand.
    crashes: u32,
    /// It is given to nobody any more.
    set_aside: bool,
}

/// The names of queues by their numbers in the store: virtual host, queue.
fn names(api: &Api) -> HashMap<u64, (String, String)> {
    let queues = api.vhosts().into_iter().flat_map(|vhost| vhost.queues());
    let named = queues.filter_map(|queue| {
        queue.kept_id().map(|id| (id.0, (queue.vhost().to_text(), queue.name().to_text())))
    });
    named.collect()
}

/// Suspects, with the names of queues.
fn suspects(api: &Api, suspects: Vec<Suspect>) -> Vec<SuspectJson> {
    let names = if suspects.is_empty() { HashMap::new() } else { names(api) };
    let describe = |suspect: Suspect| {
        let (vhost, queue) = names.get(&KeptId(suspect.queue).queue().0).cloned().unzip();
        let Suspect { queue: queue_number, message, crashes } = suspect;
        SuspectJson { vhost, queue, queue_number, message, crashes, set_aside: suspect.is_set_aside() }
    };
    suspects.into_iter().map(describe).collect()
}

/// What is damaged, with the names of queues.
fn describe(api: &Api, damaged: Vec<Damaged>) -> Vec<DamagedJson> {
    let names = if damaged.is_empty() { HashMap::new() } else { names(api) };
    let describe = |damaged: Damaged| {
        let Damaged { queue, sequence, file, offset, bytes } = damaged;
        let (vhost, name) = names.get(&queue.0).cloned().unzip();
        DamagedJson { vhost, queue: name, queue_number: queue.0, message: sequence, file, offset, bytes }
    };
    damaged.into_iter().map(describe).collect()
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
    let (stat, scrub) = (store.stat(), store.scrub());
    Json(StoreJson {
        state,
        reason: pressure.map(|pressure| pressure.to_string()),
        messages: stat.messages,
        message_bytes: stat.live_bytes + stat.extent_bytes,
        segment_bytes: stat.segment_bytes,
        syncs: stat.syncs,
        batches: stat.batches,
        groups: stat.groups,
        journal_bytes: stat.journal_bytes,
        moved_bytes: stat.moved_bytes,
        checkpoint_bytes: stat.checkpoint_bytes,
        rescues: stat.rescues,
        scrub_passes: scrub.passes,
        scrubbed_messages: scrub.messages_total,
        damaged_messages: scrub.damaged_count,
        damaged: describe(&api, scrub.damaged),
        // A folder that cannot be read is told by what cannot be written.
        set_aside: store.set_aside().unwrap_or_default(),
        suspects: suspects(&api, store.suspects()),
        start: StartJson::of(store.report()),
    })
}
