//! Who shows a certificate: what they may do by it, and everybody who may not.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::admin::Change;
use crate::config::{Metrics as Section, TlsFiles};

/// Somebody who signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate of somebody, and its key.
struct Holder {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Holder {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        }
    }
}

fn params(name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    params
}

impl Authority {
    fn new() -> Self {
        Self::named("administrators")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, params: &CertificateParams) -> Holder {
        let key = KeyPair::generate().unwrap();
        Holder::new(&params.signed_by(&key, &self.issuer).unwrap(), &key)
    }

    fn client(&self, name: &str) -> Holder {
        self.sign(&params(name, ExtendedKeyUsagePurpose::ClientAuth))
    }

    /// Its list of what it has revoked, PEM.
    fn revokes(&self, number: SerialNumber) -> String {
        let one = RevokedCertParams {
            serial_number: number,
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![one],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// An agent with TLS, and the files it reads.
struct Node {
    agent: Agent,
    directory: tempfile::TempDir,
}

impl Node {
    /// Its administrators have certificates of this authority.
    async fn new(authority: &Authority) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        write(&directory.path().join("crt"), &made.cert.pem(), 0o644);
        write(&directory.path().join("key"), &made.signing_key.serialize_pem(), 0o600);
        let node = Self { agent: start(alive()).await, directory };
        node.believe(&authority.pem, 0o644).unwrap();
        node
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Has this in the file of authorities, and reads it as a reload does.
    fn believe(&self, text: &str, mode: u32) -> Result<(), String> {
        write(&self.file("clients"), text, mode);
        self.reload(Some(self.file("clients")))
    }

    fn reload(&self, client_authorities: Option<PathBuf>) -> Result<(), String> {
        let tls = TlsFiles { certificate: self.file("crt"), key: self.file("key"), client_authorities };
        let section = Section { listen: loopback(0), password_file: None, tls: Some(tls) };
        let settings = Settings::read(&section).map_err(|error| error.to_string())?;
        self.agent.sources.desk.configure(settings);
        Ok(())
    }

    /// What comes back over TLS, as far as it comes.
    async fn ask(&self, holder: Option<&Holder>, request: &str) -> String {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file("crt")).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match holder {
            Some(holder) => config.with_client_auth_cert(holder.chain.clone(), holder.key.clone_key()).unwrap(),
            None => config.with_no_client_auth(),
        };
        let tcp = TcpStream::connect(self.agent.server.address()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut answer = Vec::new();
        // Whoever is not believed hears so as they begin to read.
        if let Ok(mut tls) = connector.connect("localhost".try_into().unwrap(), tcp).await {
            let _ = tls.write_all(request.as_bytes()).await;
            let _ = tls.read_to_end(&mut answer).await;
        }
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, holder: Option<&Holder>, path: &str) -> String {
        self.ask(holder, &format!("GET {path} HTTP/1.1\r\nhost: lb1\r\n\r\n")).await
    }

    async fn post(&self, holder: Option<&Holder>, path: &str, headers: &str, form: &str) -> String {
        let kind = "content-type: application/x-www-form-urlencoded\r\n";
        let length = form.len();
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: lb1\r\n{kind}content-length: {length}\r\n{headers}\r\n{form}");
        self.ask(holder, &request).await
    }

    async fn token(&self, holder: &Holder) -> String {
        let page = self.get(Some(holder), "/").await;
        page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

const DRAIN: &str = "service=apiserver&name=master1&what=drain";

#[tokio::test]
async fn who_shows_a_certificate_may_act() {
    let authority = Authority::new();
    let ops = authority.client("ops");
    let mut node = Node::new(&authority).await;
    for path in ["/", "/live", "/metrics", "/healthz"] {
        let answer = node.get(None, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("<form"), "who has none reads: {answer}");
    }
    let page = node.get(Some(&ops), "/").await;
    assert!(page.contains("<p class=\"who\"><span>ops</span> by certificate</p>"), "{page}");
    assert!(page.contains("action=\"/do/backend\"") && !page.contains("/login") && !page.contains("/logout"), "{page}");

    let form = format!("token={}&{DRAIN}", node.token(&ops).await);
    let mut orders = std::mem::replace(&mut node.agent.orders, mpsc::channel(1).1);
    let own = "origin: https://lb1\r\nsec-fetch-site: same-origin\r\n";
    let (answer, ()) = tokio::join!(node.post(Some(&ops), "/do/backend", own, &form), async {
        let Some(Order::Backend(order)) = orders.recv().await else { panic!("something else") };
        assert_eq!((order.name.as_str(), order.change), ("master1", Change::Drain));
        assert_eq!(order.caller.to_string(), "administrator ops (status page, by certificate, 127.0.0.1)");
        // A reload meanwhile ends nothing of it.
        node.reload(Some(node.file("clients"))).unwrap();
        order.reply.send(Ok("drained".to_owned().into())).unwrap();
    });
    assert!(answer.starts_with("HTTP/1.1 303 "), "{answer}");
    assert!(node.get(Some(&ops), "/").await.contains("role=\"status\">drained</p>"));
    assert!(!node.get(Some(&ops), "/").await.contains("id=\"outcome\""), "it is told once");

    let form = format!("token={}&name=k8s", node.token(&ops).await);
    let (_, ()) = tokio::join!(node.post(Some(&ops), "/do/step-down", "", &form), async {
        let Some(Order::StepDown(order, caller)) = orders.recv().await else { panic!("something else") };
        assert_eq!(caller.to_string(), "administrator ops (status page, by certificate, 127.0.0.1)");
        order.reply.send(Vec::new()).unwrap();
    });
}

#[tokio::test]
async fn a_certificate_alone_changes_nothing() {
    let authority = Authority::new();
    let (ops, dev) = (authority.client("ops"), authority.client("dev"));
    let mut node = Node::new(&authority).await;
    let (token, other) = (node.token(&ops).await, node.token(&dev).await);
    let form = |token: &str| format!("token={token}&{DRAIN}");
    for (holder, headers, form) in [
        // A browser shows it to every site that asks it to post here.
        (Some(&ops), "origin: https://evil.example\r\nsec-fetch-site: cross-site\r\n", form(&token)),
        (Some(&ops), "origin: https://evil.example\r\n", form(&token)),
        (Some(&ops), "origin: https://lb1\r\norigin: https://evil.example\r\n", form(&token)),
        (Some(&ops), "origin: null\r\n", form(&token)),
        (Some(&ops), "sec-fetch-site: same-site\r\n", form(&token)),
        (Some(&ops), "", form("")),
        (Some(&ops), "", form(&other)),
        (Some(&ops), "", form(&"0".repeat(64))),
        (Some(&ops), "", DRAIN.to_owned()),
        // Nothing of it is of use without it.
        (None, "", form(&token)),
        (Some(&dev), "", form(&token)),
        (None, &format!("cookie: __Host-xvip-lb1={token}\r\n"), form(&token)),
    ] {
        let answer = node.post(holder, "/do/backend", headers, &form).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{headers} {form}: {answer}");
    }
    let answer = node.post(Some(&ops), "/logout", "", &format!("token={token}")).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("by itself"), "{answer}");
    for request in ["/do/backend", "/do/step-down"].map(|path| format!("{path}?{}", form(&token))) {
        let answer = node.get(Some(&ops), &request).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }
    assert!(node.agent.orders.try_recv().is_err());
    assert!(node.agent.events.newest(10).is_empty());
}

#[tokio::test]
async fn only_the_authority_is_believed() {
    let authority = Authority::new();
    let mut node = Node::new(&authority).await;
    let mut expired = params("ops", ExtendedKeyUsagePurpose::ClientAuth);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut revoked = params("ops", ExtendedKeyUsagePurpose::ClientAuth);
    revoked.serial_number = Some(SerialNumber::from(77));
    let mut own = params("ops", ExtendedKeyUsagePurpose::ClientAuth);
    own.serial_number = Some(SerialNumber::from(78));
    let key = KeyPair::generate().unwrap();
    let refused = [
        ("of another", Authority::new().client("ops")),
        ("of itself", Holder::new(&own.self_signed(&key).unwrap(), &key)),
        ("expired", authority.sign(&expired)),
        ("of a server", authority.sign(&params("ops", ExtendedKeyUsagePurpose::ServerAuth))),
    ];
    for (what, holder) in &refused {
        assert_eq!(node.get(Some(holder), "/").await, "", "{what}");
    }

    // One that says nothing of what it is for is for everything.
    let mut any = params("any", ExtendedKeyUsagePurpose::ClientAuth);
    any.extended_key_usages.clear();
    assert!(node.get(Some(&authority.sign(&any)), "/").await.contains("<span>any</span>"));

    let (revoked, ops) = (authority.sign(&revoked), authority.sign(&own));
    let list = authority.revokes(SerialNumber::from(77));
    assert!(node.get(Some(&revoked), "/").await.contains("<form"));
    node.believe(&format!("{}{list}", authority.pem), 0o644).unwrap();
    assert_eq!(node.get(Some(&revoked), "/").await, "");
    assert!(node.get(Some(&ops), "/").await.contains("<form"));
    assert!(node.get(None, "/").await.starts_with("HTTP/1.1 200 "));

    // Another file takes rights away, and so does none; who came while it was there cannot go on.
    let (token, other) = (node.token(&ops).await, Authority::new());
    node.believe(&other.pem, 0o644).unwrap();
    assert_eq!(node.get(Some(&ops), "/").await, "");
    assert!(node.get(Some(&other.client("new")), "/").await.contains("<form"));
    node.reload(None).unwrap();
    assert!(!node.get(Some(&ops), "/").await.contains("<form"));
    let answer = node.post(Some(&ops), "/do/backend", "", &format!("token={token}&{DRAIN}")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(node.agent.orders.try_recv().is_err());
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let authority = Authority::new();
    let ops = authority.client("ops");
    let node = Node::new(&authority).await;
    let broken = |label: &str, inside: &str| format!("-----BEGIN {label}-----\n{inside}\n-----END {label}-----\n");
    let (list, other) = (authority.revokes(SerialNumber::from(1)), authority.revokes(SerialNumber::from(2)));
    let stranger = Authority::named("a stranger").revokes(SerialNumber::from(1));
    let impostor = Authority::new();
    let forged = impostor.revokes(SerialNumber::from(1));
    for (text, mode, words) in [
        (String::new(), 0o644, "there is no certificate in it: it has to be PEM"),
        ("subject=CN = ops\n".to_owned(), 0o644, "there is no certificate in it"),
        (authority.pem.replace("-----END", "-----"), 0o644, ""),
        (broken("CERTIFICATE", "AAAA"), 0o644, ""),
        (broken("CERTIFICATE", "!"), 0o644, ""),
        (authority.pem.clone() + &broken("X509 CRL", "AAAA"), 0o644, "a revocation list that cannot be read"),
        // Lists that would revoke nothing, or keep everybody out.
        (authority.pem.clone() + &stranger, 0o644, "list of CN=a stranger would revoke nothing: add the certificate"),
        (authority.pem.clone() + &list + &stranger, 0o644, "would revoke nothing"),
        (authority.pem.clone() + &forged, 0o644, "is not signed by the authority of that name"),
        (authority.pem.clone() + &impostor.pem + &list, 0o644, "is not signed by the authority of that name"),
        (authority.pem.clone() + &list + &other, 0o644, "only the first would count: leave the newest alone"),
        (authority.pem.clone() + &"#".repeat(256 * 1024) + &list, 0o644, "more than the 262144 octets that are read"),
        (authority.pem.clone(), 0o664, "others than its owner may write it (mode 0664)"),
        (authority.pem.clone(), 0o646, "chmod go-w it"),
    ] {
        let fault = node.believe(&text, mode).unwrap_err();
        let place = format!("metrics.tls_client_ca {}: ", node.file("clients").display());
        let said = fault.strip_prefix(&place).unwrap_or_else(|| panic!("{fault}"));
        assert!(!said.is_empty() && !said.contains('\n') && said.contains(words), "{fault}");
        assert!(node.get(Some(&ops), "/").await.contains("<form"), "what was there before holds");
    }
    let fault = node.reload(Some(node.file("missing"))).unwrap_err();
    assert!(fault.contains("missing: No such file"), "{fault}");
    let fault = node.reload(Some(node.directory.path().to_owned())).unwrap_err();
    assert!(fault.contains("it is no ordinary file"), "{fault}");
    node.believe(&(authority.pem.clone() + &list), 0o644).unwrap();
    assert!(node.get(Some(&ops), "/").await.contains("<form"));

    // The server's own: nobody waits for a FIFO in its place.
    std::fs::remove_file(node.file("crt")).unwrap();
    nix::unistd::mkfifo(&node.file("crt"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let fault = node.reload(None).unwrap_err();
    assert!(fault.starts_with("metrics.tls_cert ") && fault.contains("it is no ordinary file"), "{fault}");
}
