//! The server's side of a login (section 5.3).
//!
//! A caller that was given the protocol header of SASL does three things in turn:
//! 1. it gives what comes to [`Sasl::next`] until that yields no event;
//! 2. it answers events, at once or later: [`Sasl::authenticated`], [`Sasl::challenge`], [`Sasl::verified`],
//!    [`Sasl::refused`];
//! 3. it sends what is in [`Sasl::output`]. Once [`Sasl::is_over`], what comes next is the protocol header of AMQP, or
//!    nothing any more.
//!
//! ```text
//! Init -> (Response) -> Login* -> Over                 PLAIN, ANONYMOUS, EXTERNAL
//! Init -> (Response) -> Salt* -> Proof -> Verify* -> Over      SCRAM-SHA-256
//!                                       (* waits for the caller's answer, and reads nothing meanwhile)
//! ```
//! Nothing is verified here: whether a password is right, whom a certificate proves, what a proof has to be. For SCRAM
//! the caller is asked for the user's salt ([`Event::Salt`]) and then to check a proof ([`Event::Proof`]); the text that
//! was signed is put together here.
//!
//! A response that makes no sense is a failed login, as a wrong password is; a frame that makes no sense ends the
//! connection ([`SaslError`]).

mod base64;
mod scram;

pub use scram::PROOF_BYTES;

use crate::{
    composite::Symbols,
    frame::{self, FrameError, ProtocolId, SASL, put_sasl},
    security::{Challenge, Code, Mechanisms, Outcome, SaslFrame},
    types::{DecodeError, Symbol},
};
use alloc::{sync::Arc, vec::Vec};
use core::fmt;
use scram::{ClientFirst, ServerFirst};

/// The largest frame of SASL that is taken, in bytes. The specification says [`frame::FRAME_BYTES_MIN`]; tokens that
/// are given as passwords are longer.
pub const FRAME_BYTES_MAX: u32 = 8192;

/// How a client may say who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// User and password (RFC 4616).
    Plain,
    /// Nobody in particular (RFC 4505).
    Anonymous,
    /// Whom the transport has proved, as by a certificate (RFC 4422, appendix A).
    External,
    /// A proof that one knows the password (RFC 7677).
    ScramSha256,
}

impl Mechanism {
    const ALL: [Self; 4] = [Self::Plain, Self::Anonymous, Self::External, Self::ScramSha256];

    /// As it is named.
    #[must_use]
    pub const fn symbol(self) -> Symbol<'static> {
        match self {
            Self::Plain => const { Symbol::from_static("PLAIN") },
            Self::Anonymous => const { Symbol::from_static("ANONYMOUS") },
            Self::External => const { Symbol::from_static("EXTERNAL") },
            Self::ScramSha256 => const { Symbol::from_static("SCRAM-SHA-256") },
        }
    }
}

/// What the caller is asked.
#[derive(PartialEq, Eq)]
pub enum Event<'b> {
    /// Who the client says it is: [`Sasl::authenticated`] or [`Sasl::refused`].
    Login {
        /// How it said so.
        mechanism: Mechanism,
        /// The user. Empty for ANONYMOUS; for EXTERNAL whom it wants to be, empty if whoever was proved.
        user: &'b [u8],
        /// The password; empty but for PLAIN.
        password: &'b [u8],
        /// The host that it means, if it says so.
        hostname: Option<&'b str>,
    },
    /// A user will prove that it knows its password: [`Sasl::challenge`] or [`Sasl::refused`]. Whoever wants nobody to
    /// find out which users there are gives others a salt too, the same each time.
    Salt {
        /// The user.
        user: Vec<u8>,
        /// The host that it means, if it says so.
        hostname: Option<&'b str>,
    },
    /// The proof of the user of [`Event::Salt`]: [`Sasl::verified`] or [`Sasl::refused`]. With HMAC and H of SHA-256,
    /// it is right if `H(proof XOR HMAC(StoredKey, signed)) = StoredKey`.
    Proof {
        /// What both sides sign.
        signed: Vec<u8>,
        /// The proof.
        proof: [u8; PROOF_BYTES],
    },
    /// The login failed, and the outcome is put: send it, then drop the socket. Comes once.
    Failed,
}

