//! Where the operator attached interceptors.
//!
//! *Not here:* the configuration file (the server turns its tables into [`AttachmentRule`]s), who is
//! asked ([`crate::worker`]), which plugin provides an interceptor ([`crate::registry`]).
//!
//! *In and out:* rules and the virtual hosts go in once; out come [`Attachment`]s, one for each rule
//! and virtual host that it holds in, and which of them a message meets at a place, in order.
//!
//! *Invariants:* two attachments that the same message can meet at the same point have different
//! orders, so what is attached never depends on the order of the file.

mod counts;
mod pattern;

pub(crate) use counts::AttachmentCounts;
pub use counts::AttachmentUse;
pub use pattern::Pattern;

use crate::{
    guest::AttachmentPoint,
    policy::{self, FailurePolicy},
};
use leveret_model::{Name, Table};
use std::{fmt, sync::Arc};

/// One place where the operator attaches an interceptor.
#[derive(Clone, Debug, PartialEq)]
pub struct AttachmentRule {
    /// The interceptor's name.
    pub interceptor: String,
    /// Where on a message's way.
    pub point: AttachmentPoint,
    /// The virtual host; `None` is all of them.
    pub vhost: Option<Name>,
    /// The exchanges, or on deliver and dead-letter the queues; `None` is all of them.
    pub names: Option<Pattern>,
    /// The lower is asked first.
    pub order: i64,
    /// What becomes of a message when the interceptor cannot be asked.
    pub on_failure: FailurePolicy,
    /// What it is opened with.
    pub arguments: Table,
}

/// Why rules make no sense. Rules are named by their places in the list, from 0 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachmentError {
    /// Two can meet the same message with the same order.
    Conflict {
        /// One.
        first: usize,
        /// The other.
        second: usize,
        /// What is wrong with them.
        what: String,
    },
    /// A failure policy that makes no sense at that point.
    Unsuitable {
        /// Which.
        rule: usize,
        /// What is wrong with it.
        what: String,
    },
    /// It is in a virtual host that is not there.
    NoVhost {
        /// Which.
        rule: usize,
        /// What is wrong with it.
        what: String,
    },
}

impl AttachmentError {
    /// The rule that an operator has to look at: of two the later one.
    #[must_use]
    pub fn rule(&self) -> usize {
        match self {
            Self::Conflict { second, .. } => *second,
            Self::Unsuitable { rule, .. } | Self::NoVhost { rule, .. } => *rule,
        }
    }
}

impl fmt::Display for AttachmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { what, .. } | Self::Unsuitable { what, .. } | Self::NoVhost { what, .. } => {
                f.write_str(what)
            }
        }
    }
}

impl std::error::Error for AttachmentError {}

/// A rule in one virtual host.
#[derive(Debug)]
pub struct Attachment {
    /// Numbers it; its state belongs to this number.
    pub(crate) id: u64,
    /// The virtual host.
    pub(crate) vhost: Name,
    pub(crate) rule: Arc<AttachmentRule>,
    pub(crate) counts: AttachmentCounts,
}

/// All attachments of a broker. They do not change while it runs.
#[derive(Debug, Default)]
pub struct Attachments(Vec<Arc<Attachment>>);

impl Attachments {
    /// The attachments of these rules in these virtual hosts.
    ///
    /// # Errors
    /// If two rules are in conflict, or one makes no sense.
    pub fn new(rules: Vec<AttachmentRule>, vhosts: &[Name]) -> Result<Self, AttachmentError> {
        for (at, rule) in rules.iter().enumerate() {
            rule.check(at, vhosts)?;
            for (before, other) in rules.iter().take(at).enumerate() {
                if rule.meets(other) && rule.order == other.order {
                    let (point, order) = (rule.point, rule.order);
                    let what = format!(
                        "{other} and {rule} can meet the same message on {point} with the same order, {order}: \
                         which one is asked first?"
                    );
                    return Err(AttachmentError::Conflict { first: before, second: at, what });
                }
            }
        }
        let mut rules: Vec<Arc<AttachmentRule>> = rules.into_iter().map(Arc::new).collect();
        rules.sort_by_key(|rule| rule.order);
        let holds = |rule: &AttachmentRule, vhost: &Name| rule.vhost.as_ref().is_none_or(|v| v == vhost);
        let places = rules.iter().flat_map(|rule| {
            vhosts.iter().filter(|vhost| holds(rule, vhost)).map(|vhost| (rule.clone(), vhost.clone()))
        });
        let numbered = (0..).zip(places);
        let attachment = |(id, (rule, vhost))| {
            Arc::new(Attachment { id, vhost, rule, counts: AttachmentCounts::default() })
        };
        Ok(Self(numbered.map(attachment).collect()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, those that are asked first before the others.
    pub(crate) fn all(&self) -> &[Arc<Attachment>] {
        &self.0
    }

    /// Whether anything is attached at a point in a virtual host.
    pub(crate) fn any(&self, vhost: &Name, point: AttachmentPoint) -> bool {
        self.0.iter().any(|attachment| attachment.vhost == *vhost && attachment.rule.point == point)
    }

    /// The places in the list of what a message meets at a point, in order. `name` is that of its
    /// exchange or queue.
    pub(crate) fn chain(&self, vhost: &Name, point: AttachmentPoint, name: &[u8]) -> Vec<usize> {
        let meets = |attachment: &Attachment| {
            let rule = &attachment.rule;
            attachment.vhost == *vhost
                && rule.point == point
                && rule.names.as_ref().is_none_or(|names| names.matches(name))
        };
        self.0.iter().enumerate().filter(|(_, attachment)| meets(attachment)).map(|(at, _)| at).collect()
    }
}

impl AttachmentRule {
    fn check(&self, at: usize, vhosts: &[Name]) -> Result<(), AttachmentError> {
        let attached = match self.point {
            AttachmentPoint::Publish => policy::Attachment::OnPublish,
            AttachmentPoint::Deliver => policy::Attachment::OnDeliver,
            AttachmentPoint::DeadLetter => policy::Attachment::OnDeadLetter,
        };
        if !self.on_failure.suits(attached) {
            let what = format!("{self}: on-failure = {} makes no sense for {attached}", self.on_failure);
            return Err(AttachmentError::Unsuitable { rule: at, what });
        }
        match &self.vhost {
            Some(vhost) if !vhosts.contains(vhost) => {
                let what = format!("{self}: there is no such virtual host");
                Err(AttachmentError::NoVhost { rule: at, what })
            }
            _ => Ok(()),
        }
    }

    /// Whether there can be a message that meets both.
    fn meets(&self, other: &Self) -> bool {
        let vhosts = match (&self.vhost, &other.vhost) {
            (Some(one), Some(another)) => one == another,
            _ => true,
        };
        let names = match (&self.names, &other.names) {
            (Some(one), Some(another)) => one.meets(another),
            _ => true,
        };
        self.point == other.point && vhosts && names
    }
}

/// `'stamp' on publish, exchange "orders.*" in vhost '/'`.
impl fmt::Display for AttachmentRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' on {}", self.interceptor, self.point)?;
        let kind = if self.point == AttachmentPoint::Publish { "exchange" } else { "queue" };
        match &self.names {
            Some(names) => write!(f, ", {kind} \"{names}\"")?,
            None => write!(f, ", every {kind}")?,
        }
        match &self.vhost {
            Some(vhost) => write!(f, " in vhost '{vhost}'"),
            None => f.write_str(" in every vhost"),
        }
    }
}

#[cfg(test)]
mod tests;
