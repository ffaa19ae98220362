//! A user: how it is known, what it is, what it may do.

use crate::{Pattern, PatternError, Secret};
use leveret_model::Name;
use std::{collections::BTreeMap, sync::Arc};

/// The tag of those who may do everything over HTTP.
pub const ADMINISTRATOR: &str = "administrator";
/// The tag of those who may publish as another user.
pub const IMPERSONATOR: &str = "impersonator";

/// A user as it is at a moment.
#[derive(Clone, Debug)]
pub struct User {
    /// Its name.
    pub name: Name,
    /// What its password is compared with.
    pub secret: Arc<Secret>,
    /// Its tags, in the order in which they were given.
    pub tags: Vec<String>,
    /// How much it may have.
    pub limits: Limits,
    /// What it may do, by virtual host. It may not even enter those that are not here.
    pub permissions: BTreeMap<Name, Permissions>,
    /// Which topics it may use, by virtual host and exchange. Topics of exchanges that are not here are free.
    pub topics: BTreeMap<Name, BTreeMap<Name, TopicPermissions>>,
    /// The configuration declares it, so that it is changed there alone.
    pub declared: bool,
}

impl User {
    /// A user that may do nothing.
    #[must_use]
    pub fn new(name: Name, secret: Secret) -> Self {
        Self {
            name,
            secret: Arc::new(secret),
            tags: Vec::new(),
            limits: Limits::default(),
            permissions: BTreeMap::new(),
            topics: BTreeMap::new(),
            declared: false,
        }
    }

    /// Whether it has a tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|its| its == tag)
    }
}

/// Patterns for the names of what a user may declare and delete, write to, and read from in a virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Declare and delete.
    pub configure: Pattern,
    /// Publish, and bind what is written to.
    pub write: Pattern,
    /// Consume, get, purge, and bind what is read from.
    pub read: Pattern,
}

impl Permissions {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self { configure: Pattern::all(), write: Pattern::all(), read: Pattern::all() }
    }

    /// Of these patterns.
    ///
    /// # Errors
    /// One is none.
    pub fn new(configure: &str, write: &str, read: &str) -> Result<Self, PatternError> {
        Ok(Self {
            configure: Pattern::new(configure)?,
            write: Pattern::new(write)?,
            read: Pattern::new(read)?,
        })
    }
}

/// Patterns for routing keys that a user may publish with and bind with at a topic exchange. `{username}` and
/// `{vhost}` stand for who asks and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPermissions {
    /// Routing keys of publishes.
    pub write: Pattern,
    /// Routing keys of bindings.
    pub read: Pattern,
}

impl TopicPermissions {
    /// Of these patterns.
    ///
    /// # Errors
    /// One is none.
    pub fn new(write: &str, read: &str) -> Result<Self, PatternError> {
        Ok(Self { write: Pattern::template(write)?, read: Pattern::template(read)? })
    }
}

/// How much a user may have at a time; `None` is as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections.
    pub connections_max: Option<u64>,
    /// Channels of all its connections.
    pub channels_max: Option<u64>,
}
