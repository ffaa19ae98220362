//! The messages of SCRAM (RFC 5802, section 7; with SHA-256: RFC 7677). What is computed of them is not here.
//!
//! ```text
//! client-first  gs2-header, "n=" user, ",r=" nonce, extensions?     gs2-header  "n,," | "y,," | "n,a=" user ","
//! server-first  "r=" nonce nonce', ",s=" base64 salt, ",i=" iterations
//! client-final  "c=" base64 gs2-header, ",r=" nonce nonce', extensions?, ",p=" base64 proof
//! server-final  "v=" base64 signature
//! ```

use super::base64;
use alloc::{format, string::String, vec::Vec};

/// Bytes of a proof and of a signature: those of a SHA-256.
pub const PROOF_BYTES: usize = 32;

/// What a client began with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst {
    gs2_header: Vec<u8>,
    /// Without the header.
    bare: Vec<u8>,
    nonce: Vec<u8>,
    pub(super) user: Vec<u8>,
}

impl ClientFirst {
    /// `None` if it makes no sense, asks for channel binding or mandatory extensions, or is to act as somebody else.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let mut parts = message.splitn(3, |octet| *octet == b',');
        let (flag, authzid, bare) = (parts.next()?, parts.next()?, parts.next()?);
        if !matches!(flag, b"n" | b"y") {
            return None;
        }
        let mut attributes = bare.split(|octet| *octet == b',');
        let user = unescape(attributes.next()?.strip_prefix(b"n=")?)?;
        let nonce = attributes.next()?.strip_prefix(b"r=")?;
        let is_other = match authzid.strip_prefix(b"a=") {
            Some(authzid) => unescape(authzid)? != user,
            None => !authzid.is_empty(),
        };
        if is_other || user.is_empty() || nonce.is_empty() || !nonce.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let gs2_header = message.get(..message.len() - bare.len())?.to_vec();
        Some(Self { gs2_header, bare: bare.to_vec(), nonce: nonce.to_vec(), user })
    }

    /// The server's answer. `nonce`: a text that nobody can guess, without commas.
    pub(super) fn answer(self, nonce: &str, salt: &[u8], iterations: u32) -> ServerFirst {
        let mut both = self.nonce;
        both.extend_from_slice(nonce.as_bytes());
        let mut message = b"r=".to_vec();
        message.extend_from_slice(&both);
        message.extend_from_slice(format!(",s={},i={iterations}", base64::encode(salt)).as_bytes());
        ServerFirst { gs2_header: self.gs2_header, client_first: self.bare, nonce: both, message }
    }
}

/// `=2C` is a comma and `=3D` an equals sign; neither stands for itself.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    core::str::from_utf8(text).ok()?;
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((octet, after)) = rest.split_first() {
        rest = after;
        if *octet != b'=' {
            plain.push(*octet);
        } else if let Some(after) = rest.strip_prefix(b"2C") {
            plain.push(b',');
            rest = after;
        } else {
            rest = rest.strip_prefix(b"3D")?;
            plain.push(b'=');
        }
    }
    Some(plain)
}

/// What the server asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerFirst {
    gs2_header: Vec<u8>,
    client_first: Vec<u8>,
    nonce: Vec<u8>,
    pub(super) message: Vec<u8>,
}

impl ServerFirst {
    /// What is to be verified of the client's answer: the text that both sides sign, and the proof. `None` if the
    /// answer makes no sense, or is one to another question.
    pub(super) fn read_final(&self, message: &[u8]) -> Option<(Vec<u8>, [u8; PROOF_BYTES])> {
        let proof_at = message.windows(3).rposition(|window| window == b",p=")?;
        let (without_proof, proof) = message.split_at_checked(proof_at)?;
        let proof = base64::decode(proof.get(3..)?)?;
        let mut attributes = without_proof.split(|octet| *octet == b',');
        let binding = base64::decode(attributes.next()?.strip_prefix(b"c=")?)?;
        let nonce = attributes.next()?.strip_prefix(b"r=")?;
        if binding != self.gs2_header || nonce != self.nonce {
            return None;
        }
        let signed = [&self.client_first[..], b",", &self.message, b",", without_proof].concat();
        Some((signed, proof.try_into().ok()?))
    }
}

