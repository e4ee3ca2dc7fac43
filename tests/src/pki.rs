//! Certificates for one run: an authority, and what it signs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// PEM files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct KeyFiles {
    /// Certificate.
    pub cert: PathBuf,
    /// Private key, PKCS #8.
    pub key: PathBuf,
}

/// A certificate authority whose files lie in one directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority and writes its certificate to `<dir>/ca.pem`.
    pub fn create(dir: &Path) -> Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "xvip harness");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let authority = Authority { dir: dir.to_owned(), issuer: Issuer::new(params, key) };
        write(&authority.ca_file(), &certificate.pem())?;
        Ok(authority)
    }

    /// PEM file of the authority's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A server's certificate for these names and addresses, in `<name>.pem` and `<name>.key`.
    pub fn server(&self, name: &str, alternatives: &[&str]) -> Result<KeyFiles> {
        let alternatives: Vec<String> = alternatives.iter().map(|&name| name.to_owned()).collect();
        self.sign(name, alternatives, vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// A client's certificate, in `<name>.pem` and `<name>.key`.
    pub fn client(&self, name: &str) -> Result<KeyFiles> {
        self.sign(name, Vec::new(), vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn sign(&self, name: &str, alternatives: Vec<String>, usages: Vec<ExtendedKeyUsagePurpose>) -> Result<KeyFiles> {
        let mut params = CertificateParams::new(alternatives)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = usages;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let files = KeyFiles { cert: self.dir.join(format!("{name}.pem")), key: self.dir.join(format!("{name}.key")) };
        write(&files.cert, &certificate.pem())?;
        write(&files.key, &key.serialize_pem())?;
        Ok(files)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
