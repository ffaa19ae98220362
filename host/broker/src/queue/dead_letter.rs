//! Where a queue's dead letters go, as its arguments or its policies say, how many went, and how they are copied.

use super::{Keeping, Progress, Queue, QueueSpec, Settle, consumers::ConsumerKey, slab::MessageRef};
use crate::{dead_letter::Letters, equivalence, store::Ranges};
use alloc::{format, string::String, sync::Arc};
use core::sync::atomic::{AtomicU64, Ordering};
use leveret_model::{Name, Refusal, Table, Value};

const EXCHANGE: &str = "x-dead-letter-exchange";
const ROUTING_KEY: &str = "x-dead-letter-routing-key";

/// Where the dead letters of a queue go.
#[derive(Debug)]
pub struct DeadLettering {
    /// The exchange, by name: it need not be there.
    pub exchange: Name,
    /// The key that replaces the message's own.
    pub routing_key: Option<Name>,
    /// What no queue takes stays, and is tried again (`x-dead-letter-strategy` is `at-least-once`).
    pub at_least_once: bool,
    pub(crate) counters: Arc<Counters>,
}

/// What became of the dead letters of a queue since it was declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterCounts {
    /// At least one queue took them, or they are held.
    pub routed: u64,
    /// There was no queue for them, or no such exchange: gone.
    pub unroutable: u64,
    /// Every queue for them was one where they had died already, and no client had rejected them
    /// since: gone.
    pub cycles: u64,
    /// An exchange type or an interceptor dropped them: gone.
    pub dropped: u64,
    /// How often one was refused or could not be routed; each is tried again.
    pub refused: u64,
    /// How many are set aside now, because they were refused [`REFUSALS_MAX`](crate::REFUSALS_MAX) times: they are in
    /// the queue, and are tried again when the dead-letter exchange or the plugins change.
    pub stuck: u64,
}

/// Counts up; see [`DeadLetterCounts`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) routed: AtomicU64,
    pub(crate) unroutable: AtomicU64,
    pub(crate) cycles: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) stuck: AtomicU64,
}

impl DeadLettering {
    /// What arguments say; `None` if dead letters are dropped.
    pub(super) fn of(arguments: &Table, counters: impl FnOnce() -> Arc<Counters>) -> Option<Self> {
        let name = |argument: &str| Name::new(arguments.get(argument.as_bytes())?.as_string()?).ok();
        let exchange = name(EXCHANGE)?;
        let strategy = arguments.get(b"x-dead-letter-strategy").and_then(Value::as_text);
        let at_least_once = strategy == Some("at-least-once");
        Some(Self { exchange, routing_key: name(ROUTING_KEY), at_least_once, counters: counters() })
    }

    /// What became of the dead letters until now.
    #[must_use]
    pub fn counts(&self) -> DeadLetterCounts {
        let Counters { routed, unroutable, cycles, dropped, refused, stuck } = &*self.counters;
        let [routed, unroutable, cycles, dropped, refused, stuck] =
            [routed, unroutable, cycles, dropped, refused, stuck]
                .map(|counter| counter.load(Ordering::Relaxed));
        DeadLetterCounts { routed, unroutable, cycles, dropped, refused, stuck }
    }
}

impl Queue {
    /// Copies messages that are handed out, at least one, and no more once `bytes_max` are copied.
    pub(crate) fn copy(
        &self,
        messages: impl Iterator<Item = MessageRef>,
        bytes_max: usize,
        into: &mut Letters,
    ) {
        let state = self.state.lock();
        for message in messages {
            state.copy(message, into);
            if into.len_bytes() >= bytes_max {
                break;
            }
        }
    }
}

/// Checks the arguments of a queue to be declared, in RabbitMQ's words.
///
/// # Errors
/// A value that is no string, or longer than a name may be; a key without an exchange.
pub(crate) fn check(spec: &QueueSpec, vhost: &Name) -> Result<(), Refusal> {
    let invalid = |text| Err(Refusal::InvalidArgument { text });
    let name = &spec.name;
    let exchange = spec.arguments.get(EXCHANGE.as_bytes());
    if let Some(value) = exchange
        && value.as_string().is_none()
    {
        let type_name = equivalence::type_of(value);
        return invalid(format!(
            "invalid type '{type_name}' for arg '{EXCHANGE}' in queue '{name}' in vhost '{vhost}'"
        ));
    }
    let key = spec.arguments.get(ROUTING_KEY.as_bytes());
    if let Some(value) = key {
        let why = match value {
            other if other.as_string().is_none() => {
                format!("{{unacceptable_type,{}}}", equivalence::type_of(other))
            }
            _ if exchange.is_none() => String::from("routing_key_but_no_dlx_defined"),
            _ => return check_lengths(spec, vhost),
        };
        return invalid(format!("invalid arg '{ROUTING_KEY}' for queue '{name}' in vhost '{vhost}': {why}"));
    }
    check_lengths(spec, vhost)
}

/// RabbitMQ takes longer ones, and can then not deliver.
fn check_lengths(spec: &QueueSpec, vhost: &Name) -> Result<(), Refusal> {
    for argument in [EXCHANGE, ROUTING_KEY] {
        let text = spec.arguments.get(argument.as_bytes()).and_then(Value::as_string);
        if text.is_some_and(|text| text.len() > Name::BYTES_MAX) {
            let name = &spec.name;
            let text = format!(
                "invalid arg '{argument}' for queue '{name}' in vhost '{vhost}': longer than {} bytes",
                Name::BYTES_MAX
            );
            return Err(Refusal::InvalidArgument { text });
        }
    }
    Ok(())
}

impl Queue {
    /// [`Self::settle`] of dead letters, which are none any more, and tells the store at once.
    pub(crate) fn settle_now(
        self: &Arc<Self>,
        messages: &[(MessageRef, Option<ConsumerKey>)],
        outcome: Settle,
    ) {
        self.state.lock().let_letters_go(messages.len());
        self.settle_others_now(messages, outcome);
    }

    /// The same of messages that are no dead letters.
    pub(crate) fn settle_others_now(
        self: &Arc<Self>,
        messages: &[(MessageRef, Option<ConsumerKey>)],
        outcome: Settle,
    ) {
        let mut progress = Progress::default();
        self.settle(messages, outcome, &mut progress);
        if let Some(keeping) = &self.keeping {
            progress.tell(&*keeping.store);
        }
    }

    /// Settles messages that were handed out as accepted; what the store is to be told of that goes into `each`.
    pub(crate) fn settle_with(
        &self,
        messages: &[(MessageRef, Option<ConsumerKey>)],
        each: impl FnMut(&Keeping, &[Ranges]),
    ) {
        let mut state = self.state.lock();
        if state.is_deleted() {
            return;
        }
        state.let_letters_go(messages.len());
        state.settle(messages, Settle::Accepted);
        state.serve();
        state.take_settled(each);
        state.report(&self.account);
    }

    /// Takes messages that were handed out from whoever had them, without settling them: they are
    /// to be dead-lettered, and stay until then. As in RabbitMQ their letters come as redelivered if their consumer
    /// failed on them.
    pub(crate) fn condemn(&self, messages: &[(MessageRef, Option<ConsumerKey>)], failed: bool) {
        let mut state = self.state.lock();
        for (message, key) in messages {
            if failed {
                state.lanes.mark_redelivered(*message);
            }
            state.let_go(*key, 1);
        }
        state.letters += messages.len() as u64;
        state.serve();
    }
}
