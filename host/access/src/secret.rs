//! How a user's password is known: never itself, always a hash with salt.
//!
//! New passwords get Argon2id (RFC 9106) with 19 MiB and two passes, the least that OWASP recommends today: some
//! 13 ms of one processor, which is much for whoever tries passwords, and little for whoever logs in, since a
//! password that was right is remembered under a key of this process until the user's password changes. The three
//! algorithms of RabbitMQ are read too, for users that come from there; they are quick, so a password that matters
//! should be set anew.

use crate::ScramKeys;
use argon2::{
    Argon2, Params,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::Digest as _;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256, Sha512};
use std::{fmt, str::FromStr, sync::OnceLock};
use subtle::ConstantTimeEq as _;

/// The memory of a new hash, in KiB.
const MEMORY_KIB: u32 = 19 * 1024;
/// How often a new hash goes through it.
const PASSES: u32 = 2;
/// The salt of a new hash, in bytes.
const SALT_BYTES: usize = 16;
/// The most memory that a hash from elsewhere may take, in KiB.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// The most passes that a hash from elsewhere may take, and lanes.
const PASSES_MAX: u32 = 16;
/// The salt of RabbitMQ's hashes, in bytes.
const RABBITMQ_SALT_BYTES: usize = 4;
/// The longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// How a password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RabbitMQ's usual one: four bytes of salt, then SHA-256 of salt and password.
    Sha256,
    /// The same with SHA-512.
    Sha512,
    /// The same with MD5.
    Md5,
    /// Argon2id, as a text `$argon2id$v=19$m=…`.
    Argon2id,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sha256, Self::Sha512, Self::Md5, Self::Argon2id];

    /// As RabbitMQ's HTTP API and definitions name it; `argon2id`, which it does not have.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "rabbit_password_hashing_sha256",
            Self::Sha512 => "rabbit_password_hashing_sha512",
            Self::Md5 => "rabbit_password_hashing_md5",
            Self::Argon2id => "argon2id",
        }
    }
}

impl FromStr for Algorithm {
    type Err = SecretError;

    /// With RabbitMQ's prefix or without.
    fn from_str(text: &str) -> Result<Self, SecretError> {
        let short = text.strip_prefix("rabbit_password_hashing_").unwrap_or(text);
        let is_named =
            |algorithm: &Self| algorithm.name().trim_start_matches("rabbit_password_hashing_") == short;
        Self::ALL.into_iter().find(is_named).ok_or_else(|| SecretError::Algorithm(text.to_owned()))
    }
}

