//! Users, as values. Version 1; numbers are little-endian, texts are u16 length and bytes, names u8 length and bytes.
//!
//! ```text
//! key    name
//! value  u8 version, u8 algorithm (0 sha256, 1 sha512, 2 md5, 3 argon2id), text of the hash or empty, and behind a
//!        space the keys of SCRAM if there are any,
//!        u16 tags, for each a text, two limits (connections, channels): u8 whether there is one, u64,
//!        u32 permissions, for each the name of a virtual host and three texts (configure, write, read),
//!        u32 topic permissions, for each the names of a virtual host and an exchange, two texts (write, read)
//! ```

use super::{
    DiskStore,
    codec::{Malformed, Take, TakeMore, VERSION, put_name},
    parts::Parts,
    spaces::{OTHERS, SALT_KEY, USERS},
};
use leveret_access::{Algorithm, Change, Done, Keeper, Limits, Permissions, Secret, TopicPermissions, User};
use leveret_broker::store::{StoreFailure, Written};
use leveret_model::Name;
use leveret_store::Sync;
use parking_lot::Mutex;
use std::sync::Arc;

/// The algorithms by their numbers.
const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::Sha256, Algorithm::Sha512, Algorithm::Md5, Algorithm::Argon2id];

impl DiskStore {
    /// The users that there are. One that cannot be read is told in the log and left out.
    #[must_use]
    pub fn users(&self) -> Vec<User> {
        let mut users = Vec::new();
        self.shared.store.values_with(USERS, b"", |key, value, _| match read(key, value) {
            Ok(user) => users.push(user),
            Err(Malformed) => tracing::error!(
                "the store: user '{}' cannot be read and is left out; make it again",
                key.get(1..).unwrap_or_default().escape_ascii()
            ),
        });
        users
    }

    /// The broker's own key, of which the salts are made of users that are not there. It is made at the first start.
    #[must_use]
    pub fn salt_key(&self) -> [u8; 32] {
        let mut kept = None;
        self.shared.store.values_with(OTHERS, SALT_KEY, |_, value, _| kept = value.try_into().ok());
        kept.unwrap_or_else(|| {
            let mut key = [0; 32];
            if let Err(error) = getrandom::fill(&mut key) {
                tracing::error!("no random bytes: {error}");
            }
            let mut parts = Parts::new(self.shared.group_bytes_max);
            parts.set(OTHERS, SALT_KEY, &key, 0);
            // Where it is not taken another is made at the next start.
            let _ = parts.submit(&self.shared.store, Sync::Always, None);
            key
        })
    }
}

impl Keeper for DiskStore {
    fn admit(&self) -> Result<(), String> {
        self.admits().map_err(|failure| failure.to_string())
    }

    fn keep(&self, changes: &[Change<'_>], done: Done) {
        let mut parts = Parts::new(self.shared.group_bytes_max);
        for change in changes {
            match change {
                Change::User(user) => parts.set(USERS, &key(&user.name), &value(user), 0),
                Change::UserGone(name) => parts.unset(USERS, &key(name)),
            }
        }
        let waiter = told(done);
        // The waiter is told where it is not taken.
        let _ = parts.submit(&self.shared.store, Sync::Always, Some((&waiter, 0)));
    }
}

/// Tells whoever waits.
pub(super) fn told(done: Done) -> Arc<dyn Written> {
    Arc::new(Told(Mutex::new(Some(done))))
}

struct Told(Mutex<Option<Done>>);

impl Written for Told {
    fn written(&self, _token: u64, outcome: Result<(), StoreFailure>) {
        let done = self.0.lock().take();
        if let Some(done) = done {
            done(outcome.map_err(|failure| failure.to_string()));
        }
    }
}

fn key(name: &Name) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 1);
    put_name(&mut key, name);
    key
}

/// Appends a text. No longer one comes here: patterns, hashes and tags have limits of their own.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_limit(out: &mut Vec<u8>, limit: Option<u64>) {
    out.push(limit.is_some().into());
    out.extend_from_slice(&limit.unwrap_or(0).to_le_bytes());
}

fn value(user: &User) -> Vec<u8> {
    let algorithm = ALGORITHMS.iter().position(|algorithm| *algorithm == user.secret.algorithm());
    let mut out = vec![VERSION, algorithm.unwrap_or_default() as u8];
    put_text(&mut out, &user.secret.kept());
    let tags = user.tags.get(..usize::from(u16::MAX)).unwrap_or(&user.tags);
    out.extend_from_slice(&(tags.len() as u16).to_le_bytes());
    tags.iter().for_each(|tag| put_text(&mut out, tag));
    put_limit(&mut out, user.limits.connections_max);
    put_limit(&mut out, user.limits.channels_max);
    out.extend_from_slice(&(user.permissions.len() as u32).to_le_bytes());
    for (vhost, Permissions { configure, write, read }) in &user.permissions {
        put_name(&mut out, vhost);
        [configure, write, read].into_iter().for_each(|pattern| put_text(&mut out, pattern.text()));
    }
    let topics = || user.topics.iter().flat_map(|(vhost, its)| its.iter().map(move |topic| (vhost, topic)));
    out.extend_from_slice(&(topics().count() as u32).to_le_bytes());
    for (vhost, (exchange, TopicPermissions { write, read })) in topics() {
        put_name(&mut out, vhost);
        put_name(&mut out, exchange);
        [write, read].into_iter().for_each(|pattern| put_text(&mut out, pattern.text()));
    }
    out
}

