//! Prometheus as Debian packages it: it scrapes agents, evaluates rules and answers queries; and promtool, which checks both.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::netns::Netns;
use crate::process::Process;
use crate::scrape::get;
use crate::until::until;

const LIMIT: Duration = Duration::from_secs(30);
const LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 9090);

/// A running Prometheus that scrapes and evaluates each second.
#[derive(Debug)]
pub struct Prometheus {
    netns: Netns,
    process: Process,
}

impl Prometheus {
    /// Starts it in `netns` with these addresses of agents in the job `xvip`, and these rules.
    pub fn start(netns: &Netns, targets: &[&str], rules: &str) -> Result<Prometheus> {
        let dir = netns.run().dir();
        let (config, rule_file) = (dir.join("prometheus.yml"), dir.join("rules.yml"));
        fs::write(&rule_file, rules)?;
        fs::write(
            &config,
            format!(
                "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
                 rule_files: [{}]\n\
                 scrape_configs: [{{ job_name: xvip, static_configs: [{{ targets: {targets:?} }}] }}]\n",
                rule_file.display()
            ),
        )?;
        promtool(&["check", "config"], Some(&config), "")?;
        let mut command = netns.command("prometheus");
        command.arg("--config.file").arg(&config).arg("--storage.tsdb.path").arg(dir.join("prometheus"));
        command.args(["--web.listen-address", &SocketAddr::from(LISTEN).to_string(), "--log.level", "warn"]);
        let process = Process::spawn(netns.run(), "prometheus", command)
            .context("the program `prometheus` is needed: install the package prometheus")?;
        let prometheus = Prometheus { netns: netns.clone(), process };
        until("Prometheus to be ready", LIMIT, || get(&prometheus.netns, LISTEN.into(), "/-/ready").ok())
            .with_context(|| prometheus.process.log_tail(20))?;
        Ok(prometheus)
    }

    /// What an expression gives now: each series with its labels and value. An error when it is no PromQL.
    pub fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>> {
        let answer =
            self.ask(&format!("/api/v1/query?query={}", escaped(expression))).context(expression.to_owned())?;
        let of = |sample: &Value| -> Option<(Value, f64)> {
            Some((sample["metric"].clone(), sample["value"][1].as_str()?.parse().ok()?))
        };
        let result = answer["result"].as_array().with_context(|| format!("{expression} gave {answer}"))?;
        result.iter().map(|sample| of(sample).with_context(|| format!("{expression} gave {sample}"))).collect()
    }

    /// The values of a label, as a variable of a dashboard is filled: of the series that match a selector.
    pub fn label_values(&self, selector: &str, label: &str) -> Result<Vec<String>> {
        let answer = self.ask(&format!("/api/v1/label/{label}/values?match[]={}", escaped(selector)))?;
        let values = answer.as_array().with_context(|| format!("values of {label}: {answer}"))?;
        Ok(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// The rules as they are evaluated, all groups together.
    pub fn rules(&self) -> Result<Vec<Value>> {
        let answer = self.ask("/api/v1/rules")?;
        let groups = answer["groups"].as_array().context("no groups of rules")?;
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
    }

    /// The labels of every alert that fires now.
    pub fn firing(&self) -> Result<Vec<Value>> {
        let answer = self.ask("/api/v1/alerts")?;
        let alerts = answer["alerts"].as_array().context("no alerts")?;
        Ok(alerts.iter().filter(|alert| alert["state"] == "firing").map(|alert| alert["labels"].clone()).collect())
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }

    fn ask(&self, path: &str) -> Result<Value> {
        let answer: Value = serde_json::from_str(&get(&self.netns, LISTEN.into(), path)?)?;
        Ok(answer["data"].clone())
    }
}

/// Runs promtool with these words, a file as the last one, and this on its standard input; an error with what it said unless it
/// found nothing.
pub fn promtool(words: &[&str], file: Option<&Path>, input: &str) -> Result<String> {
    let mut command = Command::new("promtool");
    command.args(words).args(file).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("the program `promtool` is needed: install the package prometheus")?;
    if let Some(mut stdin) = child.stdin.take() {
        std::io::Write::write_all(&mut stdin, input.as_bytes())?;
    }
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    if !status.success() {
        bail!("promtool {} ended with {status}:\n{said}", words.join(" "));
    }
    Ok(said)
}

/// For a query string (RFC 3986).
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped(r#"up{a=~"x.*"} > 0"#), "up%7Ba%3D%7E%22x.%2A%22%7D%20%3E%200");
    }
}
