//! The order of what happens to a path, while files are compiled beside each other.
//!
//! An offer takes its turn when it begins and may be overtaken while its file is compiled: by a
//! later offer of the same path that compiled faster, or by the file's removal. It is too late then.

use hashbrown::HashMap;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};

/// The turns of all paths with an offer under way.
#[derive(Default)]
pub(super) struct Turns(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    paths: HashMap<PathBuf, Offers>,
}

struct Offers {
    under_way: usize,
    /// The latest turn that changed what serves.
    settled: u64,
}

/// One offer's.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    path: &'a Path,
    number: u64,
}

impl Turns {
    /// An offer begins.
    pub(super) fn begin<'a>(&'a self, path: &'a Path) -> Turn<'a> {
        let mut state = self.0.lock();
        state.next += 1;
        let number = state.next;
        let offers = state.paths.entry(path.to_path_buf()).or_insert(Offers { under_way: 0, settled: 0 });
        offers.under_way += 1;
        Turn { turns: self, path, number }
    }

    /// All offers that have begun are too late: the file was removed.
    pub(super) fn overtake(&self, path: &Path) {
        let mut state = self.0.lock();
        let now = state.next;
        if let Some(offers) = state.paths.get_mut(path) {
            offers.settled = now;
        }
    }
}

impl Turn<'_> {
    /// Whether nothing later has changed what serves.
    pub(super) fn is_in_time(&self) -> bool {
        self.turns.0.lock().paths.get(self.path).is_none_or(|offers| offers.settled < self.number)
    }

    /// The offer has changed what serves, or found it as it should be.
    pub(super) fn settle(&self) {
        if let Some(offers) = self.turns.0.lock().paths.get_mut(self.path) {
            offers.settled = offers.settled.max(self.number);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.0.lock();
        if let Some(offers) = state.paths.get_mut(self.path) {
            offers.under_way -= 1;
            if offers.under_way == 0 {
                state.paths.remove(self.path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_offer_that_was_faster_wins() {
        let turns = Turns::default();
        let path = Path::new("a.wasm");
        let (first, second) = (turns.begin(path), turns.begin(path));
        let other = turns.begin(Path::new("b.wasm"));
        second.settle();
        assert!(!first.is_in_time() && other.is_in_time());
        // One that was refused changes nothing for those before it.
        let (third, fourth) = (turns.begin(path), turns.begin(path));
        drop(fourth);
        assert!(third.is_in_time());
        turns.overtake(path);
        assert!(!third.is_in_time() && turns.begin(path).is_in_time());
        drop((first, second, third, other));
        assert!(turns.0.lock().paths.is_empty());
    }
}
