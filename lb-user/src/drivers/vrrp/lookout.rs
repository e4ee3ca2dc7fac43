//! Keeps the routers informed of links and addresses: looks when the kernel says that something changed, and now and then anyway.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::drivers::seldom::Seldom;
use crate::netlink::{Group, Interfaces, Monitor, Netlink};

/// News may be lost; this is how long that can matter.
const PERIOD: Duration = Duration::from_secs(2);
/// From one look to the next at least, however much happens.
const PAUSE: Duration = Duration::from_millis(20);

/// Publishes every look, whether or not something changed, until nobody listens.
pub(super) async fn run(netlink: Netlink, seen: watch::Sender<Option<Arc<Interfaces>>>) {
    let mut failures = Seldom::default();
    let mut monitor = None;
    loop {
        if monitor.is_none() {
            match Monitor::subscribe(&[Group::Links, Group::Addresses]) {
                Ok(subscribed) => monitor = Some(subscribed),
                Err(error) => {
                    if failures.allows("subscribe", clock::now()) {
                        tracing::warn!(%error, "link changes are noticed late");
                    }
                }
            }
        }
        match netlink.interfaces().await {
            Ok(interfaces) => {
                if seen.send(Some(Arc::new(interfaces))).is_err() {
                    return;
                }
            }
            Err(error) => {
                if failures.allows("observe", clock::now()) {
                    tracing::warn!(%error, "virtual routers go by the links and addresses seen before");
                }
            }
        }
        sleep(PAUSE).await;
        match &mut monitor {
            // Whether it was woken or not, it looks again.
            Some(monitor) => drop(timeout(PERIOD, monitor.changed()).await),
            None => sleep(PERIOD).await,
        }
    }
}
