//! What a start tells.

use super::{Verdict, scan::Found};
use crate::{
    error::DiskError,
    record::op::{QueueId, Sequence},
};
use core::fmt;
use std::collections::BTreeSet;

/// How many problems are told one by one.
const PROBLEMS_MAX: usize = 1000;

/// Something is not as it was left.
#[derive(Debug)]
pub enum Problem {
    /// A file could not be read, and may be the next time.
    Unreadable(DiskError),
    /// A checkpoint does not check, or one that was not needed cannot be read.
    CheckpointDamaged {
        /// Its name.
        file: String,
        /// Why it cannot be read, if it cannot.
        error: Option<DiskError>,
        /// It was to be used; an older one, or the journal alone, was used in its place.
        was_needed: bool,
    },
    /// A segment is shorter than it was made: what was written behind its end is missing.
    SegmentCut {
        /// Its name.
        file: String,
        /// How long it is.
        bytes: u64,
        /// How long it was.
        whole: u64,
    },
    /// A file of the journal that was there is not; what was written to it, if anything was, is lost.
    SegmentGone {
        /// Its name.
        file: String,
    },
    /// A file of the journal has nothing of what was written to it, not even its header.
    SegmentBlank {
        /// Its name.
        file: String,
        /// Its number.
        segment: u64,
    },
    /// The file that says what must be there does not check: how the journal ended is not known.
    ManifestDamaged {
        /// Its name.
        file: String,
    },
    /// Batches that were synced are not there, with whatever they had.
    BatchesLost {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Groups that were synced do not check, and are left out: one, or if its length cannot be trusted it and
    /// the rest of its batch.
    GroupDamaged {
        /// The batch.
        batch: u64,
        /// The segment.
        segment: u64,
        /// Where in the segment.
        offset: u64,
        /// How many groups are left out.
        groups: u64,
    },
    /// Payloads in a group that was synced do not check. Their messages are there, and whoever reads them is told.
    PayloadDamaged {
        /// The batch.
        batch: u64,
        /// The segment.
        segment: u64,
        /// Where in the segment the group is.
        offset: u64,
        /// How many.
        payloads: u64,
    },
    /// A message is gone with its segment.
    MessageLost {
        /// Its queue.
        queue: QueueId,
        /// Its place.
        sequence: Sequence,
    },
    /// The file with a message's body is gone.
    BodyLost {
        /// The number of the file.
        extent: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::CheckpointDamaged { error: Some(error), .. } => error.fmt(f),
            Self::CheckpointDamaged { file, .. } => write!(f, "{file} is damaged"),
            Self::SegmentCut { file, bytes, whole } => {
                write!(f, "{file} has {bytes} bytes of {whole}: it was cut")
            }
            Self::SegmentGone { file } => write!(f, "{file} is not there, with whatever it had"),
            Self::SegmentBlank { file, .. } => write!(f, "{file} has nothing of what was written to it"),
            Self::ManifestDamaged { file } => write!(f, "{file} is damaged"),
            Self::BatchesLost { first, last } => write!(f, "batches {first} to {last} are not there"),
            Self::GroupDamaged { batch, segment, offset, groups } => write!(
                f,
                "batch {batch} is damaged at {offset} of segment {segment:016x}, and {groups} of its groups are left out"
            ),
            Self::PayloadDamaged { batch, segment, offset, payloads } => write!(
                f,
                "{payloads} messages of batch {batch} are damaged, in the group at {offset} of segment {segment:016x}"
            ),
            Self::MessageLost { queue, sequence } => {
                write!(f, "message {sequence} of queue {} is gone with its segment", queue.0)
            }
            Self::BodyLost { extent } => write!(f, "the body extent-{extent:016x} is not there"),
        }
    }
}

