//! 5.3: SCRAM-SHA-256 (RFC 5802, RFC 7677), where every user that has a password can log in so.

use super::{
    Peer,
    part5_security::mechanisms,
    peer::{awaited, open},
};
use leveret_amqp10::{
    frame::{self, ProtocolId},
    security::{Init, Response, SaslFrame},
    types::Symbol,
};
use leveret_testkit::{Broker, ScratchDirectory};
use ring::{digest, hmac, pbkdf2};
use std::{fs, num::NonZeroU32};

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
/// In base64: `n,,`.
const BINDING: &str = "biws";

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().chain([&0, &0]).take(3).fold(0, |word, byte| word << 8 | usize::from(*byte));
        for place in 0..4 {
            let digit = char::from(ALPHABET[word >> (18 - 6 * place) & 63]);
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in text.as_bytes().chunks(4) {
        let digit = |byte: &u8| ALPHABET.iter().position(|other| other == byte).unwrap_or(0);
        let word = chunk.iter().fold(0, |word, byte| word << 6 | digit(byte));
        let count = 3 - chunk.iter().filter(|byte| **byte == b'=').count();
        bytes.extend((0..count).map(|place| (word >> (16 - 8 * place)) as u8));
    }
    bytes
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

/// What came of a login.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: u8,
    /// The salt and the iterations that were told.
    salt: String,
    /// The broker's signature is right.
    signed: bool,
}

/// The client's side.
fn log_in(peer: &mut Peer, user: &str, password: &str) -> Outcome {
    assert!(mechanisms(peer).contains(&"SCRAM-SHA-256".to_owned()));
    let first = format!("n={user},r={NONCE}");
    let response = format!("n,,{first}");
    let mechanism = Symbol::from_static("SCRAM-SHA-256");
    let init = Init { mechanism, initial_response: Some(response.as_bytes()), ..Init::default() };
    let mut out = Vec::new();
    frame::put_sasl(&mut out, &init);
    peer.send(&out);
    let asked = peer.sasl(|frame| match frame {
        SaslFrame::Challenge(it) => String::from_utf8(it.challenge.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    });
    let mut parts = asked.split(',').map(|part| &part[2..]);
    let (nonce, salt, iterations) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    assert!(nonce.starts_with(NONCE) && nonce.len() > NONCE.len() + 18);
    let rounds: NonZeroU32 = iterations.parse().unwrap();
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &decode(salt), password.as_bytes(), &mut salted);
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let last = format!("c={BINDING},r={nonce}");
    let both = format!("{first},{asked},{last}");
    let signature = sign(stored_key.as_ref(), both.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, it)| key ^ it).collect();
    let response = format!("{last},p={}", encode(&proof));
    out.clear();
    frame::put_sasl(&mut out, &Response { response: response.as_bytes() });
    peer.send(&out);
    let expected = format!("v={}", encode(&sign(&sign(&salted, b"Server Key"), both.as_bytes())));
    peer.sasl(|frame| match frame {
        SaslFrame::Outcome(it) => Outcome {
            code: it.code as u8,
            salt: format!("{salt} {iterations}"),
            signed: it.additional_data == Some(expected.as_bytes()),
        },
        other => panic!("{other:?}"),
    })
}

/// Who knows the password is let in, and the broker proves that it knows it too; all others are told the same, with a salt
/// that is the same each time, also after a restart.
#[test]
fn who_proves_to_know_the_password_is_let_in() {
    let broker = Broker::start(env!("CARGO_BIN_EXE_leveret"));
    let mut salts = Vec::new();
    let attempt = |broker: &Broker, user: &str, password: &str| {
        let mut peer = Peer::connect(broker.address());
        let outcome = log_in(&mut peer, user, password);
        if outcome.code == 0 {
            peer.send(&ProtocolId::Amqp.header());
            assert_eq!(peer.take(8), ProtocolId::Amqp.header());
            peer.say(0, &open());
            awaited!(peer, Open);
            peer.expect_alive();
        } else {
            peer.expect_end();
        }
        outcome
    };
    let right = attempt(&broker, "guest", "guest");
    assert_eq!((right.code, right.signed), (0, true));
    for (user, password) in [("guest", "wrong"), ("nobody", "guest"), ("nobody", "guest"), ("none", "guest")]
    {
        let wrong = attempt(&broker, user, password);
        assert_eq!((wrong.code, wrong.signed), (1, false), "{user}");
        salts.push(wrong.salt);
    }
    assert_eq!((&salts[0], &salts[1]), (&right.salt, &salts[2]));
    assert!(salts[1] != salts[3] && salts[1].len() == right.salt.len());
    let broker = broker.stop_for_a_while().start();
    assert_eq!(attempt(&broker, "guest", "guest"), right);
    assert_eq!(attempt(&broker, "nobody", "guest").salt, salts[1]);
}

/// A user whose hash alone is known could not log in so; clients choose before the broker knows who they are.
#[test]
fn it_is_not_offered_where_a_hash_alone_is_known() {
    let folder = ScratchDirectory::new("scram");
    let file = folder.path().join("leveret.toml");
    // The password `p`, hashed by RabbitMQ.
    let hash = "wuB4hQeerJGkG3bNwV+1ZpH/94+MHmTBrR3ebOd0IBAYB5T9";
    fs::write(&file, format!("[users.a]\npassword-hash = \"{hash}\"\n[users.b]\npassword = \"b\"\n"))
        .unwrap();
    let broker = Broker::builder(env!("CARGO_BIN_EXE_leveret")).argument("--config").argument(&file).start();
    let mut peer = Peer::connect(broker.address());
    assert!(!mechanisms(&mut peer).contains(&"SCRAM-SHA-256".to_owned()));
    let mut peer = Peer::connect(broker.address());
    assert_eq!(peer.log_in(b"\0a\0p"), 0);
}
