//! `x-starts-slowly`: to the binding made last, and each of its instances takes its time before it says what
//! it is.

use leveret_guests_peaceful::{Fixed, busy::be_busy};
use leveret_sdk::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// A turn takes some nanoseconds at most: this is more than a worker has for anybody, and less than a second.
const ROUNDS: u64 = 400_000_000;

struct StartsSlowly(Fixed);

impl ExchangeType for StartsSlowly {
    fn describe() -> Description {
        // It is asked again when an exchange is opened.
        static STARTED: AtomicBool = AtomicBool::new(false);
        if !STARTED.swap(true, Ordering::Relaxed) {
            be_busy(ROUNDS);
        }
        Description::new("x-starts-slowly", "To the binding made last, after a while")
    }

    fn open(declaration: &Declaration) -> Result<Self, Refusal> {
        Fixed::open(declaration).map(Self)
    }

    fn reads(&self) -> Reads {
        self.0.reads()
    }

    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        self.0.bind(binding)
    }

    fn unbind(&mut self, id: BindingId) {
        self.0.unbind(id);
    }

    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision {
        self.0.route(message, to)
    }
}

export!(StartsSlowly);
