//! bpf(2) for what no loader does: programs and maps that come from no object, links of somebody else, what is attached
//! where, and runs on a frame of ours.

use std::ffi::{CString, c_long};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

// linux/bpf.h: commands
const MAP_CREATE: c_long = 0;
const MAP_UPDATE: c_long = 2;
const PROG_LOAD: c_long = 5;
const OBJ_GET: c_long = 7;
const PROG_RUN: c_long = 10;
const PROG_BY_ID: c_long = 13;
const MAP_BY_ID: c_long = 14;
const INFO_BY_FD: c_long = 15;
const PROG_QUERY: c_long = 16;
const LINK_CREATE: c_long = 28;
const LINK_DETACH: c_long = 34;

/// `BPF_MAP_TYPE_ARRAY`.
pub const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_PROG_ARRAY`.
pub const PROGRAM_ARRAY: u32 = 3;

/// What kind of program, and where it may be attached: `BPF_PROG_TYPE_*`, `BPF_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    kind: u32,
    attach_type: u32,
}

/// XDP on an interface.
pub const XDP: Place = Place { kind: 6, attach_type: 37 };
/// What enters an interface, by tcx.
pub const TCX_INGRESS: Place = Place { kind: 3, attach_type: 46 };
/// connect(2) over IPv4 in a cgroup.
pub const CONNECT4: Place = Place { kind: 18, attach_type: 10 };

/// One instruction, as the kernel reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What is done.
    pub code: u8,
    /// Destination, and the source in the upper half.
    pub registers: u8,
    /// Of an address or a jump.
    pub offset: i16,
    /// A number.
    pub immediate: i32,
}

/// The program that returns this at once.
#[must_use]
pub const fn returning(immediate: i32) -> [Instruction; 2] {
    [
        Instruction { code: 0xb7, registers: 0, offset: 0, immediate },
        Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 },
    ]
}

#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// Makes a map with keys of 32 bits.
pub fn create_map(kind: u32, value_size: usize, entries: u32) -> Result<OwnedFd> {
    let mut create = Create { kind, key_size: 4, value_size: u32::try_from(value_size)?, max_entries: entries };
    made(MAP_CREATE, &mut create).context("making a map")
}

#[repr(C)]
struct Update {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets an entry of a map whose values have the size of `V`.
pub fn update_map<V>(map: BorrowedFd<'_>, key: u32, value: &V) -> Result<()> {
    let mut update = Update {
        map: number(map),
        pad: 0,
        key: std::ptr::from_ref(&key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE, &mut update).context("writing a map").map(drop)
}

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
}

/// Loads a program; of its name 15 bytes count.
pub fn load(place: Place, name: &str, code: &[Instruction]) -> Result<OwnedFd> {
    let mut log = vec![0_u8; 1 << 16];
    let mut load = Load {
        kind: place.kind,
        instruction_count: u32::try_from(code.len())?,
        instructions: code.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 1,
        log_size: u32::try_from(log.len())?,
        log: log.as_mut_ptr() as u64,
        attach_type: place.attach_type,
        ..Load::default()
    };
    for (to, from) in load.name.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    let loaded = made(PROG_LOAD, &mut load);
    let said = || String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
    loaded.with_context(|| format!("the kernel refused program {name}: {}", said()))
}

#[repr(C)]
#[derive(Default)]
struct Link {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    /// For tcx: the program or link it is put beside, and the revision expected; none.
    relative: [u32; 4],
}

/// Attaches a program to an interface, by its index, or to a cgroup, by its descriptor; until the link is closed.
pub fn attach(place: Place, program: BorrowedFd<'_>, target: u32, flags: u32) -> Result<OwnedFd> {
    let mut link = Link { program: number(program), target, attach_type: place.attach_type, flags, ..Link::default() };
    made(LINK_CREATE, &mut link).context("attaching a program")
}

/// Takes the program of a pinned link off its device, as `bpftool link detach` does; the pin stays.
pub fn detach(pin: &Path) -> Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let link = made(OBJ_GET, &mut (path.as_ptr() as u64)).with_context(|| format!("opening {}", pin.display()))?;
    bpf(LINK_DETACH, &mut (link.as_raw_fd() as u32)).with_context(|| format!("detaching {}", pin.display())).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
    rest: [u64; 4],
}

