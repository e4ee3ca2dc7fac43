//! Metrics read from the newest status at each scrape, so that they cannot disagree with `xvip status`.

use std::fmt;
use std::sync::Arc;

use lb_ebpf::abi::Reason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tokio::sync::watch;

use super::defs::{self, Def, Kind};
use super::labels::Labels;
use crate::status::{BackendStatus, HandshakeBucket, Handshakes, ServiceStatus, Status};

/// The collector of everything a status contains.
#[derive(Debug)]
pub(super) struct Snapshot(pub(super) watch::Receiver<Arc<Status>>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = Arc::clone(&self.0.borrow());
        let mut out = Out(&mut encoder);
        backends(&mut out, &status)?;
        vrrp(&mut out, &status)?;
        datapath(&mut out, &status)?;
        super::sync::sync(&mut out, &status)?;
        configuration(&mut out, &status)
    }
}

fn backends(out: &mut Out<'_, '_>, status: &Status) -> fmt::Result {
    let rows: Vec<(&str, &BackendStatus)> =
        status.services.iter().flat_map(|s| s.backends.iter().map(|b| (s.name.as_str(), b))).collect();
    let each =
        |value: fn(&BackendStatus) -> u64| rows.iter().map(move |&(service, b)| ([service, b.name.as_str()], value(b)));
    let both = |value: fn(&BackendStatus) -> (u64, u64)| {
        rows.iter().flat_map(move |&(service, b)| {
            let (inward, outward) = value(b);
            let name = b.name.as_str();
            [([service, name, "in"], inward), ([service, name, "out"], outward)]
        })
    };
    out.family(&defs::BACKEND_UP, each(|b| u64::from(b.state == "up")))?;
    let states = rows.iter().flat_map(|&(service, b)| {
        super::BACKEND_STATES.map(|word| ([service, b.name.as_str(), word], u64::from(b.state == word)))
    });
    out.family(&defs::BACKEND_STATE, states)?;
    out.family(&defs::BACKEND_WEIGHT, each(|b| u64::from(b.weight)))?;
    let weights = rows.iter().map(|&(service, b)| ([service, b.name.as_str()], b.effective_weight));
    out.family(&defs::BACKEND_EFFECTIVE_WEIGHT, weights)?;
    out.family(&defs::BACKEND_MAX_CONNECTIONS, each(|b| u64::from(b.max_connections)).filter(|(_, most)| *most > 0))?;
    out.family(&defs::BACKEND_DRAIN_DEADLINE, status.services.iter().flat_map(deadlines))?;
    out.family(&defs::BACKEND_CONNECTIONS, each(|b| b.connections))?;
    out.family(&defs::BACKEND_CONNECTIONS_TOTAL, each(|b| b.connections_total))?;
    out.family(
        &defs::BACKEND_SYN_RETRIES,
        rows.iter().flat_map(|&(service, b)| {
            let name = b.name.as_str();
            [
                ([service, name, "refused"], b.syns_refused_total),
                ([service, name, "unanswered"], b.syns_unanswered_total),
            ]
        }),
    )?;
    out.histograms(
        &defs::BACKEND_HANDSHAKE_SECONDS,
        rows.iter().map(|&(service, b)| ([service, b.name.as_str()], &b.handshakes)),
    )?;
    out.family(&defs::LOCAL_CONNECTIONS, each(|b| b.local_connections_total))?;
    out.family(&defs::LOCAL_ATTACHED, [([], u64::from(status.local.attached))])?;
    out.family(&defs::BACKEND_BYTES, both(|b| (b.bytes_in, b.bytes_out)))?;
    out.family(&defs::BACKEND_PACKETS, both(|b| (b.packets_in, b.packets_out)))?;
    let ports = rows.iter().filter_map(|&(service, b)| {
        let (ports, name) = (b.source_ports?, b.name.as_str());
        let states = [("in_use", ports.in_use), ("resting", ports.resting), ("free", ports.free())];
        Some(states.map(|(state, value)| ([service, name, state], value)))
    });
    out.family(&defs::BACKEND_SOURCE_PORTS, ports.flatten())?;
    let limits = status.services.iter().map(|s| ([s.name.as_str()], u64::from(s.max_connections)));
    out.family(&defs::SERVICE_MAX_CONNECTIONS, limits.filter(|(_, most)| *most > 0))?;
    out.family(&defs::SERVICE_FAIL_OPEN, status.services.iter().map(|s| ([s.name.as_str()], u64::from(s.fail_open))))
}

