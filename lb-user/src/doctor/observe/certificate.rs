//! The certificate a backend shows to those who dial a VIP, that of the status page, and what they say. Nothing is verified: they
//! are only read.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;

use crate::doctor::facts::{Certificate, Seen};

/// What the server at the other end of `stream` shows to a client that dialled the first of `vips`.
pub(super) async fn shown(stream: TcpStream, vips: &[IpAddr], deadline: Instant) -> Seen<Certificate> {
    let provider = Arc::new(ring::default_provider());
    let recorder =
        Arc::new(Recorder { algorithms: provider.signature_verification_algorithms, shown: Mutex::new(None) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let dialled = vips.first().copied().unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let handshake = TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(dialled.into()), stream);
    let outcome = timeout_at(deadline.into(), handshake).await;
    // A server that wants a certificate of ours refuses, after it has shown its own.
    let shown = recorder.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (shown, outcome) {
        (Some(certificate), _) => read(&certificate, vips),
        (None, Ok(Err(error))) => Err(error.to_string()),
        (None, _) => Err("the TLS handshake did not end in time".to_owned()),
    }
}

/// What a certificate says, and which of these addresses it does not name.
pub(super) fn read(der: &CertificateDer<'_>, vips: &[IpAddr]) -> Seen<Certificate> {
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let parsed = ParsedCertificate::try_from(der).map_err(|error| error.to_string())?;
    let (mut lacks, mut names) = (Vec::new(), Vec::new());
    for vip in vips {
        match verify_server_name(&parsed, &ServerName::IpAddress((*vip).into())) {
            Ok(()) => {}
            Err(error) => {
                lacks.push(*vip);
                if let Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) = error {
                    names = presented.iter().map(|name| plain(name)).collect();
                }
            }
        }
    }
    // The library tells the bounds of validity to those who ask for a moment beyond them.
    let at = |seconds| {
        let moment = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], moment, algorithms.all).err()
    };
    let not_before = match at(0) {
        Some(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            Some(not_before.as_secs())
        }
        _ => None,
    };
    let not_after = match at(u64::MAX) {
        Some(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(not_after.as_secs())
        }
        _ => None,
    };
    Ok(Certificate { lacks, names, not_before, not_after })
}

/// `DnsName("master1")` and `IpAddress(192.0.2.31)` without what is around the name, and without control characters.
fn plain(name: &str) -> String {
    let inside = name.split_once('(').map_or(name, |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    inside.trim_matches('"').chars().filter(|c| !c.is_control()).take(80).collect()
}

/// Takes any certificate and keeps it.
#[derive(Debug)]
struct Recorder {
    algorithms: WebPkiSupportedAlgorithms,
    shown: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self, end_entity: &CertificateDer<'_>, _intermediates: &[CertificateDer<'_>], _server_name: &ServerName<'_>,
        _ocsp_response: &[u8], _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_validity_are_read() {
        let mut params = rcgen::CertificateParams::new(vec!["master1".to_owned(), "192.0.2.31".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (named, vip) = (IpAddr::from([192, 0, 2, 31]), IpAddr::from([192, 0, 2, 100]));
        let read = read(certificate.der(), &[named, vip]).unwrap();
        let mut names = read.names.clone();
        names.sort();
        assert_eq!((read.lacks, names), (vec![vip], vec!["192.0.2.31".to_owned(), "master1".to_owned()]));
        assert_eq!((read.not_before, read.not_after), (Some(1_704_067_200), Some(1_798_761_600)));
        assert!(super::read(&CertificateDer::from(vec![0x30, 0]), &[vip]).is_err());
    }
}
