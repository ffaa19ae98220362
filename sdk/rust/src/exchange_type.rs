//! What the author of an exchange type implements, and the words it is said in.

use crate::{Arguments, Description, Few, Mark, Message, Reads, Refusal, Targets};
use std::{borrow::Cow, time::Duration};

/// An exchange type. One value of the implementing struct stands for one declared exchange.
///
/// The broker makes as many instances of a plugin as it needs, and makes a new one at any time: it
/// opens its exchanges again and binds their bindings again. So hold nothing that does not follow
/// from [`open`](Self::open), [`bind`](Self::bind) and [`unbind`](Self::unbind); what has to outlive
/// an instance belongs into [`key_value`](crate::key_value) or
/// [`message_store`](crate::message_store). A panic ends the instance, never the broker.
pub trait ExchangeType: Sized + 'static {
    /// Called once for each new instance: the type's name and what it claims of itself.
    fn describe() -> Description;

    /// Called when a client declares an exchange of this type, and again on each new instance.
    ///
    /// # Errors
    /// Refuses the declaration; the client gets 406 with the text.
    fn open(declaration: &Declaration) -> Result<Self, Refusal>;

    /// What [`route`](Self::route) looks at. Asked after `open`, and after each change of the
    /// bindings; nothing else of a message arrives. The same bindings must give the same answer
    /// whatever order they came in: sort what you name.
    fn reads(&self) -> Reads;

    /// The type that decides, with the same bindings, what [`Decision::Delegate`] and
    /// [`Decision::Hold`] leave to it. Asked after `open`, and not where
    /// [`Declaration::in_front_of`] names that type already.
    fn inner(&self) -> Option<InnerType> {
        None
    }

    /// Whether this type looks at bindings at all. Asked after `open`; if not, `bind` and `unbind` are
    /// never called.
    fn wants_bindings(&self) -> bool {
        true
    }

    /// Called for each new binding. Its id is none that the exchange holds already. For a type that
    /// does not want bindings there is nothing to write.
    ///
    /// # Errors
    /// Refuses the binding, and nothing of it may stay; the client gets 406 with the text.
    fn bind(&mut self, binding: Binding) -> Result<(), Refusal> {
        drop(binding);
        Ok(())
    }

    /// Called after a binding is gone. An id that `bind` never took is to be ignored.
    fn unbind(&mut self, id: BindingId) {
        let _ = id;
    }

    /// Called for a message: adds the bindings it goes to, if it is to be delivered.
    ///
    /// A panic, or exceeding a limit, refuses this message to its publisher.
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision;

    /// Whether [`route_at_once`](Self::route_at_once) is written.
    const ROUTES_AT_ONCE: bool = false;

    /// Adds the bindings that a message goes to where that is easily found, and says so; else the message is left to
    /// [`route`](Self::route), which must decide the same, and what was added is forgotten.
    ///
    /// Optional; of use to a type that is asked about very many messages. It becomes a part of a loop over them, and a
    /// component keeps what such a loop needs in registers only as long as nothing in it calls a function: so what is
    /// called here should be inlined, and what is seldom is better left to `route`.
    #[inline(always)]
    fn route_at_once(&mut self, message: &Message<'_>, to: &mut Few<'_>) -> bool {
        let _ = (message, to);
        false
    }
}

/// Says which messages a new binding can concern. Optional: `export!(Mine: Marks)`; of use to a type that
/// is pure with independent bindings.
///
/// When a binding comes the broker asks such a type about every message that it remembers, with the new
/// binding alone. With marks it asks about those that have the binding's mark.
pub trait Marks: ExchangeType {
    /// Called for bindings that came by [`bind`](ExchangeType::bind). Every message that the binding is
    /// part of the decision for must have the mark. `testkit::Exchange::marks_hold` tries it.
    fn mark(&self, binding: &Binding) -> Mark;
}

/// Hears of bindings, once for the whole broker. Optional: `export!(Mine: Events)`.
///
/// [`ExchangeType::bind`] and `unbind` tell each instance, and again on each new one; these calls come
/// to one instance, once. They may have effects, which take place on return.
pub trait Events: ExchangeType {
    /// Called after a new binding took effect and before the client is told so. Gives kept messages
    /// ([`message_store`](crate::message_store)) that the broker puts into the binding's destination,
    /// in this order.
    fn bound(&mut self, binding: &Binding) -> Vec<StoredId>;