/// Of backends that take no new connections; of those that were removed, as long as no other has their name.
fn deadlines(service: &ServiceStatus) -> impl Iterator<Item = ([&str; 2], f64)> {
    let row = |name, deadline| ([service.name.as_str(), name], deadline);
    let configured = service.backends.iter().filter_map(move |b| Some(row(b.name.as_str(), b.drain_deadline?)));
    let is_taken = |name: &str| service.backends.iter().any(|b| b.name == name);
    let left = service.leaving.iter().filter(move |left| !is_taken(&left.name));
    configured.chain(left.map(move |left| row(left.name.as_str(), left.drain_deadline)))
}

fn vrrp(out: &mut Out<'_, '_>, status: &Status) -> fmt::Result {
    out.family(
        &defs::VRRP_STATE,
        status
            .vrrp
            .iter()
            .flat_map(|v| super::VRRP_STATES.map(|state| ([v.name.as_str(), state], u64::from(v.state == state)))),
    )?;
    out.family(&defs::VRRP_STATE_SINCE, status.vrrp.iter().map(|v| ([v.name.as_str()], v.since)))?;
    out.family(&defs::VRRP_PRIORITY, status.vrrp.iter().map(|v| ([v.name.as_str()], u64::from(v.priority))))
}

fn datapath(out: &mut Out<'_, '_>, status: &Status) -> fmt::Result {
    let datapath = &status.datapath;
    // Of every reason, because a rate takes no notice of a series that begins above zero.
    let packets = |reason: &Reason| {
        let row = datapath.packets.iter().find(|row| row.reason == reason.label());
        ([reason.verdict().label(), reason.label()], row.map_or(0, |row| row.packets))
    };
    out.family(&defs::DATAPATH_PACKETS, Reason::ALL.iter().map(packets))?;
    out.family(
        &defs::DATAPATH_INFO,
        status.attached().then_some(([datapath.mode.as_str(), datapath.interface.as_str()], 1_u64)),
    )?;
    out.family(&defs::TABLE_ENTRIES, datapath.tables.iter().map(|t| ([t.table.as_str()], t.entries)))?;
    out.family(&defs::TABLE_CAPACITY, datapath.tables.iter().map(|t| ([t.table.as_str()], t.capacity)))?;
    let told = datapath.tables.iter().filter(|t| t.bytes > 0);
    out.family(&defs::TABLE_BYTES, told.map(|t| ([t.table.as_str()], t.bytes)))?;
    out.family(&defs::DATAPATH_BYTES, (datapath.bytes > 0).then_some(([], datapath.bytes)))
}

fn configuration(out: &mut Out<'_, '_>, status: &Status) -> fmt::Result {
    let config = &status.config;
    out.family(&defs::CONFIG_RELOADS, [(["applied"], config.reloads), (["refused"], config.reload_failures)])?;
    out.family(&defs::CONFIG_GOOD, [([], u64::from(config.last_error.is_none()))])?;
    out.family(&defs::CONFIG_APPLIED, [([], config.applied_at)])?;
    out.family(&defs::CONFIG_CHANGES, [([], config.changes.len() as u64)])
}

/// Where families are written.
pub(super) struct Out<'a, 'e>(pub(super) &'a mut DescriptorEncoder<'e>);

impl Out<'_, '_> {
    /// Writes durations in buckets.
    pub(super) fn histograms<'s, const N: usize>(
        &mut self, def: &Def, rows: impl IntoIterator<Item = ([&'s str; N], &'s Handshakes)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let help = format!("{}.", def.help);
        let mut family = self.0.encode_descriptor(def.name, &help, None, MetricType::Histogram)?;
        for (values, times) in rows {
            let up_to = |bucket: &HandshakeBucket| bucket.up_to.unwrap_or(f64::INFINITY);
            let buckets: Vec<_> = times.buckets.iter().map(|bucket| (up_to(bucket), bucket.handshakes)).collect();
            let count = buckets.iter().map(|(_, handshakes)| handshakes).sum();
            let labels = Labels::of(def, &values);
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(times.seconds, count, &buckets, None)?;
        }
        Ok(())
    }

    /// Writes a family; nothing at all when it has no series.
    pub(super) fn family<'s, const N: usize, V: EncodeGaugeValue>(
        &mut self, def: &Def, rows: impl IntoIterator<Item = ([&'s str; N], V)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let kind = match def.kind {
            Kind::Gauge => MetricType::Gauge,
            Kind::Counter => MetricType::Counter,
            Kind::Histogram => MetricType::Histogram,
        };
        let help = format!("{}.", def.help);
        let mut family = self.0.encode_descriptor(def.name, &help, None, kind)?;
        for (values, value) in rows {
            if N == 0 {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&Labels::of(def, &values))?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}
