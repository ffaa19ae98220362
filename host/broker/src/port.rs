//! What the broker asks of others: exchange types, and waking a connection.
//!
//! *Layers.* An exchange may have several types one behind the other (deduplicate, then delay,
//! then topic). The broker does not know them: it asks the exchange, and only says from which
//! [`Layer`] on, where it goes on with a message that one of them held.
//!
//! *Effects.* A type may want more than an answer: remember a key, store the message, emit
//! another. Such an answer is an [`Answer::Effective`]. Its [`Effects`] are committed once the
//! message is where the answers sent it, and dropped if it is not accepted, so that a publisher
//! who is told "no" finds nothing changed. What they want of the broker itself are [`Deed`]s.
//!
//! *Interceptors.* At certain places of its way ([`Site`]) a message is shown to what the operator
//! attached there, one attachment after the other: the next one sees what the one before made of
//! it. What is attached in a virtual host does not change while it is there, so it asks once whether
//! there is anything ([`Router::intercepts`]).
//!
//! *In doubt.* What was answered and is neither committed nor dropped may decide over later
//! messages (is this key new?). Then a type answers for none of them: [`Routed::Cut`], or
//! [`Routed::Pending`] and a wake once it is certain. State belongs to one layer of one exchange,
//! and a walk asks that once, so no message waits for effects of its own.

pub mod fixed;

use crate::{
    dead_letter::DeathReason,
    exchange::{Binding, Exchange, ExchangeId, ExchangeSpec, RouteSet, Settings},
    explain::{Asked, AskedInterceptor},
    later::HoldQuota,
    store::Change,
};
use alloc::{boxed::Box, string::ToString as _, sync::Arc, vec::Vec};
use core::fmt;
use leveret_model::{MessageView, Name, OwnedMessage, Patch, PatchError, Refusal};

/// Where in an exchange's chain of types a question starts; 0 is the front.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Layer(pub u8);

impl Layer {
    /// Where a publish starts.
    pub const FRONT: Self = Self(0);
}

/// Numbers a held message within its vhost; never used again while the broker runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct HoldId(pub u64);

/// What an exchange type answers for one message.
#[derive(Debug)]
pub enum Answer {
    /// To these destinations; an empty set is unroutable.
    Deliver(RouteSet),
    /// Nowhere, on purpose, as the type at that layer decided. Operators see the reason and how often it was
    /// given.
    Drop(Option<Arc<str>>, Layer),
    /// Not accepted, as the type at that layer decided, with a reason for the publisher.
    Reject(Arc<str>, Layer),
    /// Later.
    Hold(Hold),
    /// An answer that has effects.
    Effective(Box<Effective>),
    /// The exchange cannot be asked (parked, trapped, over its limits).
    ///
    /// Boxed because it is rare and large.
    Failed(Box<Refusal>),
}

impl Answer {
    /// Keeps the place of an answer until there is one.
    pub const OPEN: Self = Self::Drop(None, Layer::FRONT);

    /// A copy of the answer without its effects.
    #[must_use]
    pub fn without_effects(&self) -> Self {
        match self {
            Self::Deliver(set) => Self::Deliver(set.clone()),
            Self::Drop(reason, by) => Self::Drop(reason.clone(), *by),
            Self::Reject(reason, by) => Self::Reject(reason.clone(), *by),
            Self::Hold(hold) => Self::Hold(*hold),
            Self::Effective(effective) => effective.answer.without_effects(),
            Self::Failed(refusal) => Self::Failed(refusal.clone()),
        }
    }
}

/// A message is to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// For how long, in milliseconds.
    pub delay_ms: u64,
    /// Which types are asked then: those from this layer on. The one before it decided so.
    pub resume: Layer,
}

/// An answer and what goes with it.
#[derive(Debug)]
pub struct Effective {
    /// The answer; not again an [`Answer::Effective`].
    pub answer: Answer,
    /// Its effects.
    pub effects: Box<dyn Effects>,
}