/// Why something is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretError {
    /// No such algorithm.
    Algorithm(String),
    /// The hash is not what the algorithm makes, in words.
    Hash(String),
    /// A password of more than [`PASSWORD_BYTES_MAX`] bytes.
    TooLong,
    /// The system gives no random bytes or no memory.
    System(String),
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Algorithm(name) => {
                write!(f, "hashing algorithm {name:?} is none of sha256, sha512, md5 and argon2id")
            }
            Self::Hash(why) => f.write_str(why),
            Self::TooLong => write!(f, "a password has at most {PASSWORD_BYTES_MAX} bytes"),
            Self::System(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for SecretError {}

/// What a password is compared with.
pub struct Secret {
    kind: Kind,
    /// For logins by SCRAM, if the password was known when it was set.
    scram: Option<ScramKeys>,
    /// The digest, under this process's key, of the password that was right.
    remembered: Mutex<Option<[u8; 32]>>,
}

enum Kind {
    /// No password is right.
    None,
    /// Salt and hash, one after the other.
    Salted(Algorithm, Box<[u8]>),
    Argon2id(Box<str>),
}

impl Secret {
    fn of(kind: Kind) -> Self {
        Self { kind, scram: None, remembered: Mutex::new(None) }
    }

    /// The one that no password matches: for users that log in otherwise, or not at all.
    #[must_use]
    pub fn none() -> Self {
        Self::of(Kind::None)
    }

    /// Of a new password: hashes it, some 13 ms of one processor and 19 MiB, and makes its keys of SCRAM, some 70 ms. The
    /// empty password is none.
    ///
    /// # Errors
    /// A password that is too long; no random bytes, no memory.
    pub fn new(password: &[u8]) -> Result<Self, SecretError> {
        let hashed = Self::hashed(password)?;
        if hashed.is_none() { Ok(hashed) } else { Ok(hashed.with_scram(ScramKeys::new(password)?)) }
    }

    /// The same without keys of SCRAM.
    pub(crate) fn hashed(password: &[u8]) -> Result<Self, SecretError> {
        if password.is_empty() {
            return Ok(Self::none());
        }
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(SecretError::TooLong);
        }
        let system = |error: &dyn fmt::Display| SecretError::System(error.to_string());
        let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|error| system(&error))?;
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| system(&error))?;
        let hash =
            Argon2::from(params).hash_password_with_salt(password, &salt).map_err(|error| system(&error))?;
        let secret = Self::of(Kind::Argon2id(hash.to_string().into()));
        // Whoever made it has shown that the password is right.
        *secret.remembered.lock() = digest(password);
        Ok(secret)
    }

    /// Hashes a password as RabbitMQ does, for whoever gives the hash to RabbitMQ or to this broker.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn for_rabbitmq(password: &[u8]) -> Result<Self, SecretError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(SecretError::TooLong);
        }
        let mut salt = [0; RABBITMQ_SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| SecretError::System(error.to_string()))?;
        let mut bytes = salt.to_vec();
        bytes.extend_from_slice(&Sha256::new().chain_update(salt).chain_update(password).finalize());
        Ok(Self::of(Kind::Salted(Algorithm::Sha256, bytes.into())))
    }

    /// Reads a hash from its text: base64 for RabbitMQ's algorithms. The empty text is [`Self::none`].
    ///
    /// # Errors
    /// [`SecretError::Hash`].
    pub fn read(algorithm: Algorithm, text: &str) -> Result<Self, SecretError> {
        if text.is_empty() {
            return Ok(Self::none());
        }
        let length = match algorithm {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
            Algorithm::Md5 => 16,
            Algorithm::Argon2id => {
                return check_argon2id(text).map(|()| Self::of(Kind::Argon2id(text.into())));
            }
        };
        let wrong = || {
            let name = algorithm.name();
            SecretError::Hash(format!(
                "a password hash of {name} is the base64 of {RABBITMQ_SALT_BYTES} bytes of salt and {length} of hash"
            ))
        };
        let bytes = STANDARD.decode(text).map_err(|_| wrong())?;
        if bytes.len() != RABBITMQ_SALT_BYTES + length {
            return Err(wrong());
        }
        Ok(Self::of(Kind::Salted(algorithm, bytes.into())))
    }

    /// Whether no password is right.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self.kind, Kind::None)
    }

    /// The same with keys of SCRAM.
    #[must_use]
    pub fn with_scram(self, keys: ScramKeys) -> Self {
        Self { scram: Some(keys), ..self }
    }

    /// Its keys of SCRAM, if there are any.
    #[must_use]
    pub fn scram(&self) -> Option<&ScramKeys> {
        self.scram.as_ref()
    }

    /// All that is to be kept of it, in one text: the hash, and behind a space the keys of SCRAM.
    #[must_use]
    pub fn kept(&self) -> String {
        let mut text = self.text();
        if let Some(keys) = &self.scram {
            text.push(' ');
            text.push_str(&keys.text());
        }
        text
    }

    /// Reads what [`Self::kept`] gave.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn read_kept(algorithm: Algorithm, text: &str) -> Result<Self, SecretError> {
        let Some((hash, keys)) = text.split_once(' ') else { return Self::read(algorithm, text) };
        let keys = ScramKeys::read(keys).ok_or_else(|| SecretError::Hash("no keys of SCRAM".to_owned()))?;
        Ok(Self::read(algorithm, hash)?.with_scram(keys))
    }

    /// Its algorithm; RabbitMQ's usual one where there is no password, as RabbitMQ shows it.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match &self.kind {
            Kind::None => Algorithm::Sha256,
            Kind::Salted(algorithm, _) => *algorithm,
            Kind::Argon2id(_) => Algorithm::Argon2id,
        }
    }

    /// The hash as [`Self::read`] reads it.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.kind {
            Kind::None => String::new(),
            Kind::Salted(_, bytes) => STANDARD.encode(bytes),
            Kind::Argon2id(text) => text.to_string(),
        }
    }

    /// Whether a password is right, if that can be said at once: it was right before, there is none, or the hash is
    /// a quick one.
    #[must_use]
    pub fn knows(&self, password: &[u8]) -> Option<bool> {
        match &self.kind {
            Kind::None => Some(false),
            _ if password.is_empty() || password.len() > PASSWORD_BYTES_MAX => Some(false),
            Kind::Salted(algorithm, bytes) => Some(is_salted(*algorithm, bytes, password)),
            Kind::Argon2id(_) => {
                let remembered = (*self.remembered.lock())?;
                let given = digest(password)?;
                bool::from(remembered.ct_eq(&given)).then_some(true)
            }
        }
    }

    /// Whether a password is right. May take as long as its hash.
    #[must_use]
    pub fn is(&self, password: &[u8]) -> bool {
        if let Some(known) = self.knows(password) {
            return known;
        }
        let Kind::Argon2id(text) = &self.kind else { return false };
        let Ok(hash) = PasswordHash::new(text) else { return false };
        let is_right = Argon2::default().verify_password(password, &hash).is_ok();
        if is_right {
            *self.remembered.lock() = digest(password);
        }
        is_right
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.algorithm().name())
    }
}

