//! What a login by SCRAM-SHA-256 (RFC 5802, RFC 7677) needs of a user: keys that are made of the password and do not tell
//! it. A client proves that it knows the password, and the broker that it knows the keys, without the password going over
//! the wire.
//!
//! The keys are made when a password is set. Of users whose hash alone is known there are none, and nobody logs in as
//! one of them so. To try a password by keys takes more processor time than by the hash of Argon2id and much less memory, so whoever
//! has stolen both goes by the keys. A password is taken as its bytes: SASLprep (RFC 4013) would change none that is ASCII.

use crate::{Access, Identity, SecretError, login::LoginFailure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2};
use std::{fmt, net::IpAddr, num::NonZeroU32};
use subtle::ConstantTimeEq as _;

/// How often new keys go through the hash: some 70 ms of one processor, here once and at each client that logs in.
pub const ITERATIONS: u32 = 50_000;
/// The most that are taken from a text.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Bytes of a key, a proof and a signature.
pub const KEY_BYTES: usize = 32;
/// Bytes of a new salt.
pub const SALT_BYTES: usize = 16;
/// Begins the text of keys.
const NAME: &str = "SCRAM-SHA-256";

type Key = [u8; KEY_BYTES];

/// The keys of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    salt: Box<[u8]>,
    iterations: NonZeroU32,
    stored_key: Key,
    server_key: Key,
}

