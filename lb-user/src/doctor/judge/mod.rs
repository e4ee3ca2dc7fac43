//! Facts in, findings out. Pure: what the same facts mean is always the same.

mod device;
mod host;
mod network;
mod page;
mod services;
#[cfg(test)]
mod tests;
mod validity;

use super::facts::{Configuration, Facts};
use super::finding::{About, Check, Finding, Subject};

/// Every finding, subject by subject, in the order in which they are to be read. `now` is the time of day in seconds since the Unix
/// epoch.
#[must_use]
pub fn judge(facts: &Facts, now: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    page::judge(facts, now, &mut findings);
    configuration(facts, &mut findings);
    host::judge(facts, &mut findings);
    for device in &facts.devices {
        device::judge(facts, device, &mut findings);
        if !matches!(facts.configuration, Configuration::Good { .. }) {
            network::bystander(facts, device, &mut findings);
        }
    }
    network::judge(facts, &mut findings);
    services::judge(facts, now, &mut findings);
    findings
}

fn configuration(facts: &Facts, findings: &mut Vec<Finding>) {
    let mut about = About::new(Subject::Configuration, findings);
    for file in &facts.keys {
        let how = format!("openssl rand -hex 32 | install -m 600 /dev/stdin {}", file.path.display());
        match &file.usable {
            Ok(seen) => about.ok(Check::Keys, seen.clone()),
            Err(why) => about.problem(Check::Keys, why.clone(), format!("`{how}`, and copy it to the other balancers")),
        }
    }
    let faults = match &facts.configuration {
        Configuration::None => return,
        Configuration::Wrong(faults) | Configuration::Good { host_lacks: Some(faults), .. } => faults,
        Configuration::Good { host_lacks: None, .. } => {
            return about.ok(Check::Configuration, "it is good, and the host has what it names");
        }
    };
    for fault in faults.iter() {
        let place = format!("{}:{}:{}", faults.file(), fault.line, fault.column);
        about.problem(Check::Configuration, format!("{place}: {}", fault.what), fault.remedy.clone());
    }
}

/// A list in words.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}
