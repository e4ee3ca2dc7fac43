//! Who shows a certificate of a client.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Characters of a name: it is for events and for the page.
const LONGEST_NAME: usize = 64;

/// The holder of a certificate that was verified as the connection began.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// What the certificate calls them.
    pub(super) name: String,
    /// The certificate. It is no secret: whoever was there as it was shown may know it.
    pub(super) certificate: CertificateDer<'static>,
}

impl Client {
    pub(super) fn new(certificate: &CertificateDer<'_>) -> Self {
        Self { name: name(certificate), certificate: certificate.clone().into_owned() }
    }
}

/// The common name, else the first alternative name that is text, else the number.
fn name(der: &[u8]) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return "somebody without a name".to_owned();
    };
    let common = certificate.subject().iter_common_name().find_map(|name| plain(name.as_str().ok()?));
    let alternative = || {
        let names = certificate.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::RFC822Name(name) | GeneralName::DNSName(name) | GeneralName::URI(name) => plain(name),
            _ => None,
        })
    };
    let number = || format!("number {}", certificate.raw_serial_as_string());
    common.or_else(alternative).unwrap_or_else(number)
}

/// Fit for one line of a log; nothing where nothing is left of it.
fn plain(name: &str) -> Option<String> {
    let name: String = name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SerialNumber};

    use super::*;

    fn named(common: Option<&str>, alternatives: &[&str]) -> String {
        let alternatives: Vec<_> = alternatives.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(alternatives).unwrap();
        params.distinguished_name = DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.serial_number = Some(SerialNumber::from(vec![1, 2, 0xab]));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        name(certificate.der())
    }

    #[test]
    fn a_certificate_has_a_name_for_one_line() {
        assert_eq!(named(Some("Alice Õ"), &["alice.example"]), "Alice Õ");
        assert_eq!(named(None, &["192.0.2.1", "alice.example", "b.example"]), "alice.example");
        assert_eq!(named(Some(" \u{1b}\n"), &["alice.example"]), "alice.example");
        assert_eq!(named(Some("a\nadministrator b"), &[]), "aadministrator b");
        assert_eq!(named(Some(&"x".repeat(200)), &[]), "x".repeat(64));
        assert_eq!(named(None, &[]), "number 01:02:ab");
        assert_eq!(name(b"\x30\x03abc"), "somebody without a name");
    }
}