/// What a type did while it answered for one message, and what is not to be seen yet. Dropped
/// without [`Self::commit`] it is undone.
pub trait Effects: fmt::Debug {
    /// What of it is to outlive the process, should the message have that fate, appended to `group`. Called
    /// before [`Self::commit`] with the same fate, and before the message is where it belongs; what the store
    /// does not take is never committed.
    fn record(&self, fate: Fate, group: &mut Vec<Change>) {
        let _ = (fate, group);
    }

    /// What of it needs room in the broker, should the message have that fate, in order. Asked before
    /// [`Self::record`]; where there is no room the message is not accepted.
    fn wants(&self, fate: Fate, each: &mut dyn FnMut(Want<'_>)) {
        let _ = (fate, each);
    }

    /// The message is not accepted, because there is no room for what that plugin wants for it; why, for people
    /// to read. It may be another's.
    fn no_room(&self, plugin: &str, why: &str) {
        let _ = (plugin, why);
    }

    /// The message is where it belongs: makes the effects last. What the broker is to do for them
    /// is appended to `deeds`.
    fn commit(self: Box<Self>, fate: Fate, message: &MessageView<'_>, deeds: &mut Vec<Deed>);
}

/// Something for which the broker needs room.
#[derive(Clone, Copy, Debug)]
pub enum Want<'a> {
    /// A [`Deed::Emit`].
    Emit {
        /// Whose effect it is.
        plugin: &'a Arc<str>,
        /// [`OwnedMessage::len_bytes`] of the message.
        message_bytes: usize,
    },
    /// A [`Deed::Enqueue`].
    Enqueue {
        /// Whose effect it is.
        plugin: &'a Arc<str>,
        /// Into that queue.
        queue: &'a Name,
        /// How long the message's body is.
        body_bytes: usize,
    },
}

/// What became of an accepted message in the end, through all exchanges of its walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A queue has it, or it is held.
    Routed,
    /// Dropped on purpose.
    Dropped,
    /// There was no queue for it.
    Unroutable,
}

/// What an exchange type wants the broker to do.
#[derive(Debug)]
pub enum Deed {
    /// Publish a message, soon. Its own [`OwnedMessage::exchange`] is what consumers see.
    Emit {
        /// To this exchange.
        exchange: Name,
        /// The message.
        message: OwnedMessage,
        /// The plugin that emits it.
        plugin: Arc<str>,
    },
    /// Put a message into a queue, past all exchanges.
    Enqueue {
        /// The queue; if it is not there the message is dropped.
        queue: Name,
        /// The message.
        message: OwnedMessage,
    },
    /// Call [`Router::timer`] at a time. One of the same exchange, layer and name is replaced.
    SetTimer {
        /// The exchange.
        exchange: Arc<Exchange>,
        /// Its type.
        layer: Layer,
        /// The timer's name.
        name: Name,
        /// When, in milliseconds since 1970.
        due_ms: u64,
    },
    /// Forget a timer; not there is fine.
    CancelTimer {
        /// The exchange.
        exchange: ExchangeId,
        /// Its type.
        layer: Layer,
        /// The timer's name.
        name: Name,
    },
    /// Drop a message that this exchange holds; not there is fine.
    CancelHold {
        /// The exchange.
        exchange: ExchangeId,
        /// The message.
        id: HoldId,
    },
}

/// A timer that is due.
#[derive(Clone, Copy, Debug)]
pub struct Due<'a> {
    /// Its name.
    pub name: &'a Name,
    /// When it was to fire, in milliseconds since 1970.
    pub due_ms: u64,
}

/// What came of a timer that was due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fired {
    /// The type was called; what it set anew is in the deeds.
    Done,
    /// The type is to be called after a wake.
    Pending,
    /// Its plugin cannot be called for a while: it is missing, or set aside.
    Unavailable,
    /// It was called and failed, for this reason.
    Failed(Arc<str>),
}

