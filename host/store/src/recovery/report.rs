//! What a start tells.

use super::scan::Found;
use crate::{
    error::{DiskError, OpenError},
    record::op::{QueueId, Sequence},
};
use core::fmt;

/// How many problems are told one by one.
const PROBLEMS_MAX: usize = 1000;

/// Something is not as it was left.
#[derive(Debug)]
pub enum Problem {
    /// A file could not be read.
    Unreadable(DiskError),
    /// A checkpoint does not check; an older one, or the journal alone, was used.
    CheckpointDamaged {
        /// Its name.
        file: String,
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
    /// Batches that were synced are not there, with whatever they had.
    BatchesLost {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// A group that was synced does not check. It was left out, and if its length cannot be trusted the
    /// rest of its batch.
    GroupDamaged {
        /// The batch.
        batch: u64,
        /// The segment.
        segment: u64,
        /// Where in the segment.
        offset: u64,
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
            Self::CheckpointDamaged { file } => write!(f, "{file} is damaged and was not used"),
            Self::SegmentCut { file, bytes, whole } => {
                write!(f, "{file} has {bytes} bytes of {whole}: it was cut")
            }
            Self::BatchesLost { first, last } => write!(f, "batches {first} to {last} are not there"),
            Self::GroupDamaged { batch, segment, offset } => {
                write!(f, "batch {batch} is damaged at {offset} of segment {segment:016x}")
            }
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
}

impl Report {
    /// Whether nothing is missing that was once safe, as far as can be told.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    /// Whether to go on: not where something cannot be read, which may be there again the next time, and not
    /// without a checkpoint that is damaged and that the journal does not make up for.
    pub(crate) fn refuse(&self) -> Result<(), OpenError> {
        let mut unreadable = self.problems.iter().filter(|problem| matches!(problem, Problem::Unreadable(_)));
        let mut damaged =
            self.problems.iter().filter(|problem| matches!(problem, Problem::CheckpointDamaged { .. }));
        let has_gap = self.problems.iter().any(|problem| matches!(problem, Problem::BatchesLost { .. }));
        match unreadable.next().or_else(|| damaged.next().filter(|_| has_gap)) {
            Some(problem) => Err(OpenError::Unreadable(problem.to_string())),
            None => Ok(()),
        }
    }

    /// Whether a checkpoint is damaged.
    pub(super) fn lacks_checkpoint(&self) -> bool {
        self.problems.iter().any(|problem| matches!(problem, Problem::CheckpointDamaged { .. }))
    }

    /// Whether the journal has nothing that does not count, and lacks nothing.
    pub(super) fn is_whole(&self) -> bool {
        self.is_sound() && self.cut.is_none() && self.cut_batches == 0
    }

    pub(super) fn tell(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    pub(super) fn tell_damaged(&mut self, (batch, found, at): (u64, Found, u64), was_synced: bool) {
        let (segment, offset) = (found.segment, found.offset + at);
        if was_synced {
            self.tell(Problem::GroupDamaged { batch, segment, offset });
        } else {
            self.cut = Some((batch, segment, offset));
        }
    }
}
