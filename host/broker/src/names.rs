//! Names: which may be declared, and those the broker makes.

use alloc::{borrow::Cow, string::String};
use core::{
    hash::{BuildHasher, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};
use leveret_model::{Name, Refusal, refusal::Resource};
use std::{collections::hash_map::RandomState, sync::LazyLock};

/// What names of the broker's own begin with.
const RESERVED: &[u8] = b"amq.";

/// Whether clients may not declare or delete an exchange or queue of this name.
#[must_use]
pub fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(RESERVED)
}

/// A name as it is declared: without carriage returns and line feeds.
#[must_use]
pub fn declared(name: &Name) -> Name {
    match unbroken(name) {
        Cow::Borrowed(_) => name.clone(),
        // Never longer than it was.
        Cow::Owned(kept) => Name::new(&kept).unwrap_or_default(),
    }
}

/// The bytes of a name without carriage returns and line feeds, as it is declared, bound and deleted.
#[must_use]
pub fn unbroken(name: &[u8]) -> Cow<'_, [u8]> {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if name.iter().any(is_break) {
        name.iter().copied().filter(|byte| !is_break(byte)).collect()
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether a new exchange or queue may have this name.
///
/// # Errors
/// [`Refusal::ReservedName`].
pub(crate) fn check_new(resource: Resource, name: &Name) -> Result<(), Refusal> {
    if is_reserved(name) { Err(Refusal::ReservedName { resource, name: name.clone() }) } else { Ok(()) }
}

/// Whether a queue of this name may be declared by clients.
///
/// # Errors
/// [`Refusal::ReservedName`].
pub fn check_queue(name: &Name) -> Result<(), Refusal> {
    check_new(Resource::Queue, name)
}

/// A name for a queue that its declarer gives none. It is in no use.
#[must_use]
pub fn made_queue() -> Name {
    made("amq.gen-")
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// How long the part of a made name is that is behind its prefix.
const KEY_BYTES: usize = 22;

/// Whether that may be the part of a made name behind its prefix.
pub(crate) fn is_made_key(key: &[u8]) -> bool {
    key.len() == KEY_BYTES && key.iter().all(|byte| ALPHABET.contains(byte))
}

/// A name nobody can guess and that is not made twice while the broker runs: the prefix and 128
/// bits that follow from a counter and from keys that the process drew when it began.
pub(crate) fn made(prefix: &str) -> Name {
    static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut bits = KEYS.iter().fold(0_u128, |bits, key| {
        let mut hasher = key.build_hasher();
        hasher.write_u64(count);
        (bits << 64) | u128::from(hasher.finish())
    });
    let mut name = String::from(prefix);
    for _ in 0..KEY_BYTES {
        name.push(char::from(ALPHABET.get((bits % 64) as usize).copied().unwrap_or(b'A')));
        bits /= 64;
    }
    Name::new(name.as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn made_names_differ_and_have_the_usual_shape() {
        let names: HashSet<Name> = (0..10_000).map(|_| made("amq.gen-")).collect();
        assert_eq!(names.len(), 10_000);
        assert!(names.iter().all(|name| name.starts_with(b"amq.gen-") && name.len() == 30));
    }

    #[test]
    fn line_breaks_are_taken_out() {
        assert_eq!(declared(&Name::from_static("a\r\nb\n")).as_bytes(), b"ab");
        assert_eq!(declared(&Name::from_static("ab")).as_bytes(), b"ab");
        assert_eq!(&*unbroken(b"\n"), b"");
    }
}
