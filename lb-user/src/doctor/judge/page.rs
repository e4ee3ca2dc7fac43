//! What the files of the status page are good for.

use super::validity::{self, Shown};
use crate::doctor::facts::{Configuration, Facts};
use crate::doctor::finding::{About, Check, Finding, Subject};

pub(super) fn judge(facts: &Facts, now: u64, findings: &mut Vec<Finding>) {
    let Configuration::Good { metrics, .. } = &facts.configuration else { return };
    let mut about = About::new(Subject::Configuration, findings);
    match &facts.page.passwords {
        None => {}
        Some(Ok(path)) if facts.page.tls.is_none() && !metrics.ip().is_loopback() => about.note(
            Check::Page,
            format!(
                "metrics.password_file {} can be used, by browsers on this host alone: {metrics} is without TLS",
                path.display()
            ),
            "add tls_cert and tls_key to [metrics] where administrators are to log in from elsewhere",
        ),
        Some(Ok(path)) => about.ok(Check::Page, format!("metrics.password_file {} can be used", path.display())),
        Some(Err(why)) => about.problem(
            Check::Page,
            why.clone(),
            "give root a file of mode 0600 with what `xvip password NAME` prints, a line for each administrator",
        ),
    }
    match &facts.page.tls {
        None => {}
        Some(Err(why)) => about.problem(
            Check::Page,
            why.clone(),
            "give root the certificate and the key that belongs to it, both PEM, the key with mode 0600",
        ),
        Some(Ok((path, certificates))) => {
            for (number, certificate) in (1..).zip(certificates) {
                let which = if number == 1 { String::new() } else { format!("certificate {number} of ") };
                let name = format!("{which}metrics.tls_cert {}", path.display());
                let renew = "renew it, then run `xvip reload`";
                let shown = Shown { check: Check::Page, name: &name, good: &name, renew };
                validity::judge(certificate, &shown, now, &mut about);
            }
        }
    }
}