/// Whether a batch was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// As many answers as messages were appended, in order.
    Ready,
    /// Answers for the first messages were appended, at least one and fewer than all. What they
    /// ask for is to be done completely, their effects committed, before the rest is asked; then
    /// the rest is asked at once.
    Cut,
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

/// What becomes of a message at one attachment.
#[derive(Debug)]
pub enum Ruling {
    /// What the interceptor says, and what it did meanwhile.
    Said(Intercepted, Option<Box<dyn Effects>>),
    /// It could not be asked, and the operator wants the message to go as if no binding matched. On
    /// publish alone.
    Unroutable,
    /// It could not be asked, about this message or any, and the operator wants that to count as a
    /// rejection; with a reason for people to read.
    Unavailable(Arc<str>),
}

/// Why changes that an attachment wants of a message are not just made.
#[derive(Clone, Copy, Debug)]
pub enum Doubt<'a> {
    /// They are of what the message's sender may have signed ([`leveret_model::Form::touches_signed`]).
    Signed,
    /// The message cannot be changed so.
    Impossible(&'a PatchError),
}

/// Where a message is intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site<'a> {
    /// Before the exchange of that name is asked.
    Publish {
        /// The virtual host.
        vhost: &'a Name,
        /// The exchange's name.
        exchange: &'a [u8],
    },
    /// Before a consumer of that queue gets it.
    Deliver {
        /// The virtual host.
        vhost: &'a Name,
        /// The queue's name.
        queue: &'a [u8],
    },
    /// Before a dead letter of that queue goes to its dead-letter exchange. The message is as it would
    /// be routed, its history written; its exchange stays. A letter that is rejected, or whose changes
    /// cannot be made, stays in the queue and comes again after a while.
    DeadLetter {
        /// The virtual host.
        vhost: &'a Name,
        /// The name of the queue where it died.
        queue: &'a [u8],
        /// Why.
        reason: DeathReason,
    },
}

/// At which points anything is attached in a virtual host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points {
    /// On publish.
    pub publish: bool,
    /// On deliver.
    pub deliver: bool,
    /// On dead-letter.
    pub dead_letter: bool,
}

/// An answer and how it came about.
#[derive(Debug)]
pub struct Explained {
    /// The types that were asked, those in front first.
    pub asked: Vec<Asked>,
    /// What they answer together; `None` if that comes later.
    pub answer: Option<Answer>,
}

/// A ruling and how it came about.
#[derive(Debug)]
pub struct ExplainedInterceptor {
    /// Who was asked. What it said is filled in by the broker, from the ruling.
    pub asked: AskedInterceptor,
    /// What becomes of the message; `None` if that comes later.
    pub ruling: Option<Ruling>,
}

/// The exchange types, as one worker thread sees them. Not shared between threads: each worker
/// has its own instances and its own remembered answers.
pub trait Router {
    /// Whether exchanges of that type can be declared now; it is asked for this one, which is not there yet.
    ///
    /// # Errors
    /// [`Refusal::UnknownExchangeType`], [`Refusal::ExchangeTypeNotAllowed`] for a type that this vhost may
    /// not use, or [`Refusal::Parked`] for a type whose plugin is missing or switched off.
    fn check_type(&mut self, vhost: &Name, type_name: &Name, exchange: &Name) -> Result<(), Refusal>;

    /// Whether calls of this exchange's types that are about no message ([`Self::open`], [`Self::bind`],
    /// [`Self::bound`], [`Self::unbound`], [`Self::closed`]) are quick, so that a thread may make them that
    /// others wait for. The same for as long as the exchange is there.
    fn is_quick(&self, exchange: &Exchange) -> bool {
        let _ = exchange;
        true
    }

