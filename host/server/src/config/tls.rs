//! How TLS is served, and what goes together there.

use super::{Settings, TLS_LISTEN_DEFAULT};
use crate::tls::{ClientCertificates, TlsSettings};
use anyhow::bail;

/// TLS is served where there is a certificate.
pub(super) fn tls(settings: &Settings) -> anyhow::Result<Option<TlsSettings>> {
    let (certificate, key) = match (&settings.tls_certificate, &settings.tls_key) {
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        (None, None) => {
            let is_said = settings.tls_listen.is_some()
                || settings.https_listen.is_some()
                || settings.tls_ca.is_some()
                || settings.tls_crl.is_some()
                || settings.tls_clients.is_some();
            if is_said {
                bail!("TLS needs tls-certificate and tls-key");
            }
            return Ok(None);
        }
        (Some(_), None) => bail!("tls-certificate needs tls-key"),
        (None, Some(_)) => bail!("tls-key needs tls-certificate"),
    };
    let clients = settings.tls_clients.unwrap_or_default();
    if clients != ClientCertificates::None && settings.tls_ca.is_none() {
        bail!("tls-clients needs tls-ca, the authorities of their certificates");
    }
    if settings.tls_crl.is_some() && clients == ClientCertificates::None {
        bail!("tls-crl needs tls-clients: it is about certificates that clients show");
    }
    Ok(Some(TlsSettings {
        listen: settings.tls_listen.unwrap_or(TLS_LISTEN_DEFAULT),
        certificate,
        key,
        authorities: settings.tls_ca.clone(),
        revoked: settings.tls_crl.clone(),
        clients,
        login_from: settings.tls_login_from.unwrap_or_default(),
    }))
}
