//! What the listener is encrypted with.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::authorities::Authorities;
use crate::config::{TlsFiles, read_public, read_secret};

/// No file of certificates or of a key is longer.
pub(super) const LONGEST: u64 = 256 * 1024;

/// Why the listener cannot be encrypted.
#[derive(Debug, thiserror::Error)]
#[error("metrics.{key} {file}: {what}")]
pub struct TlsError {
    key: &'static str,
    file: String,
    what: String,
}

impl TlsError {
    pub(super) fn new(key: &'static str, file: &Path, what: impl ToString) -> Self {
        Self { key, file: file.display().to_string(), what: what.to_string() }
    }
}

/// Reads certificate and key, and whose certificates are those of administrators.
pub(super) fn server(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let of_certificate = |what: &dyn ToString| TlsError::new("tls_cert", &files.certificate, what.to_string());
    let of_key = |what: &dyn ToString| TlsError::new("tls_key", &files.key, what.to_string());
    let pem = read_public(&files.certificate, LONGEST).map_err(|error| of_certificate(&error))?;
    let chain = certificates(&pem).map_err(|what| of_certificate(&what))?;
    let key = read_secret(&files.key, LONGEST).map_err(|error| of_key(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| of_key(&error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| of_certificate(&error))?;
    let config = match &files.client_authorities {
        Some(file) => config.with_client_cert_verifier(Authorities::read(file)?.verifier),
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_single_cert(chain, key).map_err(|error| of_key(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if files.client_authorities.is_some() {
        // A session that is resumed would outlive the certificate that was shown as it began.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// At least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| error.to_string())?;
    if all.is_empty() {
        return Err("there is no certificate in it: it has to be PEM".to_owned());
    }
    Ok(all)
}
