//! Whose certificates are those of administrators: authorities, and lists of what they have revoked.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::tls::{LONGEST, TlsError, certificates};
use crate::config::read_trusted;

/// Characters of a name.
const LONGEST_NAME: usize = 80;

/// What the file of authorities says.
#[derive(Debug)]
pub struct Authorities {
    /// Their certificates, at least one.
    pub certificates: Vec<CertificateDer<'static>>,
    /// What they have revoked: each list is one that is looked into.
    pub lists: Vec<RevocationList>,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
}

/// A list of revoked certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    /// Whose it is.
    pub issuer: String,
    /// When there should be another, in seconds since the Unix epoch.
    pub next_update: Option<u64>,
}

impl Authorities {
    /// Reads the file, which only its owner may be able to write.
    ///
    /// # Errors
    /// What is wrong with it, or why a list in it would not do what it is there for.
    pub fn read(file: &Path) -> Result<Self, TlsError> {
        Self::try_read(file).map_err(|what| TlsError::new("tls_client_ca", file, what))
    }

    fn try_read(file: &Path) -> Result<Self, String> {
        let pem = read_trusted(file, LONGEST).map_err(|error| error.to_string())?;
        let certificates = certificates(pem.as_bytes())?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| error.to_string())?;
        }
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()).collect();
        let revoked = lists.map_err(|error| error.to_string())?;
        let lists = verified(&certificates, &revoked)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
            .with_crls(revoked)
            .only_check_end_entity_revocation()
            // Not every authority has a list.
            .allow_unknown_revocation_status()
            .allow_unauthenticated()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { certificates, lists, verifier })
    }
}

/// The lists, if each will be looked into. The library takes the first of a certificate's issuer, and looks at its signature only
/// as somebody shows a certificate.
fn verified(
    certificates: &[CertificateDer<'_>], lists: &[CertificateRevocationListDer<'_>],
) -> Result<Vec<RevocationList>, String> {
    let authorities = certificates.iter().map(|der| X509Certificate::from_der(der));
    let authorities: Result<Vec<_>, _> = authorities.map(|parsed| parsed.map(|(_, certificate)| certificate)).collect();
    let authorities = authorities.map_err(|_| "it has a certificate that cannot be read")?;
    let (mut verified, mut whole): (_, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for der in lists {
        let parsed = CertificateRevocationList::from_der(der);
        let (_, list) = parsed.map_err(|_| "it has a revocation list that cannot be read")?;
        let issuer = list.tbs_cert_list.issuer.as_raw();
        let name = list.issuer().to_string();
        let name: String = name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
        let of_name: Vec<_> = authorities.iter().filter(|authority| authority.subject().as_raw() == issuer).collect();
        if of_name.is_empty() {
            return Err(format!(
                "its revocation list of {name} would revoke nothing: add the certificate of that authority, or take the list out"
            ));
        }
        if !of_name.iter().all(|authority| has_signed(authority, &list)) {
            return Err(format!(
                "its revocation list of {name} is not signed by the authority of that name in it, and nobody could show a \
                 certificate: put in a list that this authority has made (`openssl ca -gencrl`), or take it out"
            ));
        }
        if whole.contains(&issuer) {
            return Err(format!(
                "it has several revocation lists of {name}, of which only the first would count: leave the newest alone"
            ));
        }
        let is_part = |extension: &x509_parser::extensions::X509Extension<'_>| {
            matches!(extension.parsed_extension(), ParsedExtension::IssuingDistributionPoint(_))
        };
        if !list.extensions().iter().any(is_part) {
            whole.push(issuer);
        }
        let next_update = list.next_update().and_then(|time| u64::try_from(time.timestamp()).ok());
        verified.push(RevocationList { issuer: name, next_update });
    }
    Ok(verified)
}

/// By what the library will look at signatures with.
fn has_signed(authority: &X509Certificate<'_>, list: &CertificateRevocationList<'_>) -> bool {
    let named = list.signature_algorithm.algorithm.as_bytes();
    let key = &authority.public_key().subject_public_key.data;
    ring::default_provider().signature_verification_algorithms.all.iter().any(|algorithm| {
        // Tag and length come before what an identifier begins with, parameters after it.
        let is_named = algorithm.signature_alg_id().get(2..).is_some_and(|id| id.starts_with(named));
        is_named && algorithm.verify_signature(key, list.tbs_cert_list.as_ref(), &list.signature_value.data).is_ok()
    })
}