impl ScramKeys {
    /// Of a new password.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(password: &[u8]) -> Result<Self, SecretError> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| SecretError::System(error.to_string()))?;
        Ok(Self::derive(password, &salt, NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN)))
    }

    /// Of a password, with that salt and so many iterations (RFC 5802, section 3).
    #[must_use]
    pub fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
        let client_key = sign(&salted, b"Client Key");
        Self {
            salt: salt.into(),
            iterations,
            stored_key: hash(&client_key),
            server_key: sign(&salted, b"Server Key"),
        }
    }

    /// Reads what [`Self::text`] wrote; `None` if it is something else.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(['$', ':']);
        let mut part = || parts.next();
        let (name, iterations, salt) = (part()?, part()?, part()?);
        let (stored_key, server_key) = (part()?, part()?);
        let iterations =
            iterations.parse().ok().filter(|iterations: &NonZeroU32| iterations.get() <= ITERATIONS_MAX);
        let key = |text: &str| Key::try_from(STANDARD.decode(text).ok()?).ok();
        let is_whole = name == NAME && part().is_none();
        is_whole.then_some(Self {
            salt: STANDARD.decode(salt).ok()?.into(),
            iterations: iterations?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, the last three in base64, as PostgreSQL writes it.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { salt, iterations, stored_key, server_key } = self;
        let [salt, stored_key, server_key] =
            [&salt[..], stored_key, server_key].map(|it| STANDARD.encode(it));
        format!("{NAME}${iterations}:{salt}${stored_key}:{server_key}")
    }

    /// Judges the proof of a client over what both sides sign; the broker's signature if it is right.
    #[must_use]
    pub fn verify(&self, signed: &[u8], proof: &Key) -> Option<Key> {
        let mut client_key = sign(&self.stored_key, signed);
        client_key.iter_mut().zip(proof).for_each(|(octet, proof)| *octet ^= proof);
        let is_right = bool::from(hash(&client_key).ct_eq(&self.stored_key));
        is_right.then(|| sign(&self.server_key, signed))
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

fn sign(key: &[u8], text: &[u8]) -> Key {
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    signature.as_ref().try_into().unwrap_or_default()
}

fn hash(key: &Key) -> Key {
    digest::digest(&digest::SHA256, key).as_ref().try_into().unwrap_or_default()
}

/// What a client is told that wants to log in by SCRAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramSalt {
    /// The salt of the user.
    pub salt: Vec<u8>,
    /// How often the password goes through the hash.
    pub iterations: u32,
}

impl Access {
    /// The salt of a user. One that is not there, or has no keys, has a salt too, the same each time while the broker's
    /// key is the same: so nobody finds out which users there are.
    #[must_use]
    pub fn scram_salt(&self, user: &[u8]) -> ScramSalt {
        let user_now = self.user(user);
        match user_now.as_ref().and_then(|user| user.secret.scram()) {
            Some(keys) => ScramSalt { salt: keys.salt.to_vec(), iterations: keys.iterations.get() },
            None => {
                let mut salt = sign(&self.settings().salt_key, user).to_vec();
                salt.truncate(SALT_BYTES);
                ScramSalt { salt, iterations: ITERATIONS }
            }
        }
    }

    /// Judges the proof of a user from `peer`. With the identity comes the broker's signature, for the client.
    ///
    /// # Errors
    /// As for a wrong password, also if there is no such user or it has no keys.
    pub fn prove(
        &self,
        user: &[u8],
        (signed, proof): (&[u8], &Key),
        peer: IpAddr,
    ) -> Result<(Identity, Key), LoginFailure> {
        let user = self.user(user).ok_or(LoginFailure::Refused)?;
        let keys = user.secret.scram().ok_or(LoginFailure::Refused)?;
        let signature = keys.verify(signed, proof).ok_or(LoginFailure::Refused)?;
        self.admit(user.clone(), peer).map(|identity| (identity, signature))
    }

    /// Whether SCRAM is offered: all users that have a password can log in so, and there is one. Clients choose a
    /// mechanism before the broker knows who they are, and prefer this one to the password itself; whose hash alone is
    /// known could not log in any more with such a client.
    #[must_use]
    pub fn offers_scram(&self) -> bool {
        self.all_users(|users| {
            let mut with_passwords = users.filter(|user| !user.secret.is_none()).peekable();
            with_passwords.peek().is_some() && with_passwords.all(|user| user.secret.scram().is_some())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Secret, Settings, User};
    use leveret_model::Name;
    use std::{net::Ipv4Addr, sync::Arc};

    fn bytes(text: &str) -> Vec<u8> {
        STANDARD.decode(text).unwrap()
    }

    /// The example of RFC 7677, section 3: user `user`, password `pencil`.
    fn example() -> (ScramKeys, &'static [u8], Key) {
        let iterations = NonZeroU32::new(4096).unwrap();
        let keys = ScramKeys::derive(b"pencil", &bytes("W22ZaJ0SNY7soEsUEjb6gQ=="), iterations);
        let signed = b"n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = bytes("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").try_into().unwrap();
        (keys, signed, proof)
    }

    #[test]
    fn the_conversation_of_the_specification() {
        let (keys, signed, proof) = example();
        let signature = keys.verify(signed, &proof).unwrap();
        assert_eq!(STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        for place in 0..KEY_BYTES {
            let mut wrong = proof;
            wrong[place] ^= 1;
            assert_eq!(keys.verify(signed, &wrong), None);
        }
        assert_eq!(keys.verify(&signed[1..], &proof), None);
    }

    #[test]
    fn keys_are_read_as_they_were_written_and_nothing_else_is() {
        let (keys, ..) = example();
        let text = keys.text();
        assert!(text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"), "{text}");
        assert_eq!(ScramKeys::read(&text), Some(keys));
        for wrong in [
            "",
            "SCRAM-SHA-256",
            &text[1..],
            &text[..text.len() - 5],
            &format!("{text}:"),
            &text.replace("4096", "0"),
        ] {
            assert_eq!(ScramKeys::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_proof_is_judged_by_the_keys_of_the_user_and_nobody_learns_who_there_is() {
        let (keys, signed, proof) = example();
        let secret = Secret::read(crate::Algorithm::Sha256, "").unwrap().with_scram(keys);
        let user = |name, secret| User::new(Name::from_static(name), secret);
        let users = [user("user", secret), user("hashed", Secret::none())];
        let settings = Settings { salt_key: [7; KEY_BYTES], ..Settings::default() };
        let access = Access::new(settings, users, [], Arc::new(crate::Nowhere)).unwrap();
        let peer = Ipv4Addr::LOCALHOST.into();
        let salt = access.scram_salt(b"user");
        assert_eq!(
            (STANDARD.encode(salt.salt).as_str(), salt.iterations),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", 4096)
        );
        let (identity, _) = access.prove(b"user", (signed, &proof), peer).unwrap();
        assert_eq!(identity.name().as_bytes(), b"user");
        for other in [&b"hashed"[..], b"nobody"] {
            assert_eq!(access.prove(other, (signed, &proof), peer).unwrap_err(), LoginFailure::Refused);
            let told = access.scram_salt(other);
            assert_eq!((told.salt.len(), told.iterations), (SALT_BYTES, ITERATIONS));
            assert_eq!(access.scram_salt(other), told, "the same each time");
            assert_ne!(access.scram_salt(b"another"), told);
        }
        let wrong = access.prove(b"user", (signed, &[0; KEY_BYTES]), peer);
        assert_eq!(wrong.unwrap_err(), LoginFailure::Refused);
    }

    #[test]
    fn it_is_offered_where_every_password_has_keys() {
        let hashed = || Secret::read(crate::Algorithm::Argon2id, &Secret::new(b"p").unwrap().text()).unwrap();
        let offers = |secrets: Vec<Secret>| {
            let user = |(number, secret)| User::new(Name::cut(format!("u{number}").as_bytes()), secret);
            let users: Vec<_> = secrets.into_iter().enumerate().map(user).collect();
            Access::new(Settings::default(), users, [], Arc::new(crate::Nowhere)).unwrap().offers_scram()
        };
        assert!(!offers(vec![]) && !offers(vec![Secret::none()]) && !offers(vec![hashed()]));
        assert!(offers(vec![Secret::new(b"p").unwrap(), Secret::none()]));
        assert!(!offers(vec![Secret::new(b"p").unwrap(), hashed()]));
    }

    #[test]
    fn a_new_password_has_keys_and_a_hash_alone_has_none() {
        let made = Secret::new(b"secret").unwrap();
        let keys = made.scram().unwrap();
        let again = ScramKeys::derive(b"secret", &keys.salt, keys.iterations);
        assert_eq!((keys, keys.iterations.get()), (&again, ITERATIONS));
        let kept = Secret::read_kept(made.algorithm(), &made.kept()).unwrap();
        assert_eq!((kept.scram(), kept.text()), (made.scram(), made.text()));
        assert!(kept.is(b"secret"));
        let hashed = Secret::read(made.algorithm(), &made.text()).unwrap();
        assert_eq!((hashed.scram(), hashed.kept()), (None, made.text()));
    }
}
