//! The memory that the tables take, as the kernel counts it (`memlock` in fdinfo; exact since Linux 6.4).

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use aya::maps::MapData;

use super::layout::{Sizes, shapes};

/// Bytes by table.
pub type Bytes = BTreeMap<&'static str, u64>;

/// The pinned tables, held open.
pub struct Footprint(Vec<(&'static str, MapData)>);

impl Footprint {
    /// Those below a directory of pins; what cannot be opened is left out.
    pub(super) fn open(directory: &Path) -> Self {
        // Only the names matter here.
        let names = shapes(Sizes { max_flows: 0, max_half_open: 0 }).map(|shape| shape.name);
        let open = |name| MapData::from_pin(directory.join(name)).ok().map(|map| (name, map));
        Self(names.into_iter().filter_map(open).collect())
    }

    /// What each takes now; nothing for one that the kernel does not tell of.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let each = self.0.iter().filter_map(|(name, map)| Some((*name, memory(map)?)));
        each.collect()
    }
}

fn memory(map: &MapData) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd())).ok()?;
    memlock(&info)
}

fn memlock(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_where_it_stands() {
        assert_eq!(memlock("pos:\t0\nmap_type:\t1\nmemlock:\t35389440\nmap_id:\t7\n"), Some(35_389_440));
        assert_eq!(memlock("pos:\t0\n"), None);
        assert_eq!(memlock("memlock:\tmany\n"), None);
    }
}
