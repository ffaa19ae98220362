//! What plugins may import: one file for each capability of the contract.
//!
//! *Not here:* who is granted what ([`crate::policy`]; the contract's check turns imports into the
//! grants they need), where state is kept ([`crate::state`]).
//!
//! *In and out:* before a call the host sets what the call is about ([`Context::begin`]); the guest's
//! imports work on that; after it the host takes the [`Draft`] of its effects.
//!
//! *Invariants:*
//! - Nothing that a guest does here takes effect before its draft is committed, but for log lines,
//!   metrics and the capacity of its values.
//! - No import blocks. What may take longer than some hundred microseconds is done in pieces, after each of
//!   which the deadline of the call may end it; all else is within the limits named in each file.

mod clock;
mod draft;
mod effects;
mod emit;
mod enqueue;
mod holds;
mod key_value;
mod log;
pub(crate) use log::Limit as LogLimit;
mod message_store;
mod metric;
mod outgoing;
mod queue_info;
mod random;
#[cfg(test)]
mod tests_of_limits;
mod timers;

pub(crate) use draft::Draft;
pub(crate) use message_store::MESSAGES_MAX;
pub use metric::MetricValue;
pub(crate) use metric::Metrics;

use crate::{
    account::Account,
    bindings::v0_2::leveret::routing as wit,
    guest::{Deadline, GuestState},
    state::{Cell, Inside},
};
use leveret_broker::{exchange::Exchange, port::Layer};
use leveret_model::{Form, OwnedMessage};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use wasmtime::component::{HasSelf, Linker};

/// What a call is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To describe, open, bind, unbind, show: no effects.
    Setup,
    /// To decide a message: effects are collected.
    Decide,
    /// Because something happened: effects take place when the call returns.
    Event,
    /// To take over what an older version left: what is written is written to a copy.
    Migrate,
}

/// What a call is about.
#[derive(Clone)]
pub(crate) struct Call {
    /// The exchange; interceptors on other points have none.
    pub(crate) exchange: Option<Arc<Exchange>>,
    /// Which of its types.
    pub(crate) layer: Layer,
    /// The state.
    pub(crate) cell: Arc<Cell>,
    /// Why.
    pub(crate) purpose: Purpose,
    /// The message, where the plugin imports something that can take it.
    pub(crate) on_hand: Option<Arc<OwnedMessage>>,
    /// Keeps the state from being handed on until the call and its effects are over.
    pub(crate) inside: Option<Inside>,
}

/// What the imports of an instance work on.
pub(crate) struct Context {
    account: Arc<Account>,
    /// How messages that the plugin makes are encoded.
    form: Option<&'static dyn Form>,
    call: Option<Call>,
    now_ms: Option<u64>,
    draft: Option<Box<Draft>>,
    /// The call met a key that is in doubt.
    in_doubt: bool,
    /// How long the call may take.
    pub(crate) deadline: Deadline,
    random: random::Stream,
    log: log::Limit,
    metrics: metric::Cache,
}

/// What a call left.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Its effects, if it has any.
    pub(crate) draft: Option<Box<Draft>>,
    /// It met a key of this cell that is in doubt: its answer is not to be used.
    pub(crate) in_doubt: Option<Arc<Cell>>,
    /// The guest was not called, for the state in `in_doubt` is being handed on.
    pub(crate) not_called: bool,
}

impl Outcome {
    /// Of a call that was not made, for this state is being handed from one version to the next.
    pub(crate) fn waits_for(cell: Arc<Cell>) -> Self {
        Self { draft: None, in_doubt: Some(cell), not_called: true }
    }

    /// Whether the message is kept: it must then have been decided with the newest bindings.
    pub(crate) fn keeps_message(&self) -> bool {
        self.draft.as_ref().is_some_and(|draft| draft.keeps_message())
    }
}

impl Context {
    /// The context of a fresh instance.
    pub(crate) fn new(account: Arc<Account>, form: Option<&'static dyn Form>) -> Self {
        Self {
            random: random::Stream::new(account.random_seed()),
            log: log::Limit::new(account.log_lines_per_second_max()),
            metrics: metric::Cache::default(),
            account,
            form,
            call: None,
            now_ms: None,
            draft: None,
            in_doubt: false,
            deadline: Deadline::default(),
        }
    }

    /// A call begins.
    pub(crate) fn begin(&mut self, call: Option<Call>) {
        self.call = call;
        self.now_ms = None;
        self.draft = None;
        self.in_doubt = false;
    }

    /// Does something that may take long, and that no tick interrupts, in pieces: `piece` does one of some
    /// hundred microseconds at most, and gives the outcome once there is one. Nothing is locked between pieces.
    ///
    /// # Errors
    /// If the call's time is up.
    fn in_pieces<T>(&mut self, mut piece: impl FnMut(&mut Self) -> Option<T>) -> wasmtime::Result<T> {
        self.deadline.counts_from_here();
        loop {
            if let Some(done) = piece(self) {
                return Ok(done);
            }
            self.deadline.tick()?;
        }
    }

    /// The call returned.
    pub(crate) fn end(&mut self) -> Outcome {
        let call = self.call.take().filter(|_| self.in_doubt);
        Outcome { draft: self.draft.take(), in_doubt: call.map(|call| call.cell), not_called: false }
    }

    /// The time of this call.
    fn now_ms(&mut self) -> u64 {
        *self.now_ms.get_or_insert_with(unix_ms)
    }

    /// The draft of this call, begun if there is none. `None` where effects are not possible.
    fn draft(&mut self) -> Option<&mut Draft> {
        let call = self.call.as_ref().filter(|call| call.purpose != Purpose::Setup)?;
        if self.draft.is_none() {
            self.draft = Some(Box::new(Draft::new(call, &self.account)));
        }
        self.draft.as_deref_mut()
    }

    /// The same for imports whose functions have no error: a guest that uses them where effects are
    /// not possible is in error, and traps.
    fn draft_or_trap(&mut self) -> wasmtime::Result<&mut Draft> {
        if self.call.as_ref().is_some_and(|call| call.purpose == Purpose::Migrate) {
            let what = "while state is migrated only key-value and message-store have effects";
            return Err(wasmtime::Error::msg(what));
        }
        let draft = self.draft();
        let draft = draft.ok_or_else(|| wasmtime::Error::msg("effects are not possible in this call"))?;
        draft.make_room()?;
        Ok(draft)
    }

    /// The draft with room for one more effect, for imports whose functions have an error for a quota.
    /// `None` where effects are not possible.
    fn draft_with_room(&mut self) -> Option<Result<&mut Draft, draft::TooMuch>> {
        let draft = self.draft()?;
        Some(draft.make_room().map(|()| draft))
    }

    /// The message on hand.
    fn on_hand(&self) -> Option<&Arc<OwnedMessage>> {
        self.call.as_ref()?.on_hand.as_ref()
    }

    fn cell(&self) -> Option<&Arc<Cell>> {
        self.call.as_ref().map(|call| &call.cell)
    }
}

/// The time, in milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl wit::types::Host for Context {}

/// Defines all capabilities in a linker. Which of them a component may import was checked before.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    macro_rules! link {
        ($($interface:ident),+) => {
            $(wit::$interface::add_to_linker::<GuestState, HasSelf<Context>>(linker, |state| &mut state.context)?;)+
        };
    }
    link!(
        clock,
        random,
        log,
        metric,
        effects,
        key_value,
        message_store,
        holds,
        timers,
        enqueue,
        emit,
        queue_info
    );
    Ok(())
}
