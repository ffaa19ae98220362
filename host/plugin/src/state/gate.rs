//! Who may work on the state of an owner, and until when.
//!
//! While the state is handed from one version of a plugin to the next it must not change: its gate is
//! closed, calls wait outside, and whoever closed it waits until those inside have left. A call is inside
//! until its effects are committed or undone, so that no write of it comes after the copy.

use super::Cell;
use crate::version::VersionId;
use parking_lot::{Condvar, Mutex};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Guards the state of one owner.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    phase: Phase,
    inside: usize,
    /// A version that this state is not for: it was migrated from that one's.
    barred: Option<VersionId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// For a moment.
    Closed,
    /// For ever: another cell has taken its place.
    Retired,
}

/// Somebody is inside.
pub(crate) struct Inside(Arc<Cell>);

impl Clone for Inside {
    fn clone(&self) -> Self {
        self.0.gate.state.lock().inside += 1;
        Self(self.0.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let gate = &self.0.gate;
        let mut state = gate.state.lock();
        state.inside -= 1;
        if state.inside == 0 && state.phase != Phase::Open {
            gate.changed.notify_all();
        }
    }
}

/// Why nobody may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    /// For a moment, or for this version: what serves is to be looked up again.
    ForNow,
    /// Another cell has taken its place.
    Retired,
}

impl Cell {
    /// Enters, on behalf of a version.
    pub(crate) fn enter(self: &Arc<Self>, version: VersionId) -> Result<Inside, Shut> {
        let mut state = self.gate.state.lock();
        match state.phase {
            Phase::Open if state.barred != Some(version) => {
                state.inside += 1;
                Ok(Inside(self.clone()))
            }
            Phase::Open | Phase::Closed => Err(Shut::ForNow),
            Phase::Retired => Err(Shut::Retired),
        }
    }

    /// Lets nobody in any more, and waits until all who are inside have left. False if they have not by
    /// then; the gate is closed all the same.
    pub(crate) fn close(&self, until: Instant) -> bool {
        let mut state = self.gate.state.lock();
        state.phase = Phase::Closed;
        self.gate.changed.wait_while_until(&mut state, |state| state.inside > 0, until);
        state.inside == 0
    }

    /// Opens the gate again.
    pub(crate) fn reopen(&self) {
        self.turn(Phase::Open);
    }

    /// Another cell has taken its place: whoever waits outside looks it up.
    pub(crate) fn retire(&self) {
        self.turn(Phase::Retired);
    }

    /// The version whose state this was migrated from has no business here.
    pub(crate) fn bar(&self, version: Option<VersionId>) {
        self.gate.state.lock().barred = version;
    }

    fn turn(&self, phase: Phase) {
        self.gate.state.lock().phase = phase;
        self.gate.changed.notify_all();
        self.settled();
    }

    /// Whether the gate is closed for a moment.
    pub(crate) fn is_closed(&self) -> bool {
        self.gate.state.lock().phase == Phase::Closed
    }

    /// Waits until the gate is not closed any more, for so long at most.
    pub(crate) fn wait_while_closed(&self, longest: Duration) {
        let mut state = self.gate.state.lock();
        self.gate.changed.wait_while_for(&mut state, |state| state.phase == Phase::Closed, longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_broker::port::Wake;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn whoever_closes_waits_for_those_inside_and_who_is_outside_is_woken() {
        let (cell, id) = (Arc::new(Cell::default()), VersionId::of_number(7));
        let inside = cell.enter(id).unwrap();
        let effects = inside.clone();
        drop(inside);
        assert!(!cell.close(Instant::now()), "its effects are open");
        assert_eq!(cell.enter(id).err(), Some(Shut::ForNow));
        let woken = Arc::new(Woken::default());
        cell.wake_when_settled(&(woken.clone() as Arc<dyn Wake>));
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        std::thread::scope(|scope| {
            let closing = scope.spawn(|| cell.close(Instant::now() + Duration::from_secs(60)));
            drop(effects);
            assert!(closing.join().unwrap());
        });
        cell.reopen();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(cell.enter(id).is_ok());
        cell.bar(Some(id));
        assert_eq!(cell.enter(id).err(), Some(Shut::ForNow));
        assert!(cell.enter(VersionId::of_number(8)).is_ok());
        cell.retire();
        assert_eq!(cell.enter(id).err(), Some(Shut::Retired));
    }
}
