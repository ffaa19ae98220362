//! Policies: what holds for queues and exchanges by their names, beside the arguments that they were declared with.
//!
//! *Whose.* Users have policies, and operators have theirs, which are for queues and may not say everything. Of each kind
//! one applies to an object at most: of those whose pattern is found in its name, and that are for objects of its kind, the
//! one of the highest priority; of several the first by name.
//!
//! *What comes of it.* A definition has the keys of queue arguments without their `x-`. It is put together with the
//! arguments (`merge.rs`) when a queue is declared and when policies change, never for a message: a queue that is governed
//! has other settings, and is otherwise as any.
//!
//! Patterns are somebody else's business ([`NamePattern`]), and so is where policies are kept.

mod apply;
mod check;
mod merge;

use crate::{exchange::ALTERNATE_EXCHANGE, queue::QueueKind};
use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;
use leveret_model::{Name, Table};

pub(crate) use apply::{Rule, govern};
pub use check::term;
pub(crate) use merge::arguments;

/// Says in which names a policy's pattern is found.
pub trait NamePattern: fmt::Debug + Send + Sync {
    /// As it was given.
    fn text(&self) -> &str;

    /// Whether it is found in a name.
    fn is_in(&self, name: &[u8]) -> bool;
}

/// Whose a policy is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PolicyKind {
    /// Of users, who say what they want.
    User,
    /// Of operators, who say how much there may be of it.
    Operator,
}

/// What a policy is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ApplyTo {
    /// Queues and exchanges.
    #[default]
    All,
    /// Queues of all types.
    Queues,
    /// Classic queues.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Streams, of which there are none.
    Streams,
    /// Exchanges.
    Exchanges,
}

impl ApplyTo {
    const ALL: [Self; 6] =
        [Self::All, Self::Queues, Self::ClassicQueues, Self::QuorumQueues, Self::Streams, Self::Exchanges];

    /// As RabbitMQ calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queues => "queues",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
            Self::Exchanges => "exchanges",
        }
    }

    /// What that word says; `None` if it is none of these words.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|apply_to| apply_to.as_str() == word)
    }

    fn has_queues(self, kind: QueueKind) -> bool {
        match self {
            Self::All | Self::Queues => true,
            Self::ClassicQueues => kind == QueueKind::Classic,
            Self::QuorumQueues => kind == QueueKind::Quorum,
            Self::Streams | Self::Exchanges => false,
        }
    }

    fn has_exchanges(self) -> bool {
        matches!(self, Self::All | Self::Exchanges)
    }
}

/// A policy, checked.
#[derive(Debug)]
pub struct Policy {
    name: Name,
    pattern: Box<dyn NamePattern>,
    apply_to: ApplyTo,
    priority: f64,
    definition: Table,
    /// The queue types whose queues it is not for, by what it says.
    not_for: check::NotFor,
    alternate: Option<Name>,
}

impl Policy {
    /// One of that name.
    ///
    /// # Errors
    /// What is wrong with the definition, in RabbitMQ's words.
    pub fn new(
        kind: PolicyKind,
        name: Name,
        pattern: Box<dyn NamePattern>,
        (apply_to, priority): (ApplyTo, f64),
        definition: Table,
    ) -> Result<Self, String> {
        let not_for = check::definition(kind, &definition)?;
        let alternate = definition.get(ALTERNATE_EXCHANGE).and_then(|name| name.as_text());
        let alternate = alternate.and_then(|name| Name::new(name.as_bytes()).ok());
        Ok(Self { name, pattern, apply_to, priority, definition, not_for, alternate })
    }

    /// Checks a definition alone.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn check(kind: PolicyKind, definition: &Table) -> Result<(), String> {
        check::definition(kind, definition).map(drop)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The pattern, as it was given.
    #[must_use]
    pub fn pattern(&self) -> &str {
        self.pattern.text()
    }

    /// What it is for.
    #[must_use]
    pub fn apply_to(&self) -> ApplyTo {
        self.apply_to
    }

