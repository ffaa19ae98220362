//! Users and what they may do, as RabbitMQ's API has them.

use leveret_access::{Limits, User};
use serde::{Deserialize, Serialize};

/// `GET /api/users/{user}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserJson {
    /// Its name.
    pub name: String,
    /// The hash of its password; empty where there is none.
    pub password_hash: String,
    /// How that is hashed.
    pub hashing_algorithm: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// How much it may have.
    pub limits: LimitsJson,
    /// The configuration declares it. Not in RabbitMQ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub declared: bool,
}

/// Limits; those that are not there are none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LimitsJson {
    /// Channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_channels: Option<u64>,
    /// Connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u64>,
}

/// `GET /api/user-limits`: one user of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserLimitsJson {
    /// The user.
    pub user: String,
    /// Its limits.
    pub value: LimitsJson,
}

/// Limits of a virtual host; those that are not there are none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VhostLimitsJson {
    /// Connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u64>,
    /// Queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queues: Option<u64>,
}

/// `GET /api/vhost-limits`: one virtual host of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VhostLimitsOfJson {
    /// The virtual host.
    pub vhost: String,
    /// Its limits.
    pub value: VhostLimitsJson,
}

/// `GET /api/permissions/{vhost}/{user}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PermissionsJson {
    /// Who.
    pub user: String,
    /// Where.
    pub vhost: String,
    /// A pattern of what may be declared and deleted.
    pub configure: String,
    /// Of what may be written to.
    pub write: String,
    /// Of what may be read from.
    pub read: String,
}

/// `GET /api/topic-permissions/{vhost}/{user}`: one exchange of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TopicPermissionsJson {
    /// Who.
    pub user: String,
    /// Where.
    pub vhost: String,
    /// At which exchange.
    pub exchange: String,
    /// A pattern of the routing keys of publishes.
    pub write: String,
    /// Of the routing keys of bindings.
    pub read: String,
}

/// `GET /api/auth/hash_password/{password}`.
#[derive(Clone, Debug, Serialize)]
pub struct HashJson {
    /// The hash.
    pub ok: String,
}

/// `POST /api/users-authenticate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptJson {
    /// A user.
    pub name: String,
    /// What may be its password.
    pub password: String,
}

/// What came of that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptedJson {
    /// It is.
    pub authenticated: bool,
}

impl From<Limits> for LimitsJson {
    fn from(limits: Limits) -> Self {
        Self { max_channels: limits.channels_max, max_connections: limits.connections_max }
    }
}

impl From<&User> for UserJson {
    fn from(user: &User) -> Self {
        Self {
            name: user.name.to_text(),
            password_hash: user.secret.text(),
            hashing_algorithm: user.secret.algorithm().name().to_owned(),
            tags: user.tags.clone(),
            limits: user.limits.into(),
            declared: user.declared,
        }
    }
}

impl From<&User> for UserLimitsJson {
    fn from(user: &User) -> Self {
        Self { user: user.name.to_text(), value: user.limits.into() }
    }
}

impl PermissionsJson {
    /// All of a user, by virtual host.
    #[must_use]
    pub fn of(user: &User) -> Vec<Self> {
        let of_vhost = |(vhost, its): (&leveret_model::Name, &leveret_access::Permissions)| Self {
            user: user.name.to_text(),
            vhost: vhost.to_text(),
            configure: its.configure.text().to_owned(),
            write: its.write.text().to_owned(),
            read: its.read.text().to_owned(),
        };
        user.permissions.iter().map(of_vhost).collect()
    }
}

impl TopicPermissionsJson {
    /// All of a user, by virtual host and exchange.
    #[must_use]
    pub fn of(user: &User) -> Vec<Self> {
        let topics = user.topics.iter().flat_map(|(vhost, its)| {
            its.iter().map(move |(exchange, its)| Self {
                user: user.name.to_text(),
                vhost: vhost.to_text(),
                exchange: exchange.to_text(),
                write: its.write.text().to_owned(),
                read: its.read.text().to_owned(),
            })
        });
        topics.collect()
    }
}