/// What a start found.
#[derive(Debug, Default)]
pub struct Report {
    /// The store had been closed. If not, all messages count as delivered before.
    pub clean: bool,
    /// Messages of all queues.
    pub messages: u64,
    /// Values of all spaces.
    pub values: u64,
    /// Batches that were read after the checkpoint.
    pub batches: u64,
    /// Groups of them.
    pub groups: u64,
    /// Whole batches after the end of the journal. None was known to be synced.
    pub cut_batches: u64,
    /// Where the journal ends within a batch: its number, the segment, the place. Usual after a crash.
    pub cut: Option<(u64, u64, u64)>,
    /// What is not as it was left, the first thousand.
    pub problems: Vec<Problem>,
    /// How many problems there are.
    pub problem_count: u64,
    /// Queues that are not there although messages came for them, and how many: what created them is lost, and
    /// the messages are left out. Empty where nothing is lost.
    pub unknown: Vec<(QueueId, u64)>,
    /// Files that are not the store's; they are left alone.
    pub foreign: Vec<String>,
    /// Files that were set aside because they are damaged, now or before: nothing needs them. Remove them once nobody
    /// wants to look into what happened.
    pub set_aside: Vec<String>,
    /// Files of these that were removed again, because the disk is full.
    pub given_up: Vec<String>,
    /// What follows from all that.
    pub verdict: Verdict,
    /// Segments in which something is damaged.
    pub(super) damaged: BTreeSet<u64>,
}

impl Report {
    /// Whether nothing is damaged, nor missing that was once safe, as far as can be told.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.verdict.is_sound()
    }

    /// Once all is read; see [`Verdict`].
    pub(super) fn judge(&mut self, batches: (Option<u64>, u64), bodies: u64) {
        self.verdict.lost.orphans = self.unknown.iter().map(|(_, messages)| messages).sum();
        let sound = self.problem_count == 0;
        let whole = sound && self.cut.is_none() && self.cut_batches == 0;
        self.verdict.judge(batches, bodies, (sound, whole));
    }

    pub(super) fn tell(&mut self, problem: Problem) {
        let verdict = &mut self.verdict;
        match &problem {
            Problem::Unreadable(error) => verdict.cannot_read(error.to_string()),
            Problem::CheckpointDamaged { .. } => verdict.checkpoints_unreadable += 1,
            Problem::SegmentCut { .. } => verdict.segments_cut += 1,
            Problem::SegmentGone { .. } => verdict.lost.segments += 1,
            Problem::SegmentBlank { segment, .. } => {
                verdict.lost.segments += 1;
                self.damaged.insert(*segment);
            }
            Problem::ManifestDamaged { .. } => {}
            Problem::BatchesLost { first, last } => {
                verdict.lost.batches += last - first + 1;
                verdict.lacks(*first, *last);
            }
            Problem::GroupDamaged { batch, groups, .. } => {
                verdict.lost.groups += groups;
                verdict.lacks(*batch, *batch);
            }
            Problem::PayloadDamaged { payloads, .. } => verdict.lost.messages += payloads,
            Problem::MessageLost { .. } => verdict.lost.messages += 1,
            Problem::BodyLost { .. } => verdict.lost.bodies += 1,
        }
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    /// Where a file is gone and nobody knows which batches it had, they come after the last that is there.
    pub(super) fn lacks_end(&mut self, last: u64) {
        let verdict = &mut self.verdict;
        if verdict.lost.segments > 0 && verdict.gaps.is_empty() {
            verdict.lacks(last + 1, last + 1);
        }
    }

    /// So many payloads of a group do not check.
    pub(super) fn tell_payloads(&mut self, (batch, found, at): (u64, Found, u64), payloads: u64) {
        if payloads > 0 {
            let (segment, offset) = (found.segment, found.offset + at);
            self.damaged.insert(segment);
            self.tell(Problem::PayloadDamaged { batch, segment, offset, payloads });
        }
    }

    /// So many groups of a batch cannot be read, from a place on.
    pub(super) fn tell_damaged(
        &mut self,
        (batch, found, at): (u64, Found, u64),
        groups: u32,
        was_synced: bool,
    ) {
        let (segment, offset) = (found.segment, found.offset + at);
        if was_synced {
            self.damaged.insert(segment);
            self.tell(Problem::GroupDamaged { batch, segment, offset, groups: groups.into() });
        } else {
            self.cut = Some((batch, segment, offset));
        }
    }
}
