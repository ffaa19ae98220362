//! What one user may do in one virtual host: asked for each operation of a live connection.

use crate::{Access, Pattern, Permissions, TopicPermissions, User, user::IMPERSONATOR};
pub use leveret_model::refusal::Operation;

use leveret_model::Name;
use std::sync::Arc;

/// How many exchanges are remembered that may be published to.
const REMEMBERED_MAX: usize = 16;
/// What the default exchange is called in patterns, since its name is empty.
pub const DEFAULT_EXCHANGE: &[u8] = b"amq.default";

/// What a user may do in a virtual host. Follows changes of the user: each question sees all that counted before.
///
/// What publishes ask is remembered until something changes, so that it costs a load and a comparison.
#[derive(Clone, Debug)]
pub struct Rights {
    access: Arc<Access>,
    name: Name,
    vhost: Name,
    /// As of which generation the rest is.
    generation: u64,
    /// None where there is no such user any more.
    user: Option<Arc<User>>,
    /// Exchanges that may be published to, the latest first.
    publishable: Vec<Name>,
    /// Topic patterns with what was put in, by exchange.
    filled: Vec<(Operation, Name, Pattern)>,
}

impl Rights {
    /// Those of the user of that name.
    #[must_use]
    pub fn new(access: Arc<Access>, name: Name, vhost: Name) -> Self {
        // Before the user is looked up: what changes meanwhile is seen by the next question.
        let generation = access.generation();
        let user = access.user(&name);
        Self { access, name, vhost, generation, user, publishable: Vec::new(), filled: Vec::new() }
    }

    /// The user's name.
    #[must_use]
    pub fn user_name(&self) -> &Name {
        &self.name
    }

    /// The virtual host.
    #[must_use]
    pub fn vhost(&self) -> &Name {
        &self.vhost
    }

    fn refresh(&mut self) {
        let generation = self.access.generation();
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        let user = self.access.user(&self.name);
        let is_same = match (&user, &self.user) {
            (Some(user), Some(before)) => Arc::ptr_eq(user, before),
            (user, before) => user.is_none() && before.is_none(),
        };
        if !is_same {
            self.user = user;
            self.publishable.clear();
            self.filled.clear();
        }
    }

    fn permissions(&self) -> Option<&Permissions> {
        self.user.as_ref()?.permissions.get(&self.vhost)
    }

    /// Whether the user may enter the virtual host at all.
    pub fn may_enter(&mut self) -> bool {
        self.refresh();
        self.permissions().is_some()
    }

    /// Whether an operation is allowed on an exchange or a queue of this name; the default exchange has the empty one.
    pub fn may(&mut self, operation: Operation, resource: &[u8]) -> bool {
        self.refresh();
        let resource = if resource.is_empty() { DEFAULT_EXCHANGE } else { resource };
        self.permissions().is_some_and(|its| match operation {
            Operation::Configure => its.configure.matches(resource),
            Operation::Write => its.write.matches(resource),
            Operation::Read => its.read.matches(resource),
        })
    }

    /// [`Self::may`] write to an exchange, for publishes.
    #[inline]
    pub fn may_publish(&mut self, exchange: &[u8]) -> bool {
        if self.generation == self.access.generation()
            && self.publishable.first().is_some_and(|known| is_same(known, exchange))
        {
            return true;
        }
        self.may_publish_elsewhere(exchange)
    }

    fn may_publish_elsewhere(&mut self, exchange: &[u8]) -> bool {
        self.refresh();
        if let Some(at) = self.publishable.iter().position(|known| is_same(known, exchange)) {
            self.publishable.swap(0, at);
            return true;
        }
        let may = self.may(Operation::Write, exchange);
        if may && let Ok(name) = Name::new(exchange) {
            self.publishable.truncate(REMEMBERED_MAX - 1);
            self.publishable.insert(0, name);
        }
        may
    }

    /// Whether there is anything that [`Self::may_use_topic`] could refuse.
    pub fn has_topics(&mut self) -> bool {
        self.refresh();
        self.user.as_ref().is_some_and(|user| user.topics.contains_key(&self.vhost))
    }

    /// Whether a routing key is allowed at a topic exchange: of a publish with [`Operation::Write`], of a binding
    /// with [`Operation::Read`].
    pub fn may_use_topic(&mut self, operation: Operation, exchange: &[u8], routing_key: &[u8]) -> bool {
        self.refresh();
        let topics = self.user.as_ref().and_then(|user| user.topics.get(&self.vhost)?.get(exchange));
        let Some(TopicPermissions { write, read }) = topics else { return true };
        let pattern = if operation == Operation::Read { read } else { write };
        let known = self.filled.iter().find(|(of, at, _)| *of == operation && at.as_bytes() == exchange);
        if let Some((_, _, filled)) = known {
            return filled.matches(routing_key);
        }
        let Some(filled) = pattern.filled(&self.name.to_text(), &self.vhost.to_text()) else {
            return pattern.matches(routing_key);
        };
        let may = filled.matches(routing_key);
        if let Ok(exchange) = Name::new(exchange) {
            self.filled.truncate(REMEMBERED_MAX - 1);
            self.filled.insert(0, (operation, exchange, filled));
        }
        may
    }

    /// Whether the user may publish with that `user-id`: its own name, or any if it is tagged `impersonator`.
    pub fn may_publish_as(&mut self, user: &[u8]) -> bool {
        self.refresh();
        self.name.as_bytes() == user || self.user.as_ref().is_some_and(|user| user.has_tag(IMPERSONATOR))
    }
}

/// Whether two names are the same. Comparing no bytes at all can cost a hundred nanoseconds: masked loads from where an
/// empty slice points are slow, and the default exchange has no name.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}