/// Without what is secret.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, user): (_, &[u8]) = match self {
            Self::Login { user, .. } => ("Login", user),
            Self::Salt { user, .. } => ("Salt", user),
            Self::Proof { .. } => ("Proof", b""),
            Self::Failed => ("Failed", b""),
        };
        f.debug_struct(name)
            .field("user", &alloc::string::String::from_utf8_lossy(user))
            .finish_non_exhaustive()
    }
}

/// The client does not speak SASL; the connection is dropped, without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslError {
    /// There is no frame.
    Frame(FrameError),
    /// There is nothing of SASL in the frame.
    Decode(DecodeError),
    /// A frame that does not come here.
    Unexpected(&'static str),
}

impl From<FrameError> for SaslError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<DecodeError> for SaslError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl fmt::Display for SaslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Decode(error) => error.fmt(f),
            Self::Unexpected(name) => write!(f, "{name} does not come here"),
        }
    }
}

impl core::error::Error for SaslError {}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Init,
    /// What the mechanism begins with is still to come.
    Response(Mechanism),
    Login,
    Salt(ClientFirst),
    Proof(ServerFirst),
    Verify,
    Failing,
    Over {
        succeeded: bool,
    },
}

/// The server's side of one login.
#[derive(Debug)]
pub struct Sasl {
    offered: Arc<[Mechanism]>,
    phase: Phase,
    output: Vec<u8>,
}

impl Sasl {
    /// Of a client that began with the protocol header of SASL: puts the same, and the mechanisms, of which there is
    /// at least one; the preferred ones come first.
    #[must_use]
    pub fn new(offered: Arc<[Mechanism]>) -> Self {
        let symbols: Vec<Symbol<'_>> = offered.iter().map(|mechanism| mechanism.symbol()).collect();
        let mut output = ProtocolId::Sasl.header().to_vec();
        put_sasl(&mut output, &Mechanisms { sasl_server_mechanisms: Symbols::Slice(&symbols) });
        Self { offered, phase: Phase::Init, output }
    }

