//! What this node does for flows that other nodes opened or go on with, where flows are shared.

use std::collections::BTreeSet;
use std::path::PathBuf;

use aya::Ebpf;
use lb_proto::vrrp::State;
use tracing::{info, warn};

use crate::bpf::{Datapath, PATIENCE, SharingSwitch, TableError};
use crate::drivers::vrrp::VrrpSnapshot;
use crate::sysctl::AcceptLocal;

/// Keeps the datapath and the host fit for flows of other nodes.
pub(super) struct Sharing {
    switch: SharingSwitch,
    /// Virtual routers that are active here.
    active: BTreeSet<String>,
    /// Whether the host takes packets from its own addresses in for it; none: not looked at yet.
    accepts: Option<bool>,
    /// What went wrong last.
    fault: Option<String>,
}

impl Sharing {
    /// Before others take the tables.
    pub(super) fn look(ebpf: &Ebpf) -> Result<Self, TableError> {
        Ok(Self { switch: SharingSwitch::look(ebpf)?, active: BTreeSet::new(), accepts: None, fault: None })
    }

    /// Goes on where the one before was, with the same tables: no virtual router is new here.
    pub(super) fn go_on(&mut self, before: &Self) {
        self.active.clone_from(&before.active);
    }

    /// Whether flows are shared, from now on.
    pub(super) fn set(&mut self, is_on: bool) -> Result<(), TableError> {
        self.switch.set(is_on)
    }

    /// Tells the datapath before this node has the addresses of a virtual router that it is to have.
    pub(super) fn gaining(&mut self, vrrp: &VrrpSnapshot) {
        let active = vrrp.instances.iter().filter(|instance| instance.state == State::Active);
        let active: BTreeSet<_> = active.map(|instance| instance.name.clone()).collect();
        if !active.is_subset(&self.active)
            && let Err(error) = self.switch.gained(PATIENCE)
        {
            warn!("flows may be taken for others after this move: {error}");
        }
        self.active = active;
    }

    /// Meets answers to a VIP of this node while there may be any: where flows are shared, and a backend is this node
    /// itself. `kept` names the file for the host's setting from before.
    pub(super) fn converge(&mut self, datapath: &mut Datapath, kept: PathBuf) {
        let outcome = self.try_converge(datapath, kept);
        let fault = outcome.err();
        if fault != self.fault {
            match &fault {
                Some(why) => warn!(
                    "connections with this node's own servers that other nodes opened end when the VIP comes here: {why}"
                ),
                None => info!(
                    "connections with this node's own servers that other nodes opened go on when the VIP comes here"
                ),
            }
            self.fault = fault;
        }
    }

    fn try_converge(&mut self, datapath: &mut Datapath, kept: PathBuf) -> Result<(), String> {
        let is_on = self.switch.is_on().map_err(|error| error.to_string())?;
        let wanted = is_on && datapath.answers_for_own();
        datapath.answer_at_home(wanted).map_err(|error| error.to_string())?;
        if self.accepts != Some(wanted) {
            let setting = AcceptLocal::new(kept);
            let interface = &datapath.attachment().device.name;
            let outcome = if wanted { setting.set(interface) } else { setting.restore() };
            outcome.map_err(|error| error.to_string())?;
            self.accepts = Some(wanted);
        }
        Ok(())
    }
}
