//! The files of the status page, read by what the agent reads them with.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::certificate;
use crate::config::Metrics;
use crate::doctor::facts::{Certificate, Page, Seen};
use crate::http::Settings;

/// Each of them by itself: one that is bad hides no other.
pub(super) fn look(metrics: &Metrics) -> Page {
    let agent_takes = |metrics: &Metrics| Settings::read(metrics).map(drop).map_err(|error| error.to_string());
    let passwords = metrics.password_file.as_ref().map(|path| {
        let alone = Metrics { tls: None, ..metrics.clone() };
        agent_takes(&alone).map(|()| path.clone())
    });
    let tls = metrics.tls.as_ref().map(|files| {
        let alone = Metrics { password_file: None, ..metrics.clone() };
        agent_takes(&alone)?;
        let certificates = certificates(&files.certificate);
        certificates.map(|certificates| (files.certificate.clone(), certificates))
    });
    Page { passwords, tls }
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::super::as_the_agent;
    use super::*;
    use crate::config::TlsFiles;

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
            client_authorities: None,
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

        write("page.key", &other.serialize_pem());
        write("passwords", "admin\n");
        let page = look(&metrics);
        let (passwords_fault, tls_fault) = (page.passwords.unwrap().unwrap_err(), page.tls.unwrap().unwrap_err());
        assert!(
            passwords_fault.starts_with("metrics.password_file") && passwords_fault.contains("line 1"),
            "{passwords_fault}"
        );
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
