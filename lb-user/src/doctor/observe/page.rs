//! The files of the status page, read by what the agent reads them with.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::certificate;
use crate::config::{Metrics, TlsFiles};
use crate::doctor::facts::{Certificate, Clients, Page, Seen};
use crate::http::{Authorities, Settings};

/// Each of them by itself: one that is bad hides no other.
pub(super) fn look(metrics: &Metrics) -> Page {
    let agent_takes = |metrics: &Metrics| Settings::read(metrics).map(drop).map_err(|error| error.to_string());
    let passwords = metrics.password_file.as_ref().map(|path| {
        let alone = Metrics { tls: None, ..metrics.clone() };
        agent_takes(&alone).map(|()| path.clone())
    });
    let tls = metrics.tls.as_ref().map(|files| {
        let tls = Some(TlsFiles { client_authorities: None, ..files.clone() });
        agent_takes(&Metrics { password_file: None, tls, ..metrics.clone() })?;
        let certificates = certificates(&files.certificate);
        certificates.map(|certificates| (files.certificate.clone(), certificates))
    });
    let authorities = metrics.tls.as_ref().and_then(|files| files.client_authorities.as_ref());
    Page { passwords, tls, clients: authorities.map(|path| clients(path)) }
}

fn certificates(path: &Path) -> Seen<Vec<Certificate>> {
    let fault = |what: &dyn ToString| format!("metrics.tls_cert {}: {}", path.display(), what.to_string());
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fault(&error))?;
    certificates
        .map(|der| {
            let der = der.map_err(|error| fault(&error))?;
            certificate::read(&der, &[]).map_err(|error| fault(&error))
        })
        .collect()
}

fn clients(path: &Path) -> Seen<Clients> {
    let Authorities { certificates, lists, .. } = Authorities::read(path).map_err(|error| error.to_string())?;
    let authorities = certificates.iter().map(|der| {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let at = |time: ASN1Time| u64::try_from(time.timestamp()).ok();
        let (not_before, not_after) = (at(certificate.validity().not_before), at(certificate.validity().not_after));
        Ok(Certificate { lacks: Vec::new(), names: Vec::new(), not_before, not_after })
    });
    Ok(Clients { path: path.to_owned(), authorities: authorities.collect::<Seen<_>>()?, lists })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::super::as_the_agent;
    use super::*;

    #[test]
    fn files_are_read_as_the_agent_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["lb1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let files = TlsFiles {
            certificate: write("page.crt", &certificate.pem()),
            key: write("page.key", &key.serialize_pem()),
            client_authorities: Some(write("clients", &certificate.pem())),
        };
        let passwords = write("passwords", &format!("{}\n", crate::passwords::line("admin", "long enough").unwrap()));
        let metrics = Metrics {
            listen: ([127, 0, 0, 1], 9910).into(),
            password_file: Some(passwords.clone()),
            tls: Some(files.clone()),
        };
        let page = look(&metrics);
        assert_eq!(page.passwords, Some(Ok(passwords.clone())));
        let (path, certificates) = page.tls.unwrap().unwrap();
        assert_eq!((path, certificates.len()), (files.certificate, 1));
        assert!(certificates[0].not_after.is_some());
        let clients = page.clients.unwrap().unwrap();
        assert_eq!((clients.authorities.len(), clients.lists.len()), (1, 0));
        assert_eq!(clients.authorities[0].not_after, certificates[0].not_after);

        write("page.key", &other.serialize_pem());
        write("passwords", "admin\n");
        write("clients", "no certificate");
        let page = look(&metrics);
        let (passwords_fault, tls_fault) = (page.passwords.unwrap().unwrap_err(), page.tls.unwrap().unwrap_err());
        assert!(
            passwords_fault.starts_with("metrics.password_file") && passwords_fault.contains("line 1"),
            "{passwords_fault}"
        );
        let clients_fault = page.clients.unwrap().unwrap_err();
        assert!(clients_fault.starts_with("metrics.tls_client_ca") && clients_fault.contains("PEM"), "{clients_fault}");
        assert!(tls_fault.starts_with("metrics.tls_key") && tls_fault.contains("page.key"), "{tls_fault}");

        fs::set_permissions(&passwords, fs::Permissions::from_mode(0o640)).unwrap();
        let fault = look(&metrics).passwords.unwrap().unwrap_err();
        assert!(fault.contains("0640"), "{fault}");
        // Another user's file: root reads it, and root without the right to read everything does not.
        write("page.key", &key.serialize_pem());
        if chown(&files.key, Some(65534), Some(65534)).is_ok() {
            assert!(look(&metrics).tls.unwrap().is_ok());
            let fault = as_the_agent(|| look(&metrics)).tls.unwrap().unwrap_err();
            assert!(fault.contains("Permission denied"), "{fault}");
        }
    }
}
