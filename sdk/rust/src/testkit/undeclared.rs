//! A read of what `reads` does not declare fails the test: in the broker nothing would ever be there.

use std::{cell::Cell, fmt};

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, the messages that the plugin on this thread reads are those of a test.
pub(super) struct Watch {
    before: bool,
}

impl Watch {
    pub(super) fn begin() -> Self {
        Self { before: WATCHED.replace(true) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.set(self.before);
    }
}

/// The plugin reads what it did not declare; `declaration` is what it should call on its `Reads`.
#[track_caller]
pub(crate) fn read(what: fmt::Arguments<'_>, declaration: fmt::Arguments<'_>) {
    assert!(
        !WATCHED.get(),
        "the plugin reads {what}, which its `reads` does not declare, so the broker would never pass it: add \
         .{declaration} to what `reads` returns"
    );
}