fn take_text<'a>(take: &mut Take<'a>) -> Result<&'a str, Malformed> {
    let length = take.u16()?;
    std::str::from_utf8(take.bytes(length.into())?).map_err(|_| Malformed)
}

fn take_limit(take: &mut Take<'_>) -> Result<Option<u64>, Malformed> {
    let (is_there, limit) = (take.u8()?, take.u64()?);
    Ok((is_there != 0).then_some(limit))
}

fn read(key: &[u8], value: &[u8]) -> Result<User, Malformed> {
    let mut take = Take(key);
    let name = take.name()?;
    take.end()?;
    let mut take = Take(value);
    take.version()?;
    let algorithm = *ALGORITHMS.get(usize::from(take.u8()?)).ok_or(Malformed)?;
    let secret = Secret::read_kept(algorithm, take_text(&mut take)?).map_err(|_| Malformed)?;
    let mut user = User::new(name, secret);
    for _ in 0..take.u16()? {
        user.tags.push(take_text(&mut take)?.to_owned());
    }
    user.limits = Limits { connections_max: take_limit(&mut take)?, channels_max: take_limit(&mut take)? };
    for _ in 0..take.u32()? {
        let vhost = take.name()?;
        let [configure, write, read] = [take_text(&mut take)?, take_text(&mut take)?, take_text(&mut take)?];
        let permissions = Permissions::new(configure, write, read).map_err(|_| Malformed)?;
        user.permissions.insert(vhost, permissions);
    }
    for _ in 0..take.u32()? {
        let (vhost, exchange) = (take.name()?, take.name()?);
        let (write, read) = (take_text(&mut take)?, take_text(&mut take)?);
        let permissions = TopicPermissions::new(write, read).map_err(|_| Malformed)?;
        user.topics.entry(vhost).or_default().insert(exchange, permissions);
    }
    take.end()?;
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_as_it_was_written_and_nothing_else_is() {
        let mut user = User::new(Name::from_static("u"), Secret::new(b"p").unwrap());
        user.tags = vec!["a".to_owned(), "b".to_owned()];
        user.limits.channels_max = Some(0);
        let vhost = Name::from_static("/");
        user.permissions.insert(vhost.clone(), Permissions::new("^a", "", ".*").unwrap());
        let topics = TopicPermissions::new("{username}", "^b").unwrap();
        user.topics.entry(vhost).or_default().insert(Name::from_static("t"), topics);
        let (key, value) = (key(&user.name), value(&user));
        let again = read(&key, &value).unwrap();
        assert_eq!((&again.name, &again.tags, again.limits), (&user.name, &user.tags, user.limits));
        assert_eq!((&again.permissions, &again.topics), (&user.permissions, &user.topics));
        assert_eq!(again.secret.text(), user.secret.text());
        assert!(again.secret.scram().is_some() && again.secret.scram() == user.secret.scram());
        assert!(again.secret.is(b"p"));
        for length in 0..value.len() {
            assert!(read(&key, &value[..length]).is_err(), "{length} of {} bytes", value.len());
        }
    }

    #[test]
    fn version_1_is_read_as_it_lies_in_stores() {
        let mut value = vec![1, 0, 48, 0];
        value.extend_from_slice(b"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR");
        value.extend_from_slice(b"\x01\0\x03\0ops\x01\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        value.extend_from_slice(b"\x01\0\0\0\x01/\x02\0^a\0\0\x02\0.*");
        value.extend_from_slice(b"\x01\0\0\0\x01/\x01t\x01\0w\x01\0r");
        let user = read(b"\x04rick", &value).unwrap();
        assert_eq!((user.name.as_bytes(), &user.tags[..]), (b"rick".as_slice(), &["ops".to_owned()][..]));
        assert_eq!((user.limits.connections_max, user.limits.channels_max), (Some(5), None));
        let Permissions { configure, write, read } = &user.permissions[&Name::from_static("/")];
        assert_eq!([configure, write, read].map(|pattern| pattern.text()), ["^a", "", ".*"]);
        let topics = &user.topics[&Name::from_static("/")][&Name::from_static("t")];
        assert_eq!([&topics.write, &topics.read].map(|pattern| pattern.text()), ["w", "r"]);
        assert!(user.secret.is(b"test12"), "a hash as RabbitMQ has it");
        assert_eq!(super::value(&user), value);
    }
}
