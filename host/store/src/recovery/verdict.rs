//! What follows from what a start found. It is decided here, and nowhere else.

use core::fmt;

/// How many gaps are told one by one.
const GAPS_MAX: usize = 1000;

/// What follows from what a start found: which batches are certain, what is lost, and whether it may serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The batch up to which the checkpoint has all that was read; `None` if none was.
    pub checkpoint: Option<u64>,
    /// Of all batches up to this one everything is there that was ever safe.
    pub certain_to: u64,
    /// The last batch that was found.
    pub last: u64,
    /// Batches that were known to be on disk and that the journal does not have whole: the first and the last of each
    /// gap, the first thousand gaps.
    pub gaps: Vec<(u64, u64)>,
    /// What is lost.
    pub lost: Lost,
    /// Segments that are shorter than they were made.
    pub segments_cut: u64,
    /// Checkpoints that cannot be read, needed or not.
    pub checkpoints_unreadable: u64,
    /// Why a start does not serve; `None` if it does.
    pub refusal: Option<Refusal>,
    sound: bool,
    whole: bool,
    /// The latest checkpoint that was to be read and cannot be.
    passed_over: Option<(u64, String)>,
    /// What could not be read now.
    unreadable: Option<String>,
}

/// What was once safe and is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Files of the journal that are gone, or of which nothing is left, with whatever they had.
    pub segments: u64,
    /// Batches of which nothing is there.
    pub batches: u64,
    /// Groups of other batches.
    pub groups: u64,
    /// Messages that are gone with their segments, and such that a start finds to be damaged.
    pub messages: u64,
    /// Bodies that were files of their own.
    pub bodies: u64,
    /// Messages that are there and that nobody gets, because what created their queues is lost.
    pub orphans: u64,
}

impl Lost {
    /// Whether parts of the journal are missing, with whatever they had.
    pub(super) fn lacks_journal(&self) -> bool {
        self.batches > 0 || self.groups > 0 || self.segments > 0
    }
}

/// Why a start does not serve. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This could not be read, and may be there again the next time.
    Unreadable(String),
    /// A checkpoint is damaged, and what it has cannot be had from the journal either.
    CheckpointDamaged {
        /// Its name.
        file: String,
        /// The first batch that it has and the journal has not, or not whole.
        first: u64,
        /// The last.
        last: u64,
    },
    /// No checkpoint is there, and the journal does not make up for it.
    NoCheckpoint {
        /// The first batch that the journal has not, or not whole.
        first: u64,
        /// The last.
        last: u64,
    },
    /// There are bodies of messages, and neither a checkpoint nor a journal.
    OnlyBodies {
        /// How many.
        bodies: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(what) => f.write_str(what),
            Self::CheckpointDamaged { file, first, last } => write!(
                f,
                "{file} is damaged, and of batches {first} to {last}, which it has, something is missing in the journal"
            ),
            Self::NoCheckpoint { first, last } => write!(
                f,
                "no checkpoint is there, and of batches {first} to {last} something is missing in the journal"
            ),
            Self::OnlyBodies { bodies } => {
                write!(f, "there are {bodies} bodies of messages, and neither a checkpoint nor a journal")
            }
        }
    }
}

impl Verdict {
    /// Whether nothing is damaged, nor missing that was once safe, as far as can be told.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// Whether moreover the journal has nothing that does not count: then an older checkpoint serves with it.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether nobody knows what was delivered before: the checkpoint that would know was not read.
    pub(super) fn is_doubtful(&self) -> bool {
        self.passed_over.is_some() || (self.checkpoint.is_none() && self.last > 0)
    }

    /// A checkpoint that was to be read cannot be.
    pub(super) fn pass_over(&mut self, position: u64, file: &str) {
        self.passed_over.get_or_insert_with(|| (position, file.to_owned()));
    }

    /// The batch to which the latest of those goes, or 0.
    pub(super) fn passed_over_to(&self) -> u64 {
        self.passed_over.as_ref().map_or(0, |(position, _)| *position)
    }

    /// Something cannot be read that may be there again the next time.
    pub(super) fn cannot_read(&mut self, what: String) {
        self.unreadable.get_or_insert(what);
    }

    /// Of these batches something is missing.
    pub(super) fn lacks(&mut self, first: u64, last: u64) {
        let is_full = self.gaps.len() == GAPS_MAX;
        match self.gaps.last_mut() {
            // The last one that is told takes the rest.
            Some((_, before)) if is_full || first <= before.saturating_add(1) => *before = last.max(*before),
            _ => self.gaps.push((first, last)),
        }
    }

    /// Once all is read: with a checkpoint up to that batch, up to which batch, and how many bodies there are.
    pub(super) fn judge(
        &mut self,
        (checkpoint, last): (Option<u64>, u64),
        bodies: u64,
        (sound, whole): (bool, bool),
    ) {
        (self.checkpoint, self.last, self.sound, self.whole) = (checkpoint, last, sound, whole);
        let gap = self.gaps.first().copied();
        self.certain_to = gap.map_or(last, |(first, _)| first.saturating_sub(1));
        self.refusal = self.refuse(gap, bodies);
    }

    fn refuse(&self, gap: Option<(u64, u64)>, bodies: u64) -> Option<Refusal> {
        if let Some(what) = &self.unreadable {
            return Some(Refusal::Unreadable(what.clone()));
        }
        let end = self.gaps.last().map(|(_, last)| *last);
        match (&self.passed_over, gap, end) {
            // What comes after what it has is lost with it and without it.
            (Some((position, file)), Some((first, _)), Some(end)) if first <= *position => {
                let last = end.min(*position);
                Some(Refusal::CheckpointDamaged { file: file.clone(), first, last })
            }
            (None, Some((first, _)), Some(last)) if self.checkpoint.is_none() => {
                Some(Refusal::NoCheckpoint { first, last })
            }
            (None, None, _) if self.checkpoint.is_none() && self.last == 0 && bodies > 0 => {
                Some(Refusal::OnlyBodies { bodies })
            }
            _ => None,
        }
    }
}
