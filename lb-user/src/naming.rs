//! What the services and backends are called that the datapath's tables know by numbers.

use std::collections::BTreeMap;

/// Names by slot and generation of a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming(BTreeMap<(u16, u32), Named>);

/// A backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its service.
    pub service: String,
    /// Its own name.
    pub backend: String,
}

impl Naming {
    /// What the backend at a place is called; `None` for one that is gone.
    #[must_use]
    pub fn of(&self, place: (u16, u32)) -> Option<&Named> {
        self.0.get(&place)
    }

    /// The places of backends of this name, of this service where one is named.
    #[must_use]
    pub fn places(&self, service: Option<&str>, backend: Option<&str>) -> Vec<(u16, u32)> {
        let is = |named: &Named| {
            service.is_none_or(|service| named.service == service)
                && backend.is_none_or(|backend| named.backend == backend)
        };
        self.0.iter().filter(|(_, named)| is(named)).map(|(place, _)| *place).collect()
    }
}

impl FromIterator<((u16, u32), Named)> for Naming {
    fn from_iter<T: IntoIterator<Item = ((u16, u32), Named)>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}
