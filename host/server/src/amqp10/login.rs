//! Logging in (section 5.3): claims go to the room that knows users.

use super::Connection;
use crate::connection::LoginCheck;
use leveret_access::{Claim, login::Outcome};
use leveret_amqp10::{
    sasl::{self, Mechanism, PROOF_BYTES},
    security::Code,
};
use std::sync::Arc;

/// Bytes of the broker's part of a nonce.
const NONCE_BYTES: usize = 24;

/// How far a login is.
#[derive(Default)]
pub(super) struct Login {
    /// The check of a password that is waited for.
    check: Option<Arc<LoginCheck>>,
    /// Who is to prove that it knows its password.
    proving: Vec<u8>,
    /// How the client logs in.
    pub(super) mechanism: &'static str,
}

impl Connection {
    pub(super) fn on_sasl(&mut self, event: sasl::Event<'_>) {
        match event {
            sasl::Event::Login { mechanism, user, password, .. } => self.on_claim(mechanism, user, password),
            sasl::Event::Salt { user, .. } => self.on_salt(user),
            sasl::Event::Proof { signed, proof } => self.on_proof(&signed, &proof),
            sasl::Event::Failed => {}
        }
    }

    fn on_claim(&mut self, mechanism: Mechanism, user: &[u8], password: &[u8]) {
        let proved = self.proved.as_deref().unwrap_or_default();
        self.login.mechanism = mechanism.symbol().as_str();
        let (claim, named) = match mechanism {
            Mechanism::Plain => (Claim::Password { user, password }, user),
            Mechanism::Anonymous => (Claim::Anonymous, &b"ANONYMOUS"[..]),
            // Nobody's name is empty. Whoever wants to be somebody else is nobody.
            Mechanism::External if user.is_empty() || user == proved => {
                (Claim::Proved { user: proved }, proved)
            }
            Mechanism::External | Mechanism::ScramSha256 => (Claim::Proved { user: b"" }, user),
        };
        let check = LoginCheck::new(named, &self.wake);
        let told = check.clone();
        match self.shared.access.authenticate(claim, self.peer, move |outcome| told.tell(outcome)) {
            Some(outcome) => self.logged_in(check.user(), outcome),
            None => self.login.check = Some(check),
        }
    }

    /// A user wants to log in by SCRAM: it is told its salt, whether there is such a user or not.
    fn on_salt(&mut self, user: Vec<u8>) {
        self.login.mechanism = Mechanism::ScramSha256.symbol().as_str();
        let salt = self.shared.access.scram_salt(&user);
        self.login.proving = user;
        let mut nonce = [0; NONCE_BYTES];
        if getrandom::fill(&mut nonce).is_err() {
            return self.refuse_login(Code::SysTemp);
        }
        if let Some(sasl) = self.protocol.sasl() {
            sasl.challenge(&nonce, &salt.salt, salt.iterations);
        }
    }

    /// The proof of that user.
    fn on_proof(&mut self, signed: &[u8], proof: &[u8; PROOF_BYTES]) {
        let user = std::mem::take(&mut self.login.proving);
        match self.shared.access.prove(&user, (signed, proof), self.peer) {
            Ok((identity, signature)) => {
                self.identity = Some(identity);
                if let Some(sasl) = self.protocol.sasl() {
                    sasl.verified(&signature);
                }
            }
            Err(why) => self.logged_in(&String::from_utf8_lossy(&user), Err(why)),
        }
    }

    /// Goes on with a login whose password was checked.
    pub(super) fn finish_login(&mut self) {
        let Some(outcome) = self.login.check.as_ref().and_then(|check| check.take()) else { return };
        if let Some(check) = self.login.check.take() {
            self.logged_in(check.user(), outcome);
        }
    }

    fn logged_in(&mut self, user: &str, outcome: Outcome) {
        match outcome {
            Ok(identity) => {
                self.identity = Some(identity);
                if let Some(sasl) = self.protocol.sasl() {
                    sasl.authenticated();
                }
            }
            Err(why) => {
                tracing::warn!("log-in of '{user}' from {} refused: {why}", self.peer);
                self.refuse_login(Code::Auth);
            }
        }
    }

    fn refuse_login(&mut self, code: Code) {
        if let Some(sasl) = self.protocol.sasl() {
            sasl.refused(code);
        }
    }
}
