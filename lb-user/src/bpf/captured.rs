//! Packets that the datapath shows while it is loaded for that.

use aya::maps::perf::{PerfEvent, PerfEventArrayBuffer};
use aya::maps::{Map, MapData, PerfEventArray};
use aya::util::online_cpus;
use lb_ebpf::abi::map;

use super::TableError;
use super::attach::directory_of;
use super::tables::at;

/// Pages of the buffer of each CPU: 1 MiB with pages of 4 KiB.
const PAGES: usize = 256;

/// What the datapath shows, a buffer for each CPU. The datapath stops to write there when this is gone.
pub struct CapturedPackets {
    buffers: Vec<(usize, PerfEventArrayBuffer<MapData>)>,
    /// What the buffers hang on.
    _array: PerfEventArray<MapData>,
}

/// A piece of news.
#[derive(Debug)]
pub enum Show<'a> {
    /// A packet: `lb_ebpf::abi::Captured`, and its bytes.
    Packet(&'a [u8]),
    /// So many did not fit.
    Lost(u64),
}

impl CapturedPackets {
    /// What the agent of this node has loaded for it.
    ///
    /// # Errors
    /// When it has not, or the kernel refuses.
    pub fn pinned(node: &str) -> Result<Self, TableError> {
        let failed = || at(map::CAPTURED);
        let data = MapData::from_pin(directory_of(node).join(map::CAPTURED)).map_err(failed())?;
        let mut array: PerfEventArray<_> = Map::from_map_data(data).and_then(TryInto::try_into).map_err(failed())?;
        let whole = |source: std::io::Error| TableError::Whole { table: map::CAPTURED, source };
        let mut buffers = Vec::new();
        for cpu in online_cpus().map_err(|(_, error)| whole(error))? {
            let buffer = array.open(cpu, Some(PAGES)).map_err(|error| whole(std::io::Error::other(error)))?;
            buffers.push((cpu as usize, buffer));
        }
        Ok(Self { buffers, _array: array })
    }

    /// Hands on all that was shown since, in its order for each CPU.
    pub fn drain(&mut self, mut each: impl FnMut(usize, Show<'_>)) {
        let mut joined = Vec::new();
        for (cpu, buffer) in &mut self.buffers {
            buffer.for_each(|event| match event {
                PerfEvent::Sample { head, tail: [] } => each(*cpu, Show::Packet(head)),
                PerfEvent::Sample { head, tail } => {
                    joined.clear();
                    joined.extend_from_slice(head);
                    joined.extend_from_slice(tail);
                    each(*cpu, Show::Packet(&joined));
                }
                PerfEvent::Lost { count } => each(*cpu, Show::Lost(count)),
            });
        }
    }
}
