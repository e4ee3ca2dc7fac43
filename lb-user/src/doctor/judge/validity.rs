//! How long certificates are valid.

use crate::doctor::facts::Certificate;
use crate::doctor::finding::{About, Check};

/// Certificates that cease to be valid earlier are warned of.
const SOON_DAYS: u64 = 30;
/// In seconds.
pub(super) const DAY: u64 = 86_400;

/// A certificate, as it is spoken of.
pub(super) struct Shown<'s> {
    /// What it was looked at for.
    pub(super) check: Check,
    /// As in "... has expired".
    pub(super) name: &'s str,
    /// The same where all is well, as in "... is valid", with what else is good about it.
    pub(super) good: &'s str,
    /// How it is renewed.
    pub(super) renew: &'s str,
}

/// `now` in seconds since the Unix epoch.
pub(super) fn judge(certificate: &Certificate, shown: &Shown<'_>, now: u64, about: &mut About<'_>) {
    let Shown { check, name, good, renew } = shown;
    match (certificate.not_before, certificate.not_after) {
        (Some(from), _) if from > now => about.problem(
            *check,
            format!("{name} is not valid yet, by this host's clock for another {} hours", (from - now).div_ceil(3600)),
            "set the clocks of both hosts by NTP",
        ),
        (_, Some(to)) if to <= now => about.problem(*check, format!("{name} has expired"), *renew),
        (_, Some(to)) if to - now < SOON_DAYS * DAY => {
            about.warning(*check, format!("{name} expires in {} days", (to - now) / DAY), *renew);
        }
        (_, Some(to)) => about.ok(*check, format!("{good} is valid for {} more days", (to - now) / DAY)),
        (_, None) => {
            about.note(*check, format!("how long {name} is valid cannot be read"), "look with `openssl x509 -enddate`")
        }
    }
}