    /// Of several that would apply the one with the greatest does.
    #[must_use]
    pub fn priority(&self) -> f64 {
        self.priority
    }

    /// What it says: the keys are those of queue arguments without their `x-`, or `alternate-exchange`.
    #[must_use]
    pub fn definition(&self) -> &Table {
        &self.definition
    }

    /// The alternate exchange that it gives to exchanges.
    pub(crate) fn alternate(&self) -> Option<&Name> {
        self.alternate.as_ref()
    }

    fn is_for_queue(&self, name: &Name, kind: QueueKind) -> bool {
        self.apply_to.has_queues(kind) && !self.not_for.has(kind) && self.pattern.is_in(name)
    }

    fn is_for_exchange(&self, name: &Name) -> bool {
        self.apply_to.has_exchanges() && self.pattern.is_in(name)
    }
}

/// All policies of a virtual host.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    user: Vec<Arc<Policy>>,
    operator: Vec<Arc<Policy>>,
}

impl Policies {
    /// Those of one kind, the one that counts most first.
    #[must_use]
    pub fn of(&self, kind: PolicyKind) -> &[Arc<Policy>] {
        match kind {
            PolicyKind::User => &self.user,
            PolicyKind::Operator => &self.operator,
        }
    }

    /// The one of that kind and name.
    #[must_use]
    pub fn get(&self, kind: PolicyKind, name: &[u8]) -> Option<&Arc<Policy>> {
        self.of(kind).iter().find(|policy| policy.name.as_bytes() == name)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.user.iter().chain(&self.operator)
    }

    /// Adds one, in the place of the one of its name.
    pub fn put(&mut self, kind: PolicyKind, policy: Arc<Policy>) {
        self.remove(kind, &policy.name);
        let all = self.of_mut(kind);
        let before = |other: &Arc<Policy>| {
            let order = policy.priority.total_cmp(&other.priority).then_with(|| other.name.cmp(&policy.name));
            order.is_lt()
        };
        let at = all.partition_point(before);
        all.insert(at, policy);
    }

    /// Takes the one of that name away, and gives it.
    pub fn remove(&mut self, kind: PolicyKind, name: &[u8]) -> Option<Arc<Policy>> {
        let all = self.of_mut(kind);
        let at = all.iter().position(|policy| policy.name.as_bytes() == name)?;
        Some(all.remove(at))
    }

    fn of_mut(&mut self, kind: PolicyKind) -> &mut Vec<Arc<Policy>> {
        match kind {
            PolicyKind::User => &mut self.user,
            PolicyKind::Operator => &mut self.operator,
        }
    }

    /// What applies to a queue.
    pub(crate) fn for_queue(&self, name: &Name, kind: QueueKind) -> Applied {
        let first = |all: &[Arc<Policy>]| all.iter().find(|policy| policy.is_for_queue(name, kind)).cloned();
        Applied { policy: first(&self.user), operator: first(&self.operator) }
    }

    /// What applies to an exchange. Operators' policies say nothing for exchanges.
    pub(crate) fn for_exchange(&self, name: &Name) -> Option<Arc<Policy>> {
        self.user.iter().find(|policy| policy.is_for_exchange(name)).cloned()
    }
}

/// The policies that apply to a queue.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The users'.
    pub policy: Option<Arc<Policy>>,
    /// The operators'.
    pub operator: Option<Arc<Policy>>,
}

impl Applied {
    /// Both are the very same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same = |a: &Option<Arc<Policy>>, b: &Option<Arc<Policy>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        same(&self.policy, &other.policy) && same(&self.operator, &other.operator)
    }

    /// What both come to, by key; empty where there is none.
    #[must_use]
    pub fn definition(&self) -> Table {
        let of = |policy: &Option<Arc<Policy>>| policy.as_ref().map(|policy| policy.definition.clone());
        merge::definitions(of(&self.policy).unwrap_or_default(), of(&self.operator).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
