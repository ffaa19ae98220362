//! `[users."name"]`: users that the configuration declares.

use leveret_access::{Algorithm, Limits, Permissions, Secret, TopicPermissions, User};
use leveret_model::Name;
use serde::Deserialize;
use std::{collections::BTreeMap, fmt};
use toml::Spanned;

/// Users by name.
pub type UserTables = BTreeMap<String, Spanned<UserTable>>;

/// `[users."name"]`. Without password and hash nobody logs in with a password.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UserTable {
    /// The password itself.
    password: Option<Hidden>,
    /// The hash of the password, instead.
    password_hash: Option<Hidden>,
    /// How that is hashed: sha256 if nothing is said, and argon2id if it looks like that.
    hashing_algorithm: Option<String>,
    /// What the user is: `administrator` and others.
    #[serde(default)]
    tags: Vec<String>,
    /// What it may do, by virtual host.
    #[serde(default)]
    permissions: BTreeMap<String, PermissionsTable>,
    /// Which topics it may use, by virtual host and exchange.
    #[serde(default)]
    topic_permissions: BTreeMap<String, BTreeMap<String, TopicTable>>,
    /// How many connections it may have.
    max_connections: Option<u64>,
    /// How many channels.
    max_channels: Option<u64>,
}

/// What is not shown where the settings are.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Three patterns; what is not there matches nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PermissionsTable {
    #[serde(default)]
    configure: String,
    #[serde(default)]
    write: String,
    #[serde(default)]
    read: String,
}

/// Two patterns; what is not there matches nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct TopicTable {
    #[serde(default)]
    write: String,
    #[serde(default)]
    read: String,
}

impl UserTable {
    /// The user, but for its password if it is there itself: making its hash takes long.
    fn user(&self, name: &str) -> Result<User, String> {
        if name.is_empty() {
            return Err("a user needs a name".to_owned());
        }
        let name_of = |text: &str| Name::new(text.as_bytes()).map_err(|error| format!("{text:?}: {error}"));
        let secret = match (&self.password, &self.password_hash) {
            (Some(_), Some(_)) => {
                return Err("there is a password and a password-hash; one is enough".to_owned());
            }
            (_, None) => Secret::none(),
            (None, Some(Hidden(hash))) => {
                let usual = if hash.starts_with("$argon2") { "argon2id" } else { "sha256" };
                let algorithm = self.hashing_algorithm.as_deref().unwrap_or(usual).parse::<Algorithm>();
                algorithm
                    .and_then(|algorithm| Secret::read(algorithm, hash))
                    .map_err(|error| error.to_string())?
            }
        };
        let mut user = User::new(name_of(name)?, secret);
        user.tags.clone_from(&self.tags);
        user.limits = Limits { connections_max: self.max_connections, channels_max: self.max_channels };
        for (vhost, PermissionsTable { configure, write, read }) in &self.permissions {
            let permissions = Permissions::new(configure, write, read);
            let permissions = permissions.map_err(|error| format!("permissions.{vhost:?}: {error}"))?;
            user.permissions.insert(name_of(vhost)?, permissions);
        }
        for (vhost, exchanges) in &self.topic_permissions {
            for (exchange, TopicTable { write, read }) in exchanges {
                let permissions = TopicPermissions::new(write, read);
                let permissions = permissions
                    .map_err(|error| format!("topic-permissions.{vhost:?}.{exchange:?}: {error}"))?;
                user.topics.entry(name_of(vhost)?).or_default().insert(name_of(exchange)?, permissions);
            }
        }
        Ok(user)
    }
}

/// Checks all of them; makes no hashes.
///
/// # Errors
/// Where in the text the first is that makes no sense, and why.
pub(super) fn check(tables: &UserTables) -> Result<(), (usize, String)> {
    tables.iter().try_for_each(|(name, table)| {
        let user = table.get_ref().user(name);
        user.map(drop).map_err(|what| (table.span().start, format!("[users.{name:?}]: {what}")))
    })
}

/// The users. Takes some 13 ms for each password that is there itself.
///
/// # Errors
/// What makes no sense.
pub(super) fn users(tables: &UserTables) -> anyhow::Result<Vec<User>> {
    let user = |(name, table): (&String, &Spanned<UserTable>)| {
        let table = table.get_ref();
        let mut user = table.user(name).map_err(|what| anyhow::anyhow!("[users.{name:?}]: {what}"))?;
        if let Some(Hidden(password)) = &table.password {
            let secret = Secret::new(password.as_bytes());
            user.secret = secret.map_err(|error| anyhow::anyhow!("[users.{name:?}]: {error}"))?.into();
        }
        Ok(user)
    };
    tables.iter().map(user).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Settings};

    #[test]
    fn users_are_declared_with_hashes_or_passwords() {
        let settings = Settings::parse(
            "anonymous-user = \"a\"\nloopback-users = []\n\
             [users.a]\npassword-hash = \"wuB4hQeerJGkG3bNwV+1ZpH/94+MHmTBrR3ebOd0IBAYB5T9\"\n\
             [users.\"b c\"]\npassword = \"secret\"\ntags = [\"administrator\"]\nmax-channels = 3\n\
             [users.\"b c\".permissions.\"/\"]\nread = \"^q\"\n\
             [users.\"b c\".topic-permissions.\"/\".\"amq.topic\"]\nwrite = \"^{username}\"\n",
        );
        let settings = settings.unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
        let config = Config::try_from(settings).unwrap();
        let [a, b] = &config.users[..] else { panic!("{:?}", config.users) };
        assert!(a.secret.is(b"p") && b.secret.is(b"secret") && b.has_tag("administrator"));
        let permissions = &b.permissions[b"/".as_slice()];
        assert!(permissions.read.matches(b"q") && !permissions.write.matches(b"q"));
        assert_eq!((b.limits.channels_max, b.topics.len()), (Some(3), 1));
        assert!(config.access.loopback_users.is_empty());
        assert_eq!(config.access.anonymous_user.as_deref(), Some(b"a".as_slice()));
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_line() {
        let user = "[users.a]\n";
        for (wrong, what) in [
            ("password = \"a\"\npassword-hash = \"b\"", "one is enough"),
            ("password-hash = \"b\"", "base64"),
            ("password-hash = \"\"\nhashing-algorithm = \"crypt\"", "crypt"),
            ("permissions.\"/\".read = \"(\"", "unclosed group"),
            ("topic-permissions.\"/\".t.read = \"(\"", "unclosed group"),
        ] {
            let error = format!("{:#}", Settings::parse(&format!("workers = 1\n{user}{wrong}")).unwrap_err());
            assert!(error.contains("line 2") && error.contains(what), "{error}");
        }
        assert!(Settings::parse("[users.a]\npasswort = \"a\"").is_err());
    }
}
