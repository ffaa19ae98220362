//! What a start found, in words: what is wrong, and what to do.

use leveret_store::{Lost, OpenError, Problem, QueueId, Refusal, Report, Verdict};
use std::path::Path;

/// How many problems are logged one by one.
const LOGGED_MAX: usize = 20;

/// Why the store cannot be opened, and what to do.
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
        OpenError::Refused(refusal) => format!("{error}. {}", refusal_advice(refusal)),
        OpenError::Full { .. } => {
            format!("{error}; make room on its file system, and start again. Nothing is lost")
        }
        OpenError::Config(_) => error.to_string(),
    }
}

/// What to do where a start does not serve.
pub(super) fn refusal_advice(refusal: &Refusal) -> String {
    let first = match refusal {
        Refusal::Unreadable(_) => "Make it readable and start again, or bring the folder back from a copy",
        Refusal::CheckpointDamaged { .. } => "Bring that file back from a copy, or the whole folder",
        Refusal::NoCheckpoint { .. } | Refusal::OnlyBodies { .. } => "Bring the folder back from a copy",
    };
    format!(
        "{first}. `leveret store check` says what is lost; `leveret store salvage` goes on with what is left"
    )
}

/// What follows from a problem, and what to do about it.
pub(super) fn advice(problem: &Problem, verdict: &Verdict) -> &'static str {
    match problem {
        Problem::Unreadable(_) => {
            "what only this file has is missing; stop the broker, make the file readable, and start again"
        }
        Problem::CheckpointDamaged { was_needed: false, .. } => {
            "it was not needed, and another takes its place at a start; check the disk"
        }
        Problem::CheckpointDamaged { .. } if verdict.refusal.is_some() => {
            "neither an older one nor the journal makes up for all that it has; bring it back from a copy"
        }
        Problem::CheckpointDamaged { .. } => {
            "an older one or the journal was used in its place, and has all that it had; check the disk"
        }
        Problem::SegmentCut { .. }
        | Problem::SegmentGone { .. }
        | Problem::SegmentBlank { .. }
        | Problem::BatchesLost { .. }
        | Problem::GroupDamaged { .. } => {
            "what was kept there is missing, messages and settlements alike, so that messages may be there again; \
             check the disk, and publish again what counts"
        }
        Problem::ManifestDamaged { .. } => {
            "whether the end of the journal is there is not known, and a start makes another one; check the disk"
        }
        Problem::PayloadDamaged { .. } => {
            "they are left out when their turn comes, and `/api/store` names them once they were read; check the disk, \
             and publish them again"
        }
        Problem::MessageLost { .. } | Problem::BodyLost { .. } => {
            "the message is lost; check the disk, and publish it again"
        }
    }
}

/// What is lost, in words; `None` if nothing is.
pub(super) fn lost(verdict: &Verdict) -> Option<String> {
    let Lost { segments, batches, groups, messages, bodies, orphans } = verdict.lost;
    let parts = [
        (segments, "files of the journal with whatever they had"),
        (batches, "batches of the journal with whatever they had"),
        (groups, "groups of others"),
        (messages, "messages that are damaged, or gone with their segments"),
        (bodies, "bodies of messages"),
        (orphans, "messages of queues that are not there"),
    ];
    let lost: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    (!lost.is_empty()).then(|| {
        format!(
            "lost are {}; of batches up to {} everything is there, of {}",
            lost.join(", "),
            verdict.certain_to,
            verdict.last
        )
    })
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
        tracing::error!("the store in {place}: {problem}: {}", advice(problem, &report.verdict));
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
    if let Some(lost) = lost(&report.verdict) {
        tracing::error!("the store in {place}: {lost}; the rest serves");
    }
    if let Some((batch, segment, offset)) = report.cut {
        tracing::info!(
            "the store in {place}: the journal ends in batch {batch}, at {offset} of segment {segment:016x}, as after \
             a crash; what was never known to be on disk is left out, {} batches after it too",
            report.cut_batches
        );
    }
    if !report.set_aside.is_empty() {
        tracing::warn!(
            "the store in {place}: files that are damaged were set aside and are not used: {:?}; remove them once \
             nobody wants to look into what happened",
            report.set_aside
        );
    }
    if !report.given_up.is_empty() {
        tracing::warn!(
            "the store in {place}: files that had been set aside were removed, since the disk is full: {:?}",
            report.given_up
        );
    }
    if !report.foreign.is_empty() {
        tracing::warn!(
            "the store in {place}: files that are not its own are left alone: {:?}",
            report.foreign
        );
    }
}
