//! TLS for AMQP and HTTP: certificates from PEM files, which are read anew when they change, and who a client's certificate says
//! that it is.
//!
//! Versions 1.2 and 1.3, by rustls with the cryptography of ring. What a connection began with it keeps.

mod reload;
mod secured;
pub mod stream;

pub use reload::Reload;
pub use secured::{Secured, Shown};

use anyhow::{Context, bail};
use parking_lot::RwLock;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use x509_cert::{
    Certificate,
    der::{
        Decode as _,
        asn1::{PrintableStringRef, Utf8StringRef},
        oid::{AssociatedOid as _, ObjectIdentifier},
    },
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// `commonName` of a subject.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Which clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificates {
    /// None is asked for.
    #[default]
    None,
    /// Who shows one must show a good one.
    Optional,
    /// All, else there is no connection.
    Required,
}

/// What of a client's certificate is the user's name (EXTERNAL).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LoginFrom {
    /// The common name of its subject.
    #[default]
    CommonName,
    /// The first alternative name that is a name of the DNS.
    Dns,
    /// The first that is an address of mail.
    Email,
    /// The first that is a URI.
    Uri,
}

/// How TLS is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Where; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The broker's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of clients' certificates.
    pub authorities: Option<PathBuf>,
    /// What these have revoked.
    pub revoked: Option<PathBuf>,
    /// Which clients show one.
    pub clients: ClientCertificates,
    /// Which part of that is the user's name.
    pub login_from: LoginFrom,
}

/// What new connections begin with.
pub struct Tls {
    settings: TlsSettings,
    configs: RwLock<Configs>,
}

/// The same certificate for both.
#[derive(Clone)]
struct Configs {
    amqp: Arc<ServerConfig>,
    /// Clients are asked for no certificate there: they log in by each request.
    http: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, or they do not go together.
    pub fn open(settings: TlsSettings) -> anyhow::Result<Self> {
        let configs = RwLock::new(read(&settings)?);
        Ok(Self { settings, configs })
    }

    /// How it is served.
    #[must_use]
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// How it is for AMQP now.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.configs.read().amqp.clone()
    }

    /// How it is for HTTP now.
    #[must_use]
    pub fn http_config(&self) -> Arc<ServerConfig> {
        self.configs.read().http.clone()
    }

    /// Reads the files anew; what was read before holds where that fails.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn reload(&self) -> anyhow::Result<()> {
        let configs = read(&self.settings)?;
        *self.configs.write() = configs;
        Ok(())
    }

    /// The user's name in a client's certificate that was verified; `None` if it has no such part.
    #[must_use]
    pub fn user_of(&self, certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
        user_of(certificate, self.settings.login_from)
    }
}

fn read(settings: &TlsSettings) -> anyhow::Result<Configs> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match (settings.clients, &settings.authorities) {
        (ClientCertificates::None, _) => None,
        (clients, Some(file)) => Some(verifier((file, settings.revoked.as_deref()), clients, &provider)?),
        (_, None) => bail!("tls-ca is needed to verify the certificates of clients"),
    };
    let amqp = Arc::new(config(settings, verifier, &provider)?);
    let mut http = config(settings, None, &provider)?;
    http.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Configs { amqp, http: Arc::new(http) })
}

fn config(
    settings: &TlsSettings,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> anyhow::Result<ServerConfig> {
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let chain = certificates(&settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key);
    let key = key.with_context(|| format!("no private key in {}", settings.key.display()))?;
    builder.with_single_cert(chain, key).with_context(|| {
        format!("certificate {} and key {}", settings.certificate.display(), settings.key.display())
    })
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let whole = || format!("certificates in {}", file.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).with_context(whole)?.collect();
    let chain = chain.with_context(whole)?;
    if chain.is_empty() {
        bail!("no certificate in {}", file.display());
    }
    Ok(chain)
}

/// The lists in a file, one for each authority mostly.
fn revocations(file: &Path) -> anyhow::Result<Vec<CertificateRevocationListDer<'static>>> {
    let whole = || format!("revocation lists in {}", file.display());
    let lists: Result<Vec<_>, _> =
        CertificateRevocationListDer::pem_file_iter(file).with_context(whole)?.collect();
    let lists = lists.with_context(whole)?;
    if lists.is_empty() {
        bail!("no revocation list in {}", file.display());
    }
    Ok(lists)
}

/// With revocation lists a certificate is good where one of them speaks for its issuer, and does not name it; so it is
/// for all between it and the authority.
fn verifier(
    (file, revoked): (&Path, Option<&Path>),
    clients: ClientCertificates,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).with_context(|| format!("an authority in {}", file.display()))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if let Some(file) = revoked {
        builder = builder.with_crls(revocations(file)?);
    }
    let builder =
        if clients == ClientCertificates::Required { builder } else { builder.allow_unauthenticated() };
    builder.build().context("tls-ca and tls-crl")
}

fn user_of(certificate: &[u8], login_from: LoginFrom) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(certificate).ok()?.tbs_certificate;
    if login_from == LoginFrom::CommonName {
        let mut attributes = certificate.subject.0.iter().flat_map(|names| names.0.iter());
        let value = &attributes.find(|attribute| attribute.oid == COMMON_NAME)?.value;
        let utf8 = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_bytes().to_vec());
        return utf8
            .or_else(|_| value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_bytes().to_vec()))
            .ok();
    }
    let mut extensions = certificate.extensions.iter().flatten();
    let names = extensions.find(|extension| extension.extn_id == SubjectAltName::OID)?;
    let names = SubjectAltName::from_der(names.extn_value.as_bytes()).ok()?;
    names.0.iter().find_map(|name| match (name, login_from) {
        (GeneralName::DnsName(name), LoginFrom::Dns)
        | (GeneralName::Rfc822Name(name), LoginFrom::Email)
        | (GeneralName::UniformResourceIdentifier(name), LoginFrom::Uri) => Some(name.as_bytes().to_vec()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    #[test]
    fn the_users_name_is_the_part_that_was_chosen() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["d.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "o");
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.subject_alt_names.push(SanType::Rfc822Name("a@example.org".try_into().unwrap()));
        params.subject_alt_names.push(SanType::URI("urn:a".try_into().unwrap()));
        let certificate = params.self_signed(&key).unwrap();
        let user = |from| user_of(certificate.der(), from).map(|user| String::from_utf8(user).unwrap());
        assert_eq!(user(LoginFrom::CommonName).as_deref(), Some("alice"));
        assert_eq!(user(LoginFrom::Dns).as_deref(), Some("d.example"));
        assert_eq!(user(LoginFrom::Email).as_deref(), Some("a@example.org"));
        assert_eq!(user(LoginFrom::Uri).as_deref(), Some("urn:a"));
        let mut bare = CertificateParams::default();
        bare.distinguished_name = rcgen::DistinguishedName::new();
        let certificate = bare.self_signed(&key).unwrap();
        for from in [LoginFrom::CommonName, LoginFrom::Dns, LoginFrom::Email, LoginFrom::Uri] {
            assert_eq!(user_of(certificate.der(), from), None);
        }
        assert_eq!(user_of(b"no certificate", LoginFrom::CommonName), None);
    }
}
