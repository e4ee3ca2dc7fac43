//! Backends that were removed from the configuration and keep their established connections until a deadline. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::config::{Backend, Config, Service};

/// A backend that is configured no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// As it was configured.
    pub backend: Backend,
    /// When its connections are given up.
    pub deadline: Instant,
}

/// Those of all services, by service and address.
#[derive(Debug, Default)]
pub struct Leaving {
    configured: BTreeMap<(String, SocketAddr), Backend>,
    left: BTreeMap<(String, SocketAddr), Left>,
}

impl Leaving {
    /// Takes in the configuration as it is now. A service that is gone takes its backends with it, and so does one without
    /// a `drain_timeout`.
    pub fn observe(&mut self, config: &Config, now: Instant) {
        let limits: BTreeMap<&str, Duration> = config
            .services
            .iter()
            .filter_map(|service| Some((service.name.as_str(), service.drain_timeout?)))
            .collect();
        let of = |service: &Service| {
            let name = service.name.clone();
            service
                .backends
                .iter()
                .map(move |backend| ((name.clone(), backend.address), backend.clone()))
                .collect::<Vec<_>>()
        };
        let configured: BTreeMap<_, _> = config.services.iter().flat_map(of).collect();
        for (key, backend) in std::mem::replace(&mut self.configured, configured) {
            if let Some(limit) = limits.get(key.0.as_str())
                && !self.configured.contains_key(&key)
                && let Some(deadline) = now.checked_add(*limit)
            {
                self.left.insert(key, Left { backend, deadline });
            }
        }
        let configured = &self.configured;
        self.left.retain(|key, left| {
            limits.contains_key(key.0.as_str()) && !configured.contains_key(key) && now < left.deadline
        });
    }

    /// Those of one service.
    pub fn of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Left> {
        self.left.iter().filter(move |((of, _), _)| of == service).map(|(_, left)| left)
    }

    /// Addresses of all of them.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<SocketAddr> {
        self.left.keys().map(|(_, address)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, parse};

    fn config(backends: &str, drain: &str) -> Config {
        let text = format!(
            "[node]\nname = \"lb1\"\ninterface = \"eth0\"\n[[service]]\nname = \"api\"\n{drain}\n\
             listen = \"192.0.2.100:8443\"\nbackend = [{backends}]\n"
        );
        parse(&text, "xvip.toml", &Env::default()).unwrap_or_else(|faults| panic!("{faults}")).config
    }

    const A: &str = r#"{ name = "a", address = "192.0.2.31:6443" }"#;
    const B: &str = r#"{ name = "b", address = "192.0.2.32:6443" }"#;
    const TEN: &str = r#"drain_timeout = "10s""#;

    #[test]
    fn a_removed_backend_stays_until_the_deadline() {
        let start = crate::clock::now();
        let mut leaving = Leaving::default();
        let mut after = |config: &Config, seconds| {
            let now = start + Duration::from_secs(seconds);
            leaving.observe(config, now);
            let left: Vec<_> = leaving.of("api").map(|left| left.backend.name.clone()).collect();
            left
        };
        let (both, one) = (config(&format!("{A}, {B}"), TEN), config(B, TEN));
        assert!(after(&both, 0).is_empty());
        assert_eq!(after(&one, 1), ["a"]);
        assert_eq!(after(&one, 10), ["a"]);
        assert!(after(&one, 11).is_empty());
        assert!(after(&one, 12).is_empty(), "once");
        assert!(after(&both, 13).is_empty());
        assert_eq!(after(&one, 14), ["a"]);
        assert!(after(&both, 15).is_empty(), "it is back");
        assert_eq!(after(&one, 16), ["a"]);
        assert!(after(&config(B, ""), 17).is_empty(), "without the key it goes at once");
        assert!(after(&config(A, ""), 18).is_empty());
    }
}