    /// Whether [`Self::is_quick`] will hold for an exchange that is declared so.
    fn declares_quickly(&self, vhost: &Name, spec: &ExchangeSpec) -> bool {
        let _ = (vhost, spec);
        true
    }

    /// Asks the type whether it takes this new exchange, which has no bindings yet and is not
    /// visible to anybody.
    ///
    /// # Errors
    /// The type's refusal; the exchange is then not declared.
    fn open(&mut self, exchange: &Arc<Exchange>) -> Result<(), Refusal>;

    /// An exchange is there again after a restart, with the types that it had ([`Exchange::types`]). Nobody is asked
    /// whether they take it; it is served by whoever serves its types, now or when their plugins come. Its bindings
    /// are made after this, and nobody is told of them: whoever serves it takes them from it, as at any generation.
    fn restored(&mut self, exchange: &Arc<Exchange>) {
        let _ = exchange;
    }

    /// Asks the types whether they take other arguments of an exchange that is in use. Called without a
    /// lock first, which may take as long as telling an instance of all bindings; and once more right before
    /// they are committed, while no type that may take long is asked or told anything else in the vhost:
    /// then only what changed between is told.
    ///
    /// # Errors
    /// A type's refusal; everything stays as it is then.
    fn reconfigure(&mut self, exchange: &Arc<Exchange>, settings: &Arc<Settings>) -> Result<(), Refusal> {
        let _ = (exchange, settings);
        Ok(())
    }

    /// Asks the type whether it takes this binding, before it is committed. If it is committed then, its
    /// id is the one given here, and no other binding has it. Bindings of the exchange may go meanwhile; and
    /// of one whose types are quick, others may come.
    ///
    /// # Errors
    /// The type's refusal; the binding is then not made.
    fn bind(&mut self, exchange: &Arc<Exchange>, candidate: &Binding) -> Result<(), Refusal>;

    /// A new binding was committed; its `bind-ok` is sent after this. Gives the stored messages
    /// that its destination gets now, in order. It may be gone already; then [`Self::unbound`] follows.
    ///
    /// Messages are published meanwhile: one that was routed before the binding was there and
    /// whose effects come after this call is in neither, unless the type sees to it.
    fn bound(
        &mut self,
        exchange: &Arc<Exchange>,
        binding: &Arc<Binding>,
        deeds: &mut Vec<Deed>,
    ) -> Vec<Arc<OwnedMessage>>;

    /// A binding is gone, while its exchange stays. Comes before any later [`Self::bound`] of the
    /// exchange.
    fn unbound(&mut self, exchange: &Arc<Exchange>, binding: &Arc<Binding>, deeds: &mut Vec<Deed>);

    /// Asks where messages go, appending an answer for each to `answers`.
    ///
    /// All messages of the batch are asked of this one exchange, from `layer` on.
    fn route(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        answers: &mut Vec<Answer>,
        waker: &Arc<dyn Wake>,
    ) -> Routed;

    /// The first of the exchange's types from a layer on whose answers depend on the routing key; `None` if
    /// there is no such type. Asked after [`Self::route`] answered for the exchange.
    fn reads_key_from(&mut self, exchange: &Exchange, from: Layer) -> Option<Layer> {
        let _ = exchange;
        Some(from)
    }

    /// Whose quota a message is charged to that is held until the types of an exchange from `resume` on are
    /// asked; asked after [`Self::route`] answered so, and at a start for what was held before. `None` where there is none
    /// beside the vhost's, or nobody answers for the exchange yet.
    fn hold_quota(&mut self, exchange: &Exchange, resume: Layer) -> Option<Arc<HoldQuota>> {
        let _ = (exchange, resume);
        None
    }