/// The server's last word: its own signature, by which the client knows it.
pub(super) fn server_final(signature: &[u8; PROOF_BYTES]) -> String {
    format!("v={}", base64::encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_conversation_of_the_specification() {
        let first = ClientFirst::read(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(first.user, b"user");
        let salt = base64::decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let asked = first.answer("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", &salt, 4096);
        let server_first =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(asked.message, server_first.as_bytes());
        let without_proof = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let (signed, read) = asked.read_final(format!("{without_proof},p={proof}").as_bytes()).unwrap();
        let expected = format!("n=user,r=rOprNGfwEbeRWgbNEkqO,{server_first},{without_proof}");
        assert_eq!((&signed[..], &base64::encode(&read)[..]), (expected.as_bytes(), proof));
        let signature = base64::decode(b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
        let last = server_final(&signature.try_into().unwrap());
        assert_eq!(last, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn users_may_have_commas_and_equals_signs() {
        let user = |text: &str| {
            ClientFirst::read(format!("n,,n={text},r=abc,x=1").as_bytes()).map(|first| first.user)
        };
        assert_eq!(user("a=2Cb=3Dc").as_deref(), Some(&b"a,b=c"[..]));
        assert_eq!(user("h\u{e9}").as_deref(), Some("h\u{e9}".as_bytes()));
        for text in ["a=b", "a=2c", "a=3d", "=", "=2", ""] {
            assert_eq!(user(text), None, "{text}");
        }
    }

    #[test]
    fn beginnings_that_are_not_taken() {
        let taken =
            ["n,,n=u,r=n", "y,,n=u,r=n", "n,a=u,n=u,r=n", "n,a=a=2Cb,n=a=2Cb,r=n", "n,,n=u,r=n,ext=1"];
        for message in taken {
            assert!(ClientFirst::read(message.as_bytes()).is_some(), "{message}");
        }
        let refused = [
            "",
            "n",
            "n,,",
            "p=tls-unique,,n=u,r=n",
            "n,a=other,n=u,r=n",
            "n,other,n=u,r=n",
            "n,,m=ext,n=u,r=n",
            "n,,r=n,n=u",
            "n,,n=u",
            "n,,n=u,r=",
            "n,,n=u,r=a b",
            "x,,n=u,r=n",
        ];
        for message in refused {
            assert_eq!(ClientFirst::read(message.as_bytes()), None, "{message}");
        }
        assert_eq!(ClientFirst::read(b"n,,n=\xff,r=n"), None);
    }

    #[test]
    fn an_answer_is_to_the_question_that_was_asked() {
        let asked = ClientFirst::read(b"y,,n=u,r=abc").unwrap().answer("def", b"salt", 4096);
        let proof = base64::encode(&[7; PROOF_BYTES]);
        let binding = base64::encode(b"y,,");
        assert!(asked.read_final(format!("c={binding},r=abcdef,p={proof}").as_bytes()).is_some());
        assert!(asked.read_final(format!("c={binding},r=abcdef,ext=1,p={proof}").as_bytes()).is_some());
        let short = base64::encode(&[7; PROOF_BYTES - 1]);
        let refused = [
            format!("c=biws,r=abcdef,p={proof}"),
            format!("c={binding},r=abc,p={proof}"),
            format!("c={binding},r=abcdefg,p={proof}"),
            format!("r=abcdef,c={binding},p={proof}"),
            format!("c={binding},r=abcdef,p={short}"),
            format!("c={binding},r=abcdef,p="),
            format!("c={binding},r=abcdef,p=*"),
            format!("c={binding},r=abcdef"),
            String::new(),
        ];
        for message in refused {
            assert_eq!(asked.read_final(message.as_bytes()), None, "{message}");
        }
    }
}