    /// Called after a binding was removed, also because its destination was deleted.
    fn unbound(&mut self, binding: &Binding) {
        let _ = binding;
    }
}

/// Is called at a time. Optional: `export!(Mine: Timers)`.
pub trait Timers: ExchangeType {
    /// Called, on one instance, when a timer of this name ([`timers::set`](crate::timers::set)) is due.
    /// After a panic the call is made again later.
    fn timer(&mut self, name: &[u8]);
}

/// Shows operators what is inside. Optional: `export!(Mine: Info)`.
pub trait Info: ExchangeType {
    /// Called when an operator looks at the exchange. Shown as it is, at most 64 fields.
    fn info(&self) -> Arguments;
}

/// Takes new arguments while the exchange is in use. Optional: `export!(Mine: Reconfigure)`; without it
/// the broker opens the exchange anew.
pub trait Reconfigure: ExchangeType {
    /// Called on every instance when an operator changed the arguments. What `reads` and
    /// `wants_bindings` say is asked again; what `inner` says may not change.
    ///
    /// # Errors
    /// Refuses the change; everything must be as it was before the call.
    fn reconfigure(&mut self, arguments: &Arguments) -> Result<(), Refusal>;
}

/// Takes over the state that an older version of the plugin left. Optional: `export!(Mine: Migrate)`;
/// without it the new version finds the state as it is.
pub trait Migrate: ExchangeType {
    /// Called on one instance of a new version for each open exchange that has state, before that
    /// version serves. [`key_value`](crate::key_value) then works on a copy.
    ///
    /// # Errors
    /// Refuses the new version, with a text for the log. A panic does too.
    fn migrate(&mut self, from_version: &str) -> Result<(), String>;
}

/// An exchange as its declarer wanted it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declaration {
    /// Its name.
    pub name: Vec<u8>,
    /// Its virtual host.
    pub vhost: Vec<u8>,
    /// Its arguments, without those that the broker handles itself (`alternate-exchange`).
    pub arguments: Arguments,
    /// Where it is put in front of an exchange of another type: that type's name. It decides what
    /// this one delegates or holds.
    pub in_front_of: Option<String>,
}

/// The type that decides what another one delegates or holds.
///
/// ```
/// # use leveret_sdk::{Arguments, InnerType};
/// InnerType::new("topic");
/// InnerType::new("x-longest-prefix").with_arguments(Arguments::new().with("x-limit", 3));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct InnerType {
    pub(crate) exchange_type: String,
    pub(crate) arguments: Arguments,
}

impl InnerType {
    /// The type of this name, without arguments.
    pub fn new(exchange_type: impl Into<String>) -> Self {
        Self { exchange_type: exchange_type.into(), arguments: Arguments::new() }
    }

    /// With these arguments, as if the exchange were declared with them.
    #[must_use]
    pub fn with_arguments(mut self, arguments: Arguments) -> Self {
        self.arguments = arguments;
        self
    }

    /// Its name.
    #[must_use]
    pub fn exchange_type(&self) -> &str {
        &self.exchange_type
    }

    /// Its arguments.
    #[must_use]
    pub fn arguments(&self) -> &Arguments {
        &self.arguments
    }
}

/// A binding whose source is the exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The number by which [`ExchangeType::route`] names it.
    pub id: BindingId,
    /// The binding key.
    pub routing_key: Vec<u8>,
    /// Its arguments.
    pub arguments: Arguments,
    /// Where it leads. Two bindings may lead to one destination.
    pub destination: Destination,
}

/// Numbers a binding within its exchange. The number says nothing about order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct BindingId(pub u64);

/// Numbers a message that the broker keeps for a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct StoredId(pub u64);

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// To the queue of this name.
    Queue(Vec<u8>),
    /// To the exchange of this name.
    Exchange(Vec<u8>),
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To the bindings added to the [`Targets`]. To none is unroutable: the alternate exchange,
    /// then a mandatory return, follow.
    Deliver,
    /// Nowhere, on purpose: the publisher is confirmed, nothing is returned. Messages are counted by
    /// the reason, which may be empty.
    Drop(Cow<'static, str>),
    /// Not accepted, with a reason (cut at 1,024 bytes) for the publisher and the log.
    Reject(Cow<'static, str>),
    /// As the inner type decides.
    Delegate,
    /// Kept by the broker for so long (in whole milliseconds, fractions cut), then where the inner
    /// type decides at that time. Needs the grant `hold`.
    Hold(Duration),
}
