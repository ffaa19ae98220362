//! Patterns that look around or refer back, which cannot be searched for in one pass over the name.
//!
//! They are tried out step by step, and the names are short: who needs more than [`STEPS_MAX`] steps does not match. So a
//! pattern that somebody thought out to take for ever costs some milliseconds.

use super::{COMPILED_BYTES_MAX, PatternError, SEARCH_BYTES_MAX};
use fancy_regex::{BytesMode, Regex, RegexBuilder};
use std::sync::atomic::{AtomicBool, Ordering};

/// How often a search may go back and try something else: a name of 255 bytes that is searched for from each of them to its end
/// takes a third of that.
const STEPS_MAX: usize = 100_000;
/// How many steps a compiled pattern may have.
const PROGRAM_MAX: usize = 16 * 1024;

pub(super) struct Backtracking {
    regex: Regex,
    /// That it takes too long is in the log.
    is_told: AtomicBool,
}

impl Backtracking {
    /// The pattern of a text.
    ///
    /// # Errors
    /// It is none, or too large.
    pub(super) fn new(text: &str) -> Result<Self, PatternError> {
        // What lies between one of these and the next may be compiled by itself.
        let parts = 1 + text.bytes().filter(|byte| b"(|\\".contains(byte)).count();
        let mut builder = RegexBuilder::new(text);
        builder
            .bytes_mode(BytesMode::UnicodeBytes)
            .backtrack_limit(STEPS_MAX)
            .max_prog_size(PROGRAM_MAX)
            .delegate_size_limit(COMPILED_BYTES_MAX / parts)
            .delegate_dfa_size_limit(SEARCH_BYTES_MAX / parts);
        let regex = builder.build().map_err(|error| PatternError::of(text, &error))?;
        Ok(Self { regex, is_told: AtomicBool::new(false) })
    }

    /// Whether it is found in a name. Not where that takes too many steps.
    pub(super) fn is_match(&self, name: &[u8]) -> bool {
        self.regex.is_match(name).unwrap_or_else(|error| {
            if !self.is_told.swap(true, Ordering::Relaxed) {
                let (pattern, name) = (self.regex.as_str(), String::from_utf8_lossy(name));
                tracing::warn!("the pattern {pattern:?} counts as not found in the name {name:?}: {error}");
            }
            false
        })
    }
}
