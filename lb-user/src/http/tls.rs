//! What the listener is encrypted with.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{SecretError, TlsFiles, read_secret};

/// No file of a certificate or key is longer.
const LONGEST: u64 = 256 * 1024;

/// Why the listener cannot be encrypted.
#[derive(Debug, thiserror::Error)]
#[error("metrics.{key} {file}: {what}")]
pub struct TlsError {
    key: &'static str,
    file: String,
    what: String,
}

impl TlsError {
    fn new(key: &'static str, file: &Path, what: impl ToString) -> Self {
        Self { key, file: file.display().to_string(), what: what.to_string() }
    }
}

/// Reads certificate and key.
pub(super) fn server(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let of_certificate = |what: &dyn ToString| TlsError::new("tls_cert", &files.certificate, what.to_string());
    let of_key = |what: &dyn ToString| TlsError::new("tls_key", &files.key, what.to_string());
    let pem = std::fs::read(&files.certificate).map_err(|error| of_certificate(&error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| of_certificate(&error))?;
    if chain.is_empty() {
        return Err(of_certificate(&"there is no certificate in it: it has to be PEM"));
    }
    let key = read_secret(&files.key, LONGEST).map_err(|error: SecretError| of_key(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| of_key(&error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| of_certificate(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config = config.map_err(|error| of_key(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
