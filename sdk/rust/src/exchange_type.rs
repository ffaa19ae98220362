//! What an author implements, and the words it is said in.

use crate::{Arguments, Message, Reads, Targets};
use std::{borrow::Cow, fmt};

/// An exchange type. One value of the implementing struct stands for one declared exchange.
///
/// The broker makes as many instances of a plugin as it needs, and makes a new one at any time: it
/// opens its exchanges again and binds their bindings again. So hold nothing that does not follow
/// from [`open`](Self::open), [`bind`](Self::bind) and [`unbind`](Self::unbind). A panic ends the
/// instance, never the broker.
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

    /// Called for each new binding. Its id is none that the exchange holds already.
    ///
    /// # Errors
    /// Refuses the binding, and nothing of it may stay; the client gets 406 with the text.
    fn bind(&mut self, binding: Binding) -> Result<(), Refusal>;

    /// Called after a binding is gone. An id that `bind` never took is to be ignored.
    fn unbind(&mut self, id: BindingId);

    /// Called for a message: adds the bindings it goes to, if it is to be delivered.
    ///
    /// A panic, or exceeding a limit, refuses this message to its publisher.
    fn route(&mut self, message: &Message<'_>, to: &mut Targets<'_>) -> Decision;
}

/// What an exchange type says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) pure: bool,
    pub(crate) independent_bindings: bool,
}

impl Description {
    /// The name clients declare the type by, 1 to 127 bytes of lower-case letters, digits, `-`,
    /// `_` and `.`, by custom beginning with `x-`; and one line of help for an operator.
    #[must_use]
    pub const fn new(name: &'static str, summary: &'static str) -> Self {
        Self { name, summary, pure: false, independent_bindings: false }
    }

    /// Claims that a decision depends on what the exchange reads and on its bindings, and on
    /// nothing else. The broker then remembers decisions, which saves nearly all calls. It checks
    /// the claim now and then, and drops it where it does not hold.
    #[must_use]
    pub const fn pure(mut self) -> Self {
        self.pure = true;
        self
    }

    /// Claims that a message goes to each binding or not whatever other bindings there are. The
    /// broker then keeps more of what it remembers when bindings come and go.
    #[must_use]
    pub const fn independent_bindings(mut self) -> Self {
        self.independent_bindings = true;
        self
    }
}

/// An exchange as its declarer wanted it.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// Its name.
    pub name: Vec<u8>,
    /// Its arguments, without those that the broker handles itself (`alternate-exchange`).
    pub arguments: Arguments,
}

/// A binding whose source is the exchange.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The number by which [`ExchangeType::route`] names it.
    pub id: BindingId,
    /// The binding key.
    pub routing_key: Vec<u8>,
    /// Its arguments.
    pub arguments: Arguments,
}

/// Numbers a binding within its exchange. The number says nothing about order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct BindingId(pub u64);

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To the bindings added to the [`Targets`]. To none is unroutable: the alternate exchange,
    /// then a mandatory return, follow.
    Deliver,
    /// Nowhere, on purpose: the publisher is confirmed, nothing is returned.
    Drop,
    /// Not accepted, with a reason (cut at 1,024 bytes) for the publisher and the log.
    Reject(Cow<'static, str>),
}

/// Why a declaration or a binding is refused, for the client to read.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// A refusal for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_reason(self) -> String {
        self.0
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::new(reason)
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refusal").field(&self.0).finish()
    }
}

impl std::error::Error for Refusal {}