/// The kernel's ids of the programs at a place of a cgroup, by its descriptor, or of an interface, by its index; 64 at most.
pub fn attached(place: Place, target: u32) -> Result<Vec<u32>> {
    let mut ids = [0_u32; 64];
    let mut query = Query {
        target,
        attach_type: place.attach_type,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query).context("asking for the programs")?;
    Ok(ids.into_iter().take(query.count as usize).collect())
}

/// Attributes of the commands that open by number, padded to what they are measured by.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    others: [u32; 2],
}

#[repr(C)]
struct Ask {
    of: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    machine_length: u32,
    translated_length: u32,
    machine_code: u64,
    translated: u64,
    loaded_at: u64,
    user: u32,
    map_count: u32,
    maps: u64,
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    kind: u32,
    id: u32,
    sizes: [u32; 3],
    flags: u32,
    name: [u8; 16],
}

fn info<I>(of: BorrowedFd<'_>, info: &mut I) -> io::Result<()> {
    let length = size_of::<I>() as u32;
    bpf(INFO_BY_FD, &mut Ask { of: number(of), length, info: std::ptr::from_mut(info) as u64 }).map(drop)
}

/// A program as the kernel runs it, without what it has found that no packet can reach.
#[derive(Debug, Clone)]
pub struct Translated {
    /// Its code.
    pub code: Vec<Instruction>,
    /// Number and name of each map that it had to do with when it was loaded.
    pub maps: Vec<(u32, String)>,
}

impl Translated {
    /// The program of this number.
    pub fn of(id: u32) -> Result<Self> {
        let program = made(PROG_BY_ID, &mut ById { id, ..ById::default() }).context("opening a program")?;
        let mut sizes = ProgramInfo::default();
        info(program.as_fd(), &mut sizes).context("measuring a program")?;
        let nothing = Instruction { code: 0, registers: 0, offset: 0, immediate: 0 };
        let mut code = vec![nothing; sizes.translated_length as usize / size_of::<Instruction>()];
        let mut ids = vec![0_u32; sizes.map_count as usize];
        let mut wanted = ProgramInfo {
            translated_length: sizes.translated_length,
            translated: code.as_mut_ptr() as u64,
            map_count: sizes.map_count,
            maps: ids.as_mut_ptr() as u64,
            ..ProgramInfo::default()
        };
        info(program.as_fd(), &mut wanted).context("reading a program")?;
        let maps = ids.into_iter().map(|id| Ok((id, name_of_map(id)?))).collect::<Result<_>>()?;
        Ok(Self { code, maps })
    }

    /// How often the code names a map: each use loads its address, as `BPF_PSEUDO_MAP_FD` with its number.
    #[must_use]
    pub fn uses(&self, map: &str) -> usize {
        let is_it = |id: i32| self.maps.iter().any(|(of, name)| *of == id.cast_unsigned() && name == map);
        let names = |of: &&Instruction| of.code == 0x18 && of.registers >> 4 == 1 && is_it(of.immediate);
        self.code.iter().filter(names).count()
    }
}

fn name_of_map(id: u32) -> Result<String> {
    let map = made(MAP_BY_ID, &mut ById { id, ..ById::default() }).context("opening a map")?;
    let mut found = MapInfo::default();
    info(map.as_fd(), &mut found).context("reading of a map")?;
    let name = found.name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    result: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context: [u64; 3],
    flags: u32,
    cpu: u32,
    batch: u32,
    pad: u32,
}

/// How a repeated run went.
#[derive(Debug, Clone, Copy)]
pub struct Ran {
    /// What the last run returned.
    pub action: u32,
    /// Mean duration of one run, in whole nanoseconds, as the kernel measured it.
    pub nanoseconds: u32,
}

/// Runs a program `repeat` times on one frame, which it may change.
pub fn run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<Ran> {
    let mut run = Run {
        program: number(program),
        size_in: u32::try_from(frame.len())?,
        data_in: frame.as_ptr() as u64,
        repeat,
        ..Run::default()
    };
    bpf(PROG_RUN, &mut run).context("running a program")?;
    Ok(Ran { action: run.result, nanoseconds: run.duration })
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd() as u32
}

/// For commands that return a descriptor.
fn made<A>(command: c_long, attributes: &mut A) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<A>(command: c_long, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the attributes have the kernel's layout for this command, the kernel takes what is beyond them as zero, and every
    // pointer in them is to memory that outlives the call and is as large as they say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
