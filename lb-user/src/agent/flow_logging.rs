//! The log of flows: the configuration's part, and the datapath told to tell.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::error;

use crate::bpf::{LoggedFlows, Removals, SharingSwitch};
use crate::config::Config;
use crate::flow_log::{FlowLogError, Output, Writer};
use crate::naming::Naming;

/// The log, if there is one.
pub(super) struct FlowLogging {
    naming: watch::Receiver<Arc<Naming>>,
    /// What each sweep tells, of whichever loaded datapath.
    removals: Removals,
    /// Opened, and not yet taken by a writer.
    output: Option<Output>,
    writer: Option<Writer>,
    /// Whether the datapath tells, once it is known that it should.
    attached: Option<bool>,
    fault: Option<String>,
}

impl FlowLogging {
    /// Logs nothing yet.
    pub(super) fn new(naming: watch::Receiver<Arc<Naming>>) -> Self {
        Self { naming, removals: Removals::default(), output: None, writer: None, attached: None, fault: None }
    }

    /// Where a sweep is to tell of flows that it removes.
    pub(super) fn removals(&self) -> Removals {
        self.removals.clone()
    }

    /// Opens what a configuration needs.
    pub(super) fn prepare(config: &Config) -> Result<Option<Output>, FlowLogError> {
        config.flow_log.as_ref().map(Output::open).transpose()
    }

    /// Uses what was prepared: the same file opened anew, where it is the same.
    pub(super) fn apply(&mut self, output: Option<Output>) {
        match (output, &self.writer) {
            (Some(output), Some(writer)) => writer.reopen(output),
            (output, _) => self.output = output,
        }
    }

    /// The tables are others from now on.
    pub(super) fn forget(&mut self) {
        self.writer = None;
        self.attached = None;
    }

    /// Has the datapath tell where that is configured. To be called when the tables are written.
    pub(super) fn converge(&mut self, config: &Config) {
        let wanted = config.flow_log.is_some();
        if self.attached == Some(wanted) {
            return;
        }
        let outcome = self.try_converge(config);
        let fault = outcome.err();
        if let Some(why) = fault.as_ref().filter(|_| fault != self.fault) {
            error!("connections are not logged, trying on: {why}");
        }
        self.attached = fault.is_none().then_some(wanted);
        self.fault = fault;
    }

    fn try_converge(&mut self, config: &Config) -> Result<(), String> {
        let (node, text) = (&config.node.name, |error: &dyn std::error::Error| error.to_string());
        let mut switch = SharingSwitch::pinned(node).map_err(|error| text(&error))?;
        switch.log(config.flow_log.is_some()).map_err(|error| text(&error))?;
        self.writer = None;
        let Some(settings) = &config.flow_log else {
            return Ok(());
        };
        let output = match self.output.take() {
            Some(output) => output,
            None => Output::open(settings).map_err(|error| text(&error))?,
        };
        let flows = LoggedFlows::pinned(node).map_err(|error| text(&error))?;
        let writer = Writer::start(flows, self.removals.listen(), self.naming.clone(), output);
        self.writer = Some(writer.map_err(|error| text(&error))?);
        Ok(())
    }
}
