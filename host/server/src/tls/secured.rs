//! What TLS came to on a connection, for people to look at, in the words of RabbitMQ, which are Erlang's.

use rustls::{CipherSuite, ProtocolVersion, ServerConnection};
use x509_cert::{Certificate, der::Decode as _};

/// What was negotiated, and which certificate the client showed. What is empty here has no such word there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secured {
    /// The version.
    pub protocol: &'static str,
    /// How both came to a key; `any` where the version leaves no choice.
    pub key_exchange: &'static str,
    /// What is encrypted with that key, and how.
    pub cipher: &'static str,
    /// What makes sure that it is not changed: `aead`, the cipher does.
    pub hash: &'static str,
    /// The client's certificate.
    pub certificate: Option<Shown>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whose it is, as RFC 4514 has it.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// From when to when it counts.
    pub validity: String,
}

impl Secured {
    /// Of a connection whose negotiation is over.
    #[must_use]
    pub fn of(connection: &ServerConnection) -> Self {
        let protocol = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "tlsv1.3",
            Some(ProtocolVersion::TLSv1_2) => "tlsv1.2",
            _ => "",
        };
        let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
        let (key_exchange, cipher) = suite.map(words).unwrap_or_default();
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        Self {
            protocol,
            key_exchange,
            cipher,
            hash: if cipher.is_empty() { "" } else { "aead" },
            certificate: certificate.and_then(|certificate| Shown::read(certificate)),
        }
    }
}

/// How keys are come by, and the cipher, of what is negotiated here.
fn words(suite: CipherSuite) -> (&'static str, &'static str) {
    const AES_128: &str = "aes_128_gcm";
    const AES_256: &str = "aes_256_gcm";
    const CHACHA20: &str = "chacha20_poly1305";
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => ("any", AES_128),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => ("any", AES_256),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => ("any", CHACHA20),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => ("ecdhe_ecdsa", AES_128),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => ("ecdhe_ecdsa", AES_256),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => ("ecdhe_ecdsa", CHACHA20),
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => ("ecdhe_rsa", AES_128),
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => ("ecdhe_rsa", AES_256),
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => ("ecdhe_rsa", CHACHA20),
        _ => ("", ""),
    }
}

impl Shown {
    fn read(certificate: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?.tbs_certificate;
        let (from, to) = (certificate.validity.not_before, certificate.validity.not_after);
        Some(Self {
            subject: certificate.subject.to_string(),
            issuer: certificate.issuer.to_string(),
            validity: format!("{} - {}", from.to_date_time(), to.to_date_time()),
        })
    }
}
