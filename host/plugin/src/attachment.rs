//! Where the operator attached interceptors.
//!
//! *Not here:* the configuration file (the server turns its tables into [`AttachmentRule`]s), who is
//! asked ([`crate::worker`]), which plugin provides an interceptor ([`crate::registry`]).
//!
//! *In and out:* rules go in once, virtual hosts as they begin and end; out come [`Attachment`]s, one for each rule
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
use parking_lot::RwLock;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

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

/// All attachments of a broker. The rules do not change while it runs; virtual hosts come and go.
#[derive(Debug, Default)]
pub struct Attachments {
    /// Those that are asked first before the others.
    rules: Vec<Arc<AttachmentRule>>,
    /// By their numbers; none of a virtual host that is gone. Of one virtual host, in the order of the rules.
    by_id: RwLock<Vec<Option<Arc<Attachment>>>>,
    /// Raised after each change that can be read.
    generation: AtomicU64,
}

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
        let attachments = Self { rules, ..Self::default() };
        vhosts.iter().for_each(|vhost| attachments.vhost_begins(vhost));
        Ok(attachments)
    }

    /// A virtual host is about to be there: what is attached everywhere is attached there too, unless it is already.
    pub(crate) fn vhost_begins(&self, vhost: &Name) {
        let mut by_id = self.by_id.write();
        if by_id.iter().flatten().any(|attachment| attachment.vhost == *vhost) {
            return;
        }
        for rule in self.rules.iter().filter(|rule| rule.vhost.as_ref().is_none_or(|own| own == vhost)) {
            let (id, vhost, rule) = (by_id.len() as u64, vhost.clone(), rule.clone());
            by_id.push(Some(Arc::new(Attachment { id, vhost, rule, counts: AttachmentCounts::default() })));
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A virtual host is gone, and what was attached there with it.
    pub(crate) fn vhost_ends(&self, vhost: &Name) {
        for attachment in self.by_id.write().iter_mut() {
            attachment.take_if(|attachment| attachment.vhost == *vhost);
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Numbers the states of what is attached. Read before what [`Self::chain`] gives is kept.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// All of them, virtual host by virtual host, those that are asked first before the others.
    pub(crate) fn all(&self) -> Vec<Arc<Attachment>> {
        self.by_id.read().iter().flatten().cloned().collect()
    }

    /// The one of a number that [`Self::chain`] gave.
    pub(crate) fn get(&self, at: usize) -> Option<Arc<Attachment>> {
        self.by_id.read().get(at)?.clone()
    }

    /// Whether anything is attached at a point in a virtual host.
    pub(crate) fn any(&self, vhost: &Name, point: AttachmentPoint) -> bool {
        self.by_id
            .read()
            .iter()
            .flatten()
            .any(|attachment| attachment.vhost == *vhost && attachment.rule.point == point)
    }

    /// The numbers of what a message meets at a point, in order. `name` is that of its
    /// exchange or queue.
    pub(crate) fn chain(&self, vhost: &Name, point: AttachmentPoint, name: &[u8]) -> Vec<usize> {
        let meets = |attachment: &Attachment| {
            let rule = &attachment.rule;
            attachment.vhost == *vhost
                && rule.point == point
                && rule.names.as_ref().is_none_or(|names| names.matches(name))
        };
        let by_id = self.by_id.read();
        let there = by_id.iter().enumerate().filter(|(_, it)| it.as_ref().is_some_and(|it| meets(it)));
        there.map(|(at, _)| at).collect()
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
