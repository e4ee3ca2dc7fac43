//! The TLS side of a check: what is presented, what is verified, and the check that asks for a handshake only.
//!
//! Every connection makes a full handshake: a resumed session would not look at the certificate.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use lb_proto::health::{Outcome, Phase};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tcp::Endpoint;
use super::{GRACE, PemFile, PlanError, broken, printable, within};
use crate::clock;
use crate::config::TlsCheck;

/// The protocol asked for within TLS (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Alpn {
    /// Not mentioned.
    None,
    /// `http/1.1`
    Http11,
}

/// Files read and settings made, for every backend of a service.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    config: Arc<ClientConfig>,
    /// `None`: the backend's address.
    server_name: Option<ServerName<'static>>,
    /// Over the settings and the content of the files. Tells a changed file, nothing secret.
    fingerprint: u64,
}

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        self.server_name == other.server_name && self.fingerprint == other.fingerprint
    }
}

impl Plan {
    pub(super) fn new(check: &TlsCheck, alpn: Alpn) -> Result<Self, PlanError> {
        let provider = Arc::new(ring::default_provider());
        let mut hasher = DefaultHasher::new();
        alpn.hash(&mut hasher);

        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| PlanError::Library(e.to_string()))?;
        let builder = match &check.ca_file {
            Some(path) => {
                let pem = read(PemFile::Authorities, path)?;
                (1u8, &pem).hash(&mut hasher);
                builder.with_root_certificates(authorities(path, &pem)?)
            }
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate::new(&provider))),
        };
        let mut config = match &check.client_certificate {
            Some((cert_path, key_path)) => {
                let cert_pem = read(PemFile::ClientCertificate, cert_path)?;
                let key_pem = read(PemFile::ClientKey, key_path)?;
                (2u8, &cert_pem, &key_pem).hash(&mut hasher);
                let chain = certificates(PemFile::ClientCertificate, cert_path, &cert_pem)?;
                let key =
                    PrivateKeyDer::from_pem_slice(&key_pem).map_err(|e| not_pem(PemFile::ClientKey, key_path, &e))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| unusable(PemFile::ClientKey, key_path, &e))?
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = match alpn {
            Alpn::None => vec![],
            Alpn::Http11 => vec![b"http/1.1".to_vec()],
        };
        let server_name = match &check.server_name {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| PlanError::ServerName(name.clone()))?),
            None => None,
        };
        Ok(Self { config: Arc::new(config), server_name, fingerprint: hasher.finish() })
    }
}

/// The TLS side of one backend's checks.
#[derive(Debug)]
pub(super) struct Client {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl Client {
    pub(super) fn new(plan: &Plan, address: SocketAddr) -> Self {
        let of_address = || ServerName::IpAddress(address.ip().into());
        Self { config: Arc::clone(&plan.config), server_name: plan.server_name.clone().unwrap_or_else(of_address) }
    }

    /// A completed handshake over `tcp`, or why there is none.
    pub(super) async fn handshake(&self, tcp: TcpStream, deadline: Instant) -> Result<TlsStream<TcpStream>, Outcome> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        within(deadline, Phase::Handshake, connector.connect(self.server_name.clone(), tcp))
            .await?
            .map_err(|e| broken(&e, Phase::Handshake))
    }
}

/// Completes a handshake and closes the connection in order. The time returned is that of the handshake.
///
/// In TLS 1.3 the client is done before the server has looked at the client's certificate (RFC 8446, 4.4.2.4): whether it is
/// missing or refused shows only in an alert that follows. A server answers our close_notify by closing, so what it
/// sends until then tells; one that does neither is not waited for.
pub(super) async fn probe(client: &Client, endpoint: &Endpoint, deadline: Instant) -> (Outcome, Instant) {
    let opened = match endpoint.connect(deadline).await {
        Ok(tcp) => client.handshake(tcp, deadline).await,
        Err(outcome) => Err(outcome),
    };
    let done = clock::now();
    let mut stream = match opened {
        Ok(stream) => stream,
        Err(outcome) => return (outcome, done),
    };
    let farewell = async {
        // Whether this can still be written makes no difference; what can be read does.
        let _ = stream.shutdown().await;
        let mut scrap = [0; 512];
        loop {
            match stream.read(&mut scrap).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(e) => return Some(broken(&e, Phase::Handshake)),
            }
        }
    };
    match within(deadline.min(done + GRACE), Phase::Handshake, farewell).await {
        Ok(Some(refused @ Outcome::TlsFailed { .. })) => (refused, clock::now()),
        _ => (Outcome::Ready { status: None }, done),
    }
}

/// What an error of the TLS library means, with a word on what to look at where its own text needs one.
pub(super) fn failure(error: &rustls::Error) -> Outcome {
    use rustls::{AlertDescription as Alert, CertificateError as Cert, Error};
    let hint = match error {
        Error::InvalidCertificate(Cert::UnknownIssuer) => "; no authority in the CA file signed it",
        Error::InvalidCertificate(Cert::BadSignature) => {
            "; another authority of the same name signed it, or the server lacks its key"
        }
        Error::AlertReceived(Alert::CertificateRequired) => "; the server demands a client certificate",
        Error::AlertReceived(Alert::NoApplicationProtocol) => "; the server does not offer HTTP/1.1",
        _ => "",
    };
    Outcome::TlsFailed { text: printable(&format!("{error}{hint}")) }
}

/// Accepts any certificate, for checks without a CA file: such a check asks whether the server is ready, not whether
/// it is the right one. The handshake's signature is verified all the same, so that the peer is known to hold the key
/// of the certificate it shows and a server with a mismatched pair fails as it would for its real clients.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyCertificate {
    fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self, _end_entity: &CertificateDer<'_>, _intermediates: &[CertificateDer<'_>], _server_name: &ServerName<'_>,
        _ocsp_response: &[u8], _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn read(file: PemFile, path: &Path) -> Result<Vec<u8>, PlanError> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|f| f.take(MAX_FILE + 1).read_to_end(&mut content))
        .map_err(|source| PlanError::Unreadable { file, path: path.to_owned(), source })?;
    if content.len() as u64 > MAX_FILE {
        return Err(PlanError::TooLarge { file, path: path.to_owned() });
    }
    Ok(content)
}

fn authorities(path: &Path, pem: &[u8]) -> Result<RootCertStore, PlanError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(PemFile::Authorities, path, pem)? {
        roots.add(authority).map_err(|e| unusable(PemFile::Authorities, path, &e))?;
    }
    Ok(roots)
}

/// At least one.
fn certificates(file: PemFile, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PlanError> {
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| not_pem(file, path, &e))?;
    if all.is_empty() {
        return Err(not_pem(file, path, &pem::Error::NoItemsFound));
    }
    Ok(all)
}

fn not_pem(file: PemFile, path: &Path, error: &pem::Error) -> PlanError {
    let text = match error {
        pem::Error::NoItemsFound => "no such block in it",
        pem::Error::MissingSectionEnd { .. } => "a block has no end",
        pem::Error::Base64Decode(_) => "a block is not base64",
        _ => "not PEM",
    };
    PlanError::NotPem { file, path: PathBuf::from(path), text }
}

fn unusable(file: PemFile, path: &Path, error: &rustls::Error) -> PlanError {
    PlanError::Unusable { file, path: PathBuf::from(path), text: error.to_string() }
}

/// Bytes.
const MAX_FILE: u64 = 1 << 20;
