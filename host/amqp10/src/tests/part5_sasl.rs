//! Part 5, section 5.3.2: the negotiation of SASL.

use super::hex;
use crate::{
    composite::{Composite, Symbols},
    frame::{FrameError, ProtocolId, SASL, put_frame, put_sasl, split},
    sasl::{Event, FRAME_BYTES_MAX, Mechanism, PROOF_BYTES, Sasl, SaslError},
    security::{Challenge, Code, Init, Mechanisms, Outcome, Response, SaslFrame},
    types::{DecodeError, Symbol},
};
use alloc::{format, string::String, vec, vec::Vec};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

const ALL: [Mechanism; 4] =
    [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::External, Mechanism::Anonymous];

/// A server that has greeted; what it said is gone.
fn server() -> Sasl {
    let mut sasl = Sasl::new(ALL.into());
    sasl.output().clear();
    sasl
}

fn frame<'a>(frame: &impl Composite<'a>) -> Vec<u8> {
    let mut out = Vec::new();
    put_sasl(&mut out, frame);
    out
}

fn init(mechanism: &str, initial_response: Option<&[u8]>) -> Vec<u8> {
    let mechanism = Symbol::new(mechanism).unwrap();
    frame(&Init { mechanism, initial_response, hostname: Some("vhost:v") })
}

