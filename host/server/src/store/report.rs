//! What a start found, in words: what is wrong, and what to do.

use leveret_store::{OpenError, Problem, QueueId, Report};
use std::path::Path;

/// How many problems are logged one by one.
const LOGGED_MAX: usize = 20;

/// Why the store cannot be opened.
pub(super) fn cannot_open(error: &OpenError) -> String {
    match error {
        OpenError::Newer { .. } => {
            format!(
                "{error}; start that version, or choose another folder with --data-dir. Nothing was changed"
            )
        }
        OpenError::Disk(_) => {
            format!("{error}; see that this user may read and write there, and that the disk works")
        }
        OpenError::Unreadable(_) | OpenError::Config(_) => error.to_string(),
    }
}

/// What follows from a problem, and what to do about it.
pub(super) fn advice(problem: &Problem) -> &'static str {
    match problem {
        Problem::Unreadable(_) => {
            "what only this file has is missing; stop the broker, make the file readable, and start again"
        }
        Problem::CheckpointDamaged { .. } => {
            "an older one or the journal was used in its place, so nothing need be missing; check the disk"
        }
        Problem::SegmentCut { .. } | Problem::BatchesLost { .. } | Problem::GroupDamaged { .. } => {
            "what was kept there is missing, messages and settlements alike, so that messages may be there again; \
             check the disk, and publish again what counts"
        }
        Problem::MessageLost { .. } | Problem::BodyLost { .. } => {
            "the message is lost; check the disk, and publish it again"
        }
    }
}

/// What follows from messages of a queue that is not there.
pub(super) const UNKNOWN_ADVICE: &str =
    "what created the queue is lost, so nobody gets them; declare it again, and publish again what counts";

/// Messages of a queue that is not there.
pub(super) fn left_out(queue: QueueId, messages: u64) -> String {
    format!("{messages} messages of queue {} are left out, which is not there", queue.0)
}

/// Logs what a start found.
pub(super) fn log(folder: &Path, report: &Report) {
    let place = folder.display();
    tracing::info!(
        "the store in {place} has {} messages and {} values{}",
        report.messages,
        report.values,
        if report.clean {
            ""
        } else {
            "; it was not closed, so that every message counts as delivered before"
        }
    );
    for problem in report.problems.iter().take(LOGGED_MAX) {
        tracing::error!("the store in {place}: {problem}: {}", advice(problem));
    }
    if report.problem_count > LOGGED_MAX as u64 {
        let more = report.problem_count - LOGGED_MAX as u64;
        tracing::error!("the store in {place}: and {more} more problems; `leveret store check` lists them");
    }
    for (queue, messages) in report.unknown.iter().take(LOGGED_MAX) {
        tracing::warn!("the store in {place}: {}: {UNKNOWN_ADVICE}", left_out(*queue, *messages));
    }
    if report.unknown.len() > LOGGED_MAX {
        let more = report.unknown.len() - LOGGED_MAX;
        tracing::warn!("the store in {place}: and {more} more queues; `leveret store check` lists them");
    }
    if let Some((batch, segment, offset)) = report.cut {
        tracing::info!(
            "the store in {place}: the journal ends in batch {batch}, at {offset} of segment {segment:016x}, as after \
             a crash; what was never known to be on disk is left out, {} batches after it too",
            report.cut_batches
        );
    }
    if !report.foreign.is_empty() {
        tracing::warn!(
            "the store in {place}: files that are not its own are left alone: {:?}",
            report.foreign
        );
    }
}
