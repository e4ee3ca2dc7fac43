//! Counters of the datapath, summed over CPUs.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use lb_ebpf::abi::{Correction, Load, Pulse, Reason, Traffic, map};

use super::tables::{TableError, at, take};

/// Packets by reason.
pub type PacketCounts = BTreeMap<Reason, u64>;

/// The tables of counters.
pub struct Counters {
    packets: PerCpuArray<MapData, u64>,
    traffic: PerCpuArray<MapData, Traffic>,
    local_opened: PerCpuArray<MapData, u64>,
    loads: Array<MapData, Load>,
    corrections: Array<MapData, Correction>,
    pulses: Array<MapData, Pulse>,
    cpus: usize,
}

impl Counters {
    /// Takes them out of the loaded object.
    ///
    /// # Errors
    /// When the object is not ours.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, TableError> {
        Ok(Self {
            packets: take(ebpf, map::PACKETS)?,
            traffic: take(ebpf, map::TRAFFIC)?,
            local_opened: take(ebpf, map::LOCAL_OPENED)?,
            loads: take(ebpf, map::LOADS)?,
            corrections: take(ebpf, map::CORRECTIONS)?,
            pulses: take(ebpf, map::PULSES)?,
            cpus: nr_cpus().map_err(|(what, error)| TableError::Cpus(format!("{what}: {error}")))?,
        })
    }

    /// Begins anew with the traffic and the connections of a slot.
    pub(super) fn reset(&mut self, slot: u32) -> Result<(), TableError> {
        self.pulses.set(slot, Pulse::default(), 0).map_err(at(map::PULSES))?;
        let zero = PerCpuValues::try_from(vec![Traffic::default(); self.cpus])
            .map_err(|error| TableError::Cpus(error.to_string()))?;
        self.traffic.set(slot, zero, 0).map_err(at(map::TRAFFIC))?;
        self.loads.set(slot, Load::default(), 0).map_err(at(map::LOADS))?;
        self.corrections.set(slot, Correction::default(), 0).map_err(at(map::CORRECTIONS))?;
        let zero = PerCpuValues::try_from(vec![0; self.cpus]).map_err(|error| TableError::Cpus(error.to_string()))?;
        self.local_opened.set(slot, zero, 0).map_err(at(map::LOCAL_OPENED))
    }

    /// Packets since the tables were made, every reason.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn packets(&self) -> Result<PacketCounts, TableError> {
        let count = |reason: &Reason| {
            let values = self.packets.get(&(*reason as u32), 0).map_err(at(map::PACKETS))?;
            Ok((*reason, values.iter().sum()))
        };
        Reason::ALL.iter().map(count).collect()
    }

    /// Connections of this node's own clients to the backend in a slot, since the slot was given to it.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn local_connections(&self, slot: u32) -> Result<u64, TableError> {
        let values: PerCpuValues<u64> = self.local_opened.get(&slot, 0).map_err(at(map::LOCAL_OPENED))?;
        Ok(values.iter().sum())
    }

    /// How the backend in a slot answers, counted since the slot was given to it.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn pulse(&self, slot: u32) -> Result<Pulse, TableError> {
        self.pulses.get(&slot, 0).map_err(at(map::PULSES))
    }

    /// Traffic of the backend in a slot, since the slot was given to it.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn traffic(&self, slot: u32) -> Result<Traffic, TableError> {
        let values: PerCpuValues<Traffic> = self.traffic.get(&slot, 0).map_err(at(map::TRAFFIC))?;
        Ok(values.iter().fold(Traffic::default(), |sum, cpu| Traffic {
            opened: sum.opened + cpu.opened,
            packets_in: sum.packets_in + cpu.packets_in,
            bytes_in: sum.bytes_in + cpu.bytes_in,
            packets_out: sum.packets_out + cpu.packets_out,
            bytes_out: sum.bytes_out + cpu.bytes_out,
        }))
    }
}
