//! What `/metrics` of an agent says.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::netns::Netns;

const LIMIT: Duration = Duration::from_secs(5);

/// A scrape of one agent.
#[derive(Debug, Clone)]
pub struct Scrape {
    text: String,
}

impl Scrape {
    /// Asks `/metrics` of the agent in `netns`, which listens at the shipped configuration's port.
    pub fn of(netns: &Netns) -> Result<Scrape> {
        let text = get(netns, SocketAddr::from(([127, 0, 0, 1], 9910)), "/metrics")?;
        Ok(Scrape { text })
    }

    /// The sum of all samples of a metric whose labels include these; `None` when there are none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let matching = self.text.lines().filter_map(|line| sample(line, name, labels));
        matching.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// As [`Scrape::value`], zero when there is none.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.value(name, labels).unwrap_or_default()
    }
}

/// The body of the answer to a GET over plain HTTP, asked from inside `netns`; an error unless its status is 200.
pub fn get(netns: &Netns, from: SocketAddr, path: &str) -> Result<String> {
    let answer = netns.enter(|| -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&from, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {from}\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let answer = answer.with_context(|| format!("asking http://{from}{path}"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => bail!("http://{from}{path} answered {}", answer.lines().next().unwrap_or_default()),
    }
}

/// The value in a line of the exposition format, if it is of this metric and has these labels.
fn sample(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (found, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once('}')?,
        None => ("", rest),
    };
    let has = |(key, value): &(&str, &str)| found.split(',').any(|label| label == format!("{key}=\"{value}\""));
    let value = value.strip_prefix(' ')?.split(' ').next()?.parse().ok()?;
    labels.iter().all(has).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# HELP x_total X.\nx_total{a=\"1\",b=\"2\"} 3\nx_total{a=\"1\",b=\"4\"} 5\nx_total_more 7\ny 2.5\n";
        let scrape = Scrape { text: text.to_owned() };
        assert_eq!(scrape.value("x_total", &[("a", "1"), ("b", "2")]), Some(3.0));
        assert_eq!(scrape.value("x_total", &[("a", "1")]), Some(8.0));
        assert_eq!(scrape.value("x_total", &[("a", "2")]), None);
        assert_eq!(scrape.value("y", &[]), Some(2.5));
        assert_eq!(scrape.count("x", &[]), 0.0);
    }
}