/// What the server said since it was asked the last time.
fn said<R>(sasl: &mut Sasl, then: impl FnOnce(&[SaslFrame<'_>]) -> R) -> R {
    let output = core::mem::take(sasl.output());
    let (mut rest, mut frames) = (&output[..], Vec::new());
    while let Some(frame) = split(rest, SASL, FRAME_BYTES_MAX).unwrap() {
        frames.push(SaslFrame::from_body(frame.body).unwrap());
        rest = &rest[frame.length_bytes..];
    }
    assert!(rest.is_empty());
    then(&frames)
}

fn outcome(sasl: &mut Sasl) -> Option<Code> {
    said(sasl, |frames| match frames {
        [] => None,
        [SaslFrame::Outcome(outcome)] => Some(outcome.code),
        other => panic!("{other:?}"),
    })
}

#[test]
fn the_server_begins_with_its_mechanisms() {
    let mut sasl = Sasl::new(ALL.into());
    let output = core::mem::take(sasl.output());
    let (header, frames) = output.split_at(8);
    assert_eq!(header, ProtocolId::Sasl.header());
    let frame = split(frames, SASL, 512).unwrap().unwrap();
    assert_eq!((frame.channel, frame.length_bytes), (0, frames.len()));
    let names = ["SCRAM-SHA-256", "PLAIN", "EXTERNAL", "ANONYMOUS"].map(Symbol::from_static);
    let mechanisms = Mechanisms { sasl_server_mechanisms: Symbols::Slice(&names) };
    assert_eq!(SaslFrame::from_body(frame.body), Ok(mechanisms.into()));
    assert_eq!(sasl.next(&[]), Ok((0, None)));
    assert!(!sasl.is_over() && !sasl.has_succeeded());
}

// RFC 4616 PLAIN, RFC 4505 ANONYMOUS, RFC 4422 EXTERNAL

#[test]
fn a_claim_is_handed_over_and_nothing_is_read_until_it_is_answered() {
    type Case = (&'static str, Option<&'static [u8]>, Mechanism, &'static [u8], &'static [u8]);
    let cases: [Case; 7] = [
        ("PLAIN", Some(b"\0user\0pass"), Mechanism::Plain, b"user", b"pass"),
        ("PLAIN", Some(b"user\0user\0pass"), Mechanism::Plain, b"user", b"pass"),
        ("PLAIN", Some(b"\0user\0"), Mechanism::Plain, b"user", b""),
        ("ANONYMOUS", Some(b"trace"), Mechanism::Anonymous, b"", b""),
        ("ANONYMOUS", None, Mechanism::Anonymous, b"", b""),
        ("EXTERNAL", Some(b"somebody"), Mechanism::External, b"somebody", b""),
        ("EXTERNAL", None, Mechanism::External, b"", b""),
    ];
    for (name, response, mechanism, user, password) in cases {
        // The client does not wait: what comes after the login follows at once.
        let mut bytes = init(name, response);
        let took = bytes.len();
        bytes.extend(ProtocolId::Amqp.header());
        let mut sasl = server();
        for end in 0..took {
            assert_eq!(sasl.next(&bytes[..end]), Ok((0, None)));
        }
        let login = Event::Login { mechanism, user, password, hostname: Some("vhost:v") };
        assert_eq!(sasl.next(&bytes), Ok((took, Some(login))), "{name}");
        assert_eq!(sasl.next(&bytes[took..]), Ok((0, None)));
        assert_eq!(outcome(&mut sasl), None);
        sasl.authenticated();
        assert_eq!(outcome(&mut sasl), Some(Code::Ok));
        assert!(sasl.is_over() && sasl.has_succeeded());
        assert_eq!(sasl.next(&bytes[took..]), Ok((0, None)), "the header of AMQP is not taken");
        sasl.refused(Code::Auth);
        sasl.authenticated();
        assert_eq!(outcome(&mut sasl), None, "it was answered");
    }
}

#[test]
fn whoever_is_refused_is_told_and_that_is_all() {
    for (code, told) in [
        (Code::Auth, Code::Auth),
        (Code::Sys, Code::Sys),
        (Code::SysPerm, Code::SysPerm),
        (Code::SysTemp, Code::SysTemp),
        (Code::Ok, Code::Auth),
    ] {
        let mut sasl = server();
        let bytes = init("PLAIN", Some(b"\0user\0wrong"));
        assert!(matches!(sasl.next(&bytes), Ok((_, Some(Event::Login { .. })))));
        sasl.verified(&[0; PROOF_BYTES]);
        assert_eq!(outcome(&mut sasl), None, "that was not asked");
        sasl.refused(code);
        assert_eq!(outcome(&mut sasl), Some(told));
        assert!(!sasl.is_over());
        assert_eq!(sasl.next(&bytes), Ok((0, Some(Event::Failed))));
        assert!(sasl.is_over() && !sasl.has_succeeded());
        assert_eq!(sasl.next(&bytes), Ok((0, None)));
    }
}

#[test]
fn a_response_that_makes_no_sense_is_a_failed_login() {
    let cases: [(&str, &[u8]); 12] = [
        ("PLAIN", b""),
        ("PLAIN", b"user"),
        ("PLAIN", b"\0user"),
        ("PLAIN", b"\0\0pass"),
        ("PLAIN", b"other\0user\0pass"),
        ("PLAIN", b"\0user\0pass\0more"),
        ("SCRAM-SHA-256", b""),
        ("SCRAM-SHA-256", b"n,,n=u"),
        ("SCRAM-SHA-1", b"n,,n=u,r=n"),
        ("plain", b"\0user\0pass"),
        ("GSSAPI", b""),
        ("", b""),
    ];
    for (mechanism, response) in cases {
        let mut sasl = server();
        let bytes = init(mechanism, Some(response));
        assert_eq!(sasl.next(&bytes), Ok((bytes.len(), Some(Event::Failed))), "{mechanism} {response:?}");
        assert_eq!(outcome(&mut sasl), Some(Code::Auth));
        assert!(sasl.is_over());
    }
    // What is not offered is not taken.
    let mut sasl = Sasl::new([Mechanism::External].into());
    sasl.output().clear();
    let bytes = init("PLAIN", Some(b"\0user\0pass"));
    assert_eq!(sasl.next(&bytes), Ok((bytes.len(), Some(Event::Failed))));
}

#[test]
fn a_response_that_does_not_come_with_the_init_is_asked_for() {
    let mut sasl = server();
    let mut bytes = init("PLAIN", None);
    assert_eq!(sasl.next(&bytes), Ok((bytes.len(), None)));
    said(&mut sasl, |frames| assert_eq!(frames, [Challenge { challenge: b"" }.into()]));
    bytes = frame(&Response { response: b"\0user\0pass" });
    let login =
        Event::Login { mechanism: Mechanism::Plain, user: b"user", password: b"pass", hostname: None };
    assert_eq!(sasl.next(&bytes), Ok((bytes.len(), Some(login))));
}

#[test]
fn what_is_no_frame_of_a_client_ends_it() {
    let unexpected = |bytes: Vec<u8>, error: SaslError| {
        let mut sasl = server();
        assert_eq!(sasl.next(&bytes), Err(error));
        assert_eq!(outcome(&mut sasl), None, "nothing is said");
    };
    let mut of_amqp = Vec::new();
    put_frame(&mut of_amqp, 0, 0, |out| out.extend(hex("00 53 18 45")));
    unexpected(of_amqp, SaslError::Frame(FrameError::Kind(0)));
    let too_large = FrameError::TooLarge { bytes: FRAME_BYTES_MAX + 1, bytes_max: FRAME_BYTES_MAX };
    unexpected((FRAME_BYTES_MAX + 1).to_be_bytes().to_vec(), SaslError::Frame(too_large));
    let mut empty = Vec::new();
    put_frame(&mut empty, SASL, 0, |_| ());
    unexpected(empty, SaslError::Decode(DecodeError::Truncated));
    unexpected(frame(&Response { response: b"" }), SaslError::Unexpected("amqp:sasl-response:list"));
    unexpected(frame(&Challenge { challenge: b"" }), SaslError::Unexpected("amqp:sasl-challenge:list"));
    unexpected(frame(&Outcome::default()), SaslError::Unexpected("amqp:sasl-outcome:list"));
    let mut sasl = server();
    let twice = [init("PLAIN", None), init("PLAIN", None)].concat();
    assert_eq!(sasl.next(&twice), Err(SaslError::Unexpected("amqp:sasl-init:list")));
    assert!(sasl.is_over() && !sasl.has_succeeded());
}

// RFC 5802 and RFC 7677: SCRAM-SHA-256

fn hmac(key: &[u8], message: &[u8]) -> [u8; PROOF_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn xor(one: [u8; PROOF_BYTES], other: [u8; PROOF_BYTES]) -> [u8; PROOF_BYTES] {
    core::array::from_fn(|place| one[place] ^ other[place])
}

/// `Hi` of the specification: PBKDF2.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> [u8; PROOF_BYTES] {
    let mut block = hmac(password, &[salt, &[0, 0, 0, 1]].concat());
    let mut result = block;
    for _ in 1..iterations {
        block = hmac(password, &block);
        result = xor(result, block);
    }
    result
}

/// What is needed of base64 to play the client.
fn base64(bytes: &[u8]) -> String {
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let digits =
        bits.chunks(6).map(|six| (0..6).fold(0, |all, bit| all << 1 | six.get(bit).copied().unwrap_or(0)));
    let mut text: String = digits.map(|digit| alphabet[usize::from(digit)]).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// A client that knows `known`, where the password is `password`: what comes of it, and what the server signs.
fn play_scram(password: &[u8], known: &[u8]) -> (Option<Code>, bool) {
    const SALT: &[u8] = b"salt of the user";
    const ITERATIONS: u32 = 10;
    let mut sasl = server();
    let first = "n=us=3Der,r=clientnonce";
    let bytes = init("SCRAM-SHA-256", Some(format!("n,,{first}").as_bytes()));
    let salt = Event::Salt { user: b"us=er".to_vec(), hostname: Some("vhost:v") };
    assert_eq!(sasl.next(&bytes), Ok((bytes.len(), Some(salt))));
    sasl.challenge(b"server nonce bytes", SALT, ITERATIONS);
    let asked = said(&mut sasl, |frames| match frames {
        [SaslFrame::Challenge(challenge)] => String::from_utf8(challenge.challenge.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    });
    let nonce = format!("clientnonce{}", base64(b"server nonce bytes"));
    assert_eq!(asked, format!("r={nonce},s={},i={ITERATIONS}", base64(SALT)));
    let without_proof = format!("c={},r={nonce}", base64(b"n,,"));
    let signed_by_client = format!("{first},{asked},{without_proof}");
    let client_key = hmac(&salted(known, SALT, ITERATIONS), b"Client Key");
    let stored_of_client: [u8; PROOF_BYTES] = Sha256::digest(client_key).into();
    let proof = xor(client_key, hmac(&stored_of_client, signed_by_client.as_bytes()));
    let answer = format!("{without_proof},p={}", base64(&proof));
    let bytes = frame(&Response { response: answer.as_bytes() });
    let Ok((_, Some(Event::Proof { signed, proof }))) = sasl.next(&bytes) else { panic!("no proof") };
    assert_eq!(signed, signed_by_client.as_bytes());
    // What the port does.
    let of_password = salted(password, SALT, ITERATIONS);
    let stored: [u8; PROOF_BYTES] = Sha256::digest(hmac(&of_password, b"Client Key")).into();
    let key = xor(proof, hmac(&stored, &signed));
    let signature = hmac(&hmac(&of_password, b"Server Key"), &signed);
    if Sha256::digest(key)[..] == stored {
        sasl.verified(&signature);
    } else {
        sasl.refused(Code::Auth);
    }
    let is_server = said(&mut sasl, |frames| match frames {
        [SaslFrame::Outcome(outcome)] => {
            let expected = format!("v={}", base64(&signature)).into_bytes();
            (Some(outcome.code), outcome.additional_data == Some(&expected[..]))
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(sasl.has_succeeded(), is_server.0 == Some(Code::Ok));
    is_server
}

#[test]
fn a_client_proves_that_it_knows_the_password_and_so_does_the_server() {
    assert_eq!(play_scram(b"pencil", b"pencil"), (Some(Code::Ok), true));
    assert_eq!(play_scram(b"pencil", b"pencils"), (Some(Code::Auth), false));
}

#[test]
fn a_user_without_a_salt_and_an_answer_that_makes_no_sense_are_refused() {
    let bytes = init("SCRAM-SHA-256", Some(b"n,,n=u,r=abc"));
    let mut sasl = server();
    assert!(matches!(sasl.next(&bytes), Ok((_, Some(Event::Salt { .. })))));
    sasl.refused(Code::Auth);
    assert_eq!(outcome(&mut sasl), Some(Code::Auth));
    let mut sasl = server();
    sasl.challenge(b"nonce", b"salt", 1);
    assert_eq!(outcome(&mut sasl), None, "nobody asked");
    assert!(matches!(sasl.next(&bytes), Ok((_, Some(Event::Salt { .. })))));
    sasl.authenticated();
    assert_eq!(outcome(&mut sasl), None, "that is no answer");
    sasl.challenge(b"nonce", b"salt", 1);
    said(&mut sasl, |frames| assert_eq!(frames.len(), 1));
    let answer = frame(&Response { response: b"c=biws,r=abc,p=" });
    assert_eq!(sasl.next(&answer), Ok((answer.len(), Some(Event::Failed))));
    assert_eq!(outcome(&mut sasl), Some(Code::Auth));
}

#[test]
fn passwords_and_proofs_are_not_shown() {
    let login =
        Event::Login { mechanism: Mechanism::Plain, user: b"me", password: b"secret", hostname: None };
    let proof = Event::Proof { signed: vec![b's'; 3], proof: [b'p'; PROOF_BYTES] };
    let text = format!("{login:?} {proof:?}");
    assert!(text.contains("me") && !text.contains("secret") && !text.contains("112"), "{text}");
}
