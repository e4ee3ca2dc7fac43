//! What the files of the status page are good for.

use super::validity::{self, DAY, Shown};
use crate::doctor::facts::{Clients, Configuration, Facts};
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
    match &facts.page.clients {
        None => {}
        Some(Err(why)) => about.problem(
            Check::Page,
            why.clone(),
            "let it have the certificates of authorities that sign for administrators alone, and lists of what these have \
             revoked, all PEM; root's, with mode 0644",
        ),
        Some(Ok(clients)) => believed(clients, now, &mut about),
    }
}

/// Whom the listener believes, and how new what it knows of them is.
fn believed(clients: &Clients, now: u64, about: &mut About<'_>) {
    let file = format!("metrics.tls_client_ca {}", clients.path.display());
    for (number, certificate) in (1..).zip(&clients.authorities) {
        let which = if number == 1 { String::new() } else { format!("certificate {number} of ") };
        let name = format!("{which}{file}");
        let renew = "put its successor beside it and have certificates signed by that, then run `xvip reload`";
        if certificate.not_after.is_some_and(|to| to <= now) {
            // The library asks of an authority who it is, not since when.
            let seen = format!("{name} has expired, and what it signs is believed all the same");
            about.warning(Check::Page, seen, renew);
            continue;
        }
        validity::judge(certificate, &Shown { check: Check::Page, name: &name, good: &name, renew }, now, about);
    }
    for list in &clients.lists {
        let name = format!("the revocation list of {} in {file}", list.issuer);
        match list.next_update {
            Some(next) if next <= now => about.warning(
                Check::Page,
                format!(
                    "{name} is {} days older than it was to be: what was revoked since is believed",
                    (now - next) / DAY
                ),
                "put a new one in its place (`openssl ca -gencrl`), then run `xvip reload`",
            ),
            Some(next) => about.ok(Check::Page, format!("{name} is to be replaced within {} days", (next - now) / DAY)),
            None => about.ok(Check::Page, format!("{name} does not say when it is to be replaced")),
        }
    }
}