    /// Takes bytes from the front of `bytes`: how many, and the next event. Without an event it wants more bytes, or
    /// an answer, or it is over; what it did not take is to be given again, in front of what comes next.
    ///
    /// # Errors
    /// If they are not what a client may send here.
    pub fn next<'b>(&mut self, bytes: &'b [u8]) -> Result<(usize, Option<Event<'b>>), SaslError> {
        let mut consumed = 0;
        loop {
            match self.phase {
                Phase::Failing => {
                    self.phase = Phase::Over { succeeded: false };
                    return Ok((consumed, Some(Event::Failed)));
                }
                Phase::Init | Phase::Response(_) | Phase::Proof(_) => {}
                Phase::Login | Phase::Salt(_) | Phase::Verify | Phase::Over { .. } => {
                    return Ok((consumed, None));
                }
            }
            let rest = bytes.get(consumed..).unwrap_or_default();
            let Some(frame) = frame::split(rest, SASL, FRAME_BYTES_MAX)? else { return Ok((consumed, None)) };
            consumed += frame.length_bytes;
            if let Some(event) = self.on_frame(SaslFrame::from_body(frame.body)?)? {
                return Ok((consumed, Some(event)));
            }
        }
    }

    fn on_frame<'b>(&mut self, frame: SaslFrame<'b>) -> Result<Option<Event<'b>>, SaslError> {
        match (core::mem::replace(&mut self.phase, Phase::Failing), frame) {
            (Phase::Init, SaslFrame::Init(init)) => {
                let named = |mechanism: &Mechanism| mechanism.symbol() == init.mechanism;
                let chosen =
                    Mechanism::ALL.into_iter().find(named).filter(|chosen| self.offered.contains(chosen));
                let Some(mechanism) = chosen else {
                    self.fail(Code::Auth);
                    return Ok(None);
                };
                match init.initial_response {
                    Some(response) => Ok(self.on_response(mechanism, response, init.hostname)),
                    None if matches!(mechanism, Mechanism::Anonymous | Mechanism::External) => {
                        Ok(self.on_response(mechanism, &[], init.hostname))
                    }
                    None => {
                        put_sasl(&mut self.output, &Challenge { challenge: &[] });
                        self.phase = Phase::Response(mechanism);
                        Ok(None)
                    }
                }
            }
            (Phase::Response(mechanism), SaslFrame::Response(answer)) => {
                Ok(self.on_response(mechanism, answer.response, None))
            }
            (Phase::Proof(asked), SaslFrame::Response(answer)) => {
                let Some((signed, proof)) = asked.read_final(answer.response) else {
                    self.fail(Code::Auth);
                    return Ok(None);
                };
                self.phase = Phase::Verify;
                Ok(Some(Event::Proof { signed, proof }))
            }
            (_, frame) => {
                self.phase = Phase::Over { succeeded: false };
                Err(SaslError::Unexpected(frame.name()))
            }
        }
    }

    /// What a mechanism begins with.
    fn on_response<'b>(
        &mut self,
        mechanism: Mechanism,
        response: &'b [u8],
        hostname: Option<&'b str>,
    ) -> Option<Event<'b>> {
        self.phase = Phase::Login;
        let login = |user, password| Some(Event::Login { mechanism, user, password, hostname });
        match mechanism {
            Mechanism::Anonymous => return login(&[], &[]),
            Mechanism::External => return login(response, &[]),
            Mechanism::Plain => {
                if let Some((user, password)) = read_plain(response) {
                    return login(user, password);
                }
            }
            Mechanism::ScramSha256 => {
                if let Some(first) = ClientFirst::read(response) {
                    let user = first.user.clone();
                    self.phase = Phase::Salt(first);
                    return Some(Event::Salt { user, hostname });
                }
            }
        }
        self.fail(Code::Auth);
        None
    }

    /// The answer to [`Event::Login`] if the claim is right. Nothing happens if that is not what is waited for.
    pub fn authenticated(&mut self) {
        if self.phase == Phase::Login {
            self.succeed(None);
        }
    }

    /// The answer to [`Event::Salt`]. `nonce`: bytes that nobody can guess, at least 18 of them; `salt` and
    /// `iterations` are the user's. Nothing happens if that is not what is waited for.
    pub fn challenge(&mut self, nonce: &[u8], salt: &[u8], iterations: u32) {
        self.phase = match core::mem::replace(&mut self.phase, Phase::Failing) {
            Phase::Salt(first) => {
                let asked = first.answer(&base64::encode(nonce), salt, iterations);
                put_sasl(&mut self.output, &Challenge { challenge: &asked.message });
                Phase::Proof(asked)
            }
            other => other,
        };
    }

    /// The answer to [`Event::Proof`] if it is right. `signature`: `HMAC(ServerKey, signed)`; it goes with the outcome.
    /// Nothing happens if that is not what is waited for.
    pub fn verified(&mut self, signature: &[u8; PROOF_BYTES]) {
        if self.phase == Phase::Verify {
            self.succeed(Some(scram::server_final(signature).as_bytes()));
        }
    }

    /// The answer to any event if somebody is not let in, or cannot be now; [`Code::Ok`] counts as [`Code::Auth`]. The
    /// caller should wait a moment before it sends this. Nothing happens once it was answered.
    pub fn refused(&mut self, code: Code) {
        if matches!(self.phase, Phase::Login | Phase::Salt(_) | Phase::Verify) {
            self.fail(if code == Code::Ok { Code::Auth } else { code });
        }
    }

    fn fail(&mut self, code: Code) {
        put_sasl(&mut self.output, &Outcome { code, additional_data: None });
        self.phase = Phase::Failing;
    }

    fn succeed(&mut self, additional_data: Option<&[u8]>) {
        put_sasl(&mut self.output, &Outcome { code: Code::Ok, additional_data });
        self.phase = Phase::Over { succeeded: true };
    }

    /// The bytes for the socket. The caller takes them out.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether nothing of SASL comes any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over { .. })
    }

    /// Whether it is over and somebody is let in.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.phase == Phase::Over { succeeded: true }
    }
}

/// `authzid NUL user NUL password`, where the first is nothing or the user.
fn read_plain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = response.split(|octet| *octet == 0);
    let (authzid, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    let is_whole = parts.next().is_none() && !user.is_empty() && (authzid.is_empty() || authzid == user);
    is_whole.then_some((user, password))
}
