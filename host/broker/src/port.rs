//! What the broker asks of others: exchange types, and waking a connection.

use crate::{
    dead_letter::DeathReason,
    exchange::{Binding, Exchange, RouteSet},
    queue::Queue,
};
use alloc::sync::Arc;
use leveret_model::{MessageView, Name, Patch, Refusal};

/// What an exchange type answers for one message.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To these destinations; an empty set is unroutable.
    Deliver(RouteSet),
    /// Nowhere, on purpose.
    Drop,
    /// Not accepted, with a reason for the publisher.
    Reject(Arc<str>),
    /// The exchange cannot be asked (parked, trapped, over its limits).
    ///
    /// Boxed because it is rare and large.
    Failed(Box<Refusal>),
}

/// Whether a batch was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// As many answers as messages were appended, in order.
    Ready,
    /// Nothing was appended. The waker given with the batch is called when asking again makes
    /// sense; until then the channel waits, and only that channel.
    Pending,
}

/// What an interceptor says of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Intercepted {
    /// It goes on as it is.
    Continue,
    /// It goes on with these changes.
    Patch(Patch),
    /// It goes nowhere, on purpose.
    Drop,
    /// Not accepted, with a reason for people to read.
    Reject(Arc<str>),
}

/// The exchange types, as one worker thread sees them. Not shared between threads: each worker
/// has its own instances and its own remembered answers.
///
/// Times are milliseconds or nanoseconds nobody here needs: the implementation measures its own.
pub trait Router {
    /// Whether exchanges of that type can be declared now.
    ///
    /// # Errors
    /// [`Refusal::UnknownExchangeType`], or [`Refusal::Parked`] for a type whose plugin is missing.
    fn check_type(&mut self, vhost: &Name, type_name: &Name) -> Result<(), Refusal>;

    /// Asks the type whether it takes this new exchange, which has no bindings yet and is not
    /// visible to anybody.
    ///
    /// # Errors
    /// The type's refusal; the exchange is then not declared.
    fn open(&mut self, exchange: &Arc<Exchange>) -> Result<(), Refusal>;

    /// Asks the type whether it takes this binding, before it is committed. The vhost's lock for
    /// changes is held, so no other change of the exchange comes between. If the binding is then
    /// committed its id and the exchange's next generation are those given here.
    ///
    /// # Errors
    /// The type's refusal; the binding is then not made.
    fn bind(&mut self, exchange: &Arc<Exchange>, candidate: &Binding) -> Result<(), Refusal>;

    /// Asks where messages go, appending an answer for each to `answers`.
    ///
    /// All messages of the batch are asked of this one exchange.
    fn route(
        &mut self,
        exchange: &Arc<Exchange>,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Routed;

    /// Asks what is attached to a queue about one of its dead letters: called once before each time
    /// that it is routed, under no lock. `message` is as it would be routed, its history written;
    /// its exchange is the queue's dead-letter exchange, which stays. A letter that is rejected, or
    /// whose changes cannot be made, stays in the queue and comes again after a while.
    fn intercept_dead_letter(
        &mut self,
        from: &Queue,
        reason: DeathReason,
        message: &MessageView<'_>,
    ) -> Intercepted {
        let _ = (from, reason, message);
        Intercepted::Continue
    }

    /// The exchange is gone: what is kept for it may go too.
    fn closed(&mut self, exchange: &Exchange);
}

/// Wakes whoever waits. Called from any thread, also under a queue's lock: it must not block and
/// must not call back into the broker.
pub trait Wake: Send + Sync {
    /// There may be something to do.
    fn wake(&self);
}