/// Of a password under a key that nobody but this process has; none where the system gave no key.
fn digest(password: &[u8]) -> Option<[u8; 32]> {
    static KEY: OnceLock<Option<[u8; 32]>> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let mut key = [0; 32];
        getrandom::fill(&mut key).is_ok().then_some(key)
    });
    key.as_ref().map(|key| Sha256::new().chain_update(key).chain_update(password).finalize().into())
}

fn is_salted(algorithm: Algorithm, bytes: &[u8], password: &[u8]) -> bool {
    let Some((salt, hash)) = bytes.split_at_checked(RABBITMQ_SALT_BYTES) else { return false };
    let given: Box<[u8]> = match algorithm {
        Algorithm::Sha512 => (*Sha512::new().chain_update(salt).chain_update(password).finalize()).into(),
        Algorithm::Md5 => {
            let mut md5 = md5::Md5::new();
            md5::Digest::update(&mut md5, salt);
            md5::Digest::update(&mut md5, password);
            md5::Digest::finalize(md5).to_vec().into()
        }
        Algorithm::Sha256 | Algorithm::Argon2id => {
            (*Sha256::new().chain_update(salt).chain_update(password).finalize()).into()
        }
    };
    given.ct_eq(hash).into()
}

/// Whether it is a hash of Argon2id that this machine should be asked to make again.
fn check_argon2id(text: &str) -> Result<(), SecretError> {
    let wrong = |why: &dyn fmt::Display| SecretError::Hash(format!("no hash of Argon2id: {why}"));
    let hash = PasswordHash::new(text).map_err(|error| wrong(&error))?;
    if hash.algorithm.as_str() != "argon2id" || hash.salt.is_none() || hash.hash.is_none() {
        return Err(wrong(&"it must begin with $argon2id$ and have parameters, salt and hash"));
    }
    let params = Params::try_from(&hash).map_err(|error| wrong(&error))?;
    if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > PASSES_MAX || params.p_cost() > PASSES_MAX {
        return Err(wrong(&format!("more than m={MEMORY_KIB_MAX}, t={PASSES_MAX} or p={PASSES_MAX}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by RabbitMQ 4.3.6 of the password `p`.
    const RABBITMQ: &str = "wuB4hQeerJGkG3bNwV+1ZpH/94+MHmTBrR3ebOd0IBAYB5T9";

    #[test]
    fn hashes_of_rabbitmq_are_read() {
        let secret = Secret::read(Algorithm::Sha256, RABBITMQ).unwrap();
        assert_eq!((secret.is(b"p"), secret.is(b"q"), secret.is(b"")), (true, false, false));
        assert_eq!((secret.text(), secret.algorithm()), (RABBITMQ.to_owned(), Algorithm::Sha256));
        for algorithm in [Algorithm::Sha512, Algorithm::Md5, Algorithm::Argon2id] {
            assert!(Secret::read(algorithm, RABBITMQ).is_err(), "{algorithm:?}");
        }
        assert!(Secret::read(Algorithm::Sha256, "!!").is_err());
        assert_eq!("rabbit_password_hashing_md5".parse(), Ok(Algorithm::Md5));
        assert_eq!("sha512".parse(), Ok(Algorithm::Sha512));
        assert!("crypt".parse::<Algorithm>().is_err());
    }

    #[test]
    fn the_other_algorithms_of_rabbitmq_are_salt_and_hash_too() {
        // printf '\1\2\3\4p' | md5sum
        let md5 = [
            1, 2, 3, 4, 0x29, 0x02, 0xb2, 0x47, 0x95, 0xb4, 0xd8, 0x47, 0xe8, 0x35, 0xd3, 0x8b, 0x1a, 0x3d,
            0x87, 0xce,
        ];
        let secret = Secret::read(Algorithm::Md5, &STANDARD.encode(md5)).unwrap();
        assert_eq!((secret.is(b"p"), secret.is(b"P")), (true, false));
        let sha512 = Sha512::digest(b"\x01\x02\x03\x04p");
        let text = STANDARD.encode([&[1, 2, 3, 4][..], &sha512[..]].concat());
        let secret = Secret::read(Algorithm::Sha512, &text).unwrap();
        assert_eq!((secret.is(b"p"), secret.is(b"P")), (true, false));
    }

    #[test]
    fn a_new_one_is_argon2id_and_remembers_the_right_password_alone() {
        let made = Secret::new(b"secret").unwrap();
        assert_eq!(made.algorithm(), Algorithm::Argon2id);
        let read = Secret::read(Algorithm::Argon2id, &made.text()).unwrap();
        assert_eq!(read.knows(b"secret"), None);
        assert!(!read.is(b"Secret"));
        assert_eq!(read.knows(b"secret"), None);
        assert!(read.is(b"secret"));
        assert_eq!((read.knows(b"secret"), read.knows(b"other")), (Some(true), None));
        assert_ne!(made.text(), Secret::new(b"secret").unwrap().text());
    }

    #[test]
    fn no_password_matches_where_there_is_none() {
        let empty = Secret::new(b"").unwrap();
        assert_eq!((empty.is(b""), empty.is(b"x"), empty.text()), (false, false, String::new()));
        assert_eq!(Secret::new(&[b'a'; PASSWORD_BYTES_MAX + 1]).unwrap_err(), SecretError::TooLong);
        let hashed_empty = Secret::for_rabbitmq(b"").unwrap();
        assert!(!hashed_empty.is(b""));
    }

    #[test]
    fn a_hash_that_costs_too_much_is_not_read() {
        let text = Secret::new(b"x").unwrap().text();
        let dear = text.replace("m=19456", "m=1048576");
        assert_ne!(dear, text);
        assert!(matches!(Secret::read(Algorithm::Argon2id, &dear), Err(SecretError::Hash(_))));
    }
}