    /// Asks about one message as [`Self::route`] does, to tell people: nothing is counted or remembered,
    /// and the answer's effects are dropped.
    ///
    /// A router that has nothing to tell beside the answer need not implement it.
    fn explain(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        message: &MessageView<'_>,
        waker: &Arc<dyn Wake>,
    ) -> Explained {
        let mut answers = Vec::new();
        let messages = &mut core::iter::once(message);
        let answer = match self.route(exchange, layer, messages, &mut answers, waker) {
            Routed::Pending => None,
            Routed::Ready | Routed::Cut => answers.pop(),
        };
        Explained { asked: Vec::new(), answer }
    }

    /// A timer that was set is due. What the type set anew is appended to `deeds`. Whether it fired is known to the
    /// store with what the type did.
    fn timer(
        &mut self,
        exchange: &Arc<Exchange>,
        layer: Layer,
        due: Due<'_>,
        waker: &Arc<dyn Wake>,
        deeds: &mut Vec<Deed>,
    ) -> Fired;

    /// Numbers the states of what answers in a virtual host: raised when other code answers there than before,
    /// and by nothing that others do. Code that was away and is the same again is no other. What was refused
    /// too often is tried again after that.
    fn plugins_generation(&self, vhost: &Name) -> u64 {
        let _ = vhost;
        0
    }

    /// The time, in milliseconds since 1970. The broker asks only when it needs it.
    fn now_ms(&self) -> u64;

    /// A virtual host is about to be there: at which points anything is attached in it, until [`Self::vhost_gone`].
    fn intercepts(&self, vhost: &Name) -> Points {
        let _ = vhost;
        Points::default()
    }

    /// A virtual host is gone, with all that was in it.
    fn vhost_gone(&mut self, vhost: &Name) {
        let _ = vhost;
    }

    /// How many attachments there are for a place; the same for as long as the virtual host is there.
    fn attachments(&mut self, site: Site<'_>) -> usize {
        let _ = site;
        0
    }

    /// Asks the attachment of that number, from 0 on, about messages at a place, appending a ruling
    /// for each to `rulings`; under no lock. As for [`Self::route`] there may be fewer.
    fn intercept(
        &mut self,
        site: Site<'_>,
        attachment: usize,
        messages: &mut dyn Iterator<Item = &MessageView<'_>>,
        rulings: &mut Vec<Ruling>,
        waker: &Arc<dyn Wake>,
    ) -> Routed {
        let _ = (site, attachment, waker);
        rulings.extend(messages.map(|_| Ruling::Said(Intercepted::Continue, None)));
        Routed::Ready
    }

    /// An attachment answered with changes that are not just made. Gives what becomes of the message instead, and
    /// why, for people to read; `None` if they are to be made all the same. `counts` is false where it is only told.
    fn object(
        &mut self,
        (site, attachment): (Site<'_>, usize),
        doubt: Doubt<'_>,
        counts: bool,
    ) -> Option<(Ruling, Arc<str>)> {
        let _ = (site, attachment, counts);
        let Doubt::Impossible(error) = doubt else { return None };
        let why: Arc<str> = error.to_string().into();
        Some((Ruling::Said(Intercepted::Reject(why.clone()), None), why))
    }

    /// Asks an attachment about one message as [`Self::intercept`] does, to tell people: nothing is counted
    /// or remembered, and what the interceptor does is undone.
    ///
    /// A router that has nothing to tell beside the ruling need not implement it.
    fn explain_interceptor(
        &mut self,
        site: Site<'_>,
        attachment: usize,
        message: &MessageView<'_>,
        waker: &Arc<dyn Wake>,
    ) -> ExplainedInterceptor {
        let mut rulings = Vec::new();
        let messages = &mut core::iter::once(message);
        let ruling = match self.intercept(site, attachment, messages, &mut rulings, waker) {
            Routed::Pending => None,
            Routed::Ready | Routed::Cut => rulings.pop(),
        };
        ExplainedInterceptor { asked: AskedInterceptor::default(), ruling }
    }

    /// Whoever has that waker asks no more: what is kept for it may go.
    fn forget(&mut self, waker: &Arc<dyn Wake>) {
        let _ = waker;
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
