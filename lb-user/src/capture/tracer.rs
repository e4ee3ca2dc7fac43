//! Two small programs beside one of the datapath's, run by the kernel before it and behind it (fentry and fexit, Linux 5.5):
//! each hands over the packet as it is. The datapath knows nothing of them, and pays nothing while there are none.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use super::btf::Types;
use super::pairing::{Kind, Way};

/// Bytes of a packet that are handed over.
pub(super) const SNAP: u32 = 2048;
/// Bytes of what is told before them: time, length, bytes that follow, action, and which program was traced on which side.
pub(super) const META: usize = 24;

// linux/bpf.h
const PROG_LOAD: u32 = 5;
const PROG_GET_FD_BY_ID: u32 = 13;
const INFO_BY_FD: u32 = 15;
const RAW_TRACEPOINT_OPEN: u32 = 17;
const BTF_GET_FD_BY_ID: u32 = 19;
const TYPE_SCHED_CLS: u32 = 3;
const TYPE_XDP: u32 = 6;
const TYPE_TRACING: u32 = 26;
const TRACE_FENTRY: u32 = 24;
const TRACE_FEXIT: u32 = 25;
const KTIME_GET_NS: i32 = 5;
const SKB_OUTPUT: i32 = 111;
const XDP_OUTPUT: i32 = 121;

/// A program of the datapath, as the kernel knows it.
#[derive(Debug)]
pub(super) struct Target {
    fd: OwnedFd,
    /// How its return value is to be read.
    pub(super) kind: Kind,
    /// Its name.
    pub(super) name: String,
    btf_id: u32,
}

impl Target {
    /// The program with this id; `None`: it is none that sees packets.
    pub(super) fn open(id: u32) -> io::Result<Option<Self>> {
        let mut attributes = Attributes::default();
        attributes.set(0, &id.to_ne_bytes());
        let fd = attributes.descriptor(PROG_GET_FD_BY_ID)?;
        // `struct bpf_prog_info` up to the number of its type information.
        let mut info = [0_u8; 132];
        describe(fd.as_fd(), &mut info)?;
        let kind = match word(&info, 0) {
            TYPE_XDP => Kind::Xdp,
            TYPE_SCHED_CLS => Kind::Tc,
            _ => return Ok(None),
        };
        let name = info.get(64..80).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        Ok(Some(Self { fd, kind, name, btf_id: word(&info, 128) }))
    }

    /// The number of its own function among its types.
    fn function(&self) -> io::Result<u32> {
        let mut attributes = Attributes::default();
        attributes.set(0, &self.btf_id.to_ne_bytes());
        let fd = attributes.descriptor(BTF_GET_FD_BY_ID)?;
        // `struct bpf_btf_info`: where the types are to be written, and how many bytes they are.
        let mut info = [0_u8; 32];
        describe(fd.as_fd(), &mut info)?;
        let mut types = vec![0_u8; word(&info, 8) as usize];
        let mut info = [0_u8; 32];
        put(&mut info, 0, &(types.as_mut_ptr().expose_provenance() as u64).to_ne_bytes());
        put(&mut info, 8, &(types.len() as u32).to_ne_bytes());
        describe(fd.as_fd(), &mut info)?;
        let found = Types::read(&types).and_then(|types| types.function(&self.name));
        found.ok_or_else(|| io::Error::other("its type information does not name it"))
    }
}

/// A program that runs beside another as long as this lives.
#[derive(Debug)]
pub(super) struct Tracer {
    _link: OwnedFd,
}

impl Tracer {
    /// Begins to tell what enters a program or leaves it; `number` is told with it.
    pub(super) fn attach(target: &Target, number: u8, way: Way, output: BorrowedFd<'_>) -> io::Result<Self> {
        let length = match target.kind {
            Kind::Xdp => None,
            Kind::Tc => Some(length_of_buffer()?),
        };
        let code = code(way, number, length, output.as_raw_fd());
        let license = c"GPL";
        let mut log = vec![0_u8; 16_384];
        let mut attributes = Attributes::default();
        let address = |at: *const u8| (at.expose_provenance() as u64).to_ne_bytes();
        attributes.set(0, &TYPE_TRACING.to_ne_bytes());
        attributes.set(4, &(code.len() as u32).to_ne_bytes());
        attributes.set(8, &address(code.as_ptr().cast()));
        attributes.set(16, &address(license.as_ptr().cast()));
        attributes.set(24, &1_u32.to_ne_bytes());
        attributes.set(28, &(log.len() as u32).to_ne_bytes());
        attributes.set(32, &address(log.as_mut_ptr()));
        attributes.set(48, b"xvip_capture");
        attributes.set(68, &if way == Way::In { TRACE_FENTRY } else { TRACE_FEXIT }.to_ne_bytes());
        attributes.set(108, &target.function()?.to_ne_bytes());
        attributes.set(112, &target.fd.as_raw_fd().to_ne_bytes());
        let program = attributes.descriptor(PROG_LOAD).map_err(|error| {
            let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
            let said = String::from_utf8_lossy(said);
            let last = said.lines().rfind(|line| !line.starts_with("processed ")).unwrap_or_default().to_owned();
            if last.is_empty() { error } else { io::Error::new(error.kind(), format!("{error}: {last}")) }
        })?;
        let mut attributes = Attributes::default();
        attributes.set(8, &program.as_raw_fd().to_ne_bytes());
        Ok(Self { _link: attributes.descriptor(RAW_TRACEPOINT_OPEN)? })
    }
}

/// Where a socket buffer has its length.
fn length_of_buffer() -> io::Result<u32> {
    let types = fs::read("/sys/kernel/btf/vmlinux")?;
    let found = Types::read(&types).and_then(|types| types.member("sk_buff", "len"));
    found.ok_or_else(|| io::Error::other("the kernel's type information has no length of a socket buffer"))
}

/// An instruction.
type Code = [u8; 8];

const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Code {
    let ([a, b], [c, d, e, f]) = (offset.to_le_bytes(), value.to_le_bytes());
    [code, from << 4 | to, a, b, c, d, e, f]
}

/// The program. `length`: where a socket buffer has its length; the other kind of packet has two ends.
fn code(way: Way, number: u8, length: Option<u32>, output: i32) -> Vec<Code> {
    const LOAD: u8 = 0x79;
    const LOAD_WORD: u8 = 0x61;
    const STORE: u8 = 0x7b;
    const STORE_WORD: u8 = 0x63;
    const STORE_VALUE: u8 = 0x62;
    const COPY: u8 = 0xbf;
    const SET: u8 = 0xb7;
    const ADD: u8 = 0x07;
    const SUBTRACT: u8 = 0x1f;
    const SHIFT_LEFT: u8 = 0x67;
    const OR: u8 = 0x4f;
    const WIDE: u8 = 0x18;
    const CALL: u8 = 0x85;
    const UP_TO: u8 = 0xb5;
    const EXIT: u8 = 0x95;
    const DESCRIPTOR: u8 = 1;
    const NO_ACTION: i32 = -1;
    const AT: i16 = -(META as i16);
    let mut all = vec![
        instruction(COPY, 6, 1, 0, 0),
        // The traced program's context, as the kernel has it.
        instruction(LOAD, 7, 6, 0, 0),
    ];
    match length {
        // `struct xdp_buff` begins with the two ends of the packet.
        None => all.extend([
            instruction(LOAD, 8, 7, 8, 0),
            instruction(LOAD, 9, 7, 0, 0),
            instruction(SUBTRACT, 8, 9, 0, 0),
        ]),
        Some(at) => all.push(instruction(LOAD_WORD, 8, 7, at as i16, 0)),
    }
    all.extend([
        instruction(CALL, 0, 0, 0, KTIME_GET_NS),
        instruction(STORE, 10, 0, AT, 0),
        instruction(STORE_WORD, 10, 8, AT + 8, 0),
        instruction(UP_TO, 8, 0, 1, SNAP as i32),
        instruction(SET, 8, 0, 0, SNAP as i32),
        instruction(STORE_WORD, 10, 8, AT + 12, 0),
    ]);
    match way {
        Way::In => all.push(instruction(STORE_VALUE, 10, 0, AT + 16, NO_ACTION)),
        Way::Out => all.extend([instruction(LOAD, 0, 6, 8, 0), instruction(STORE_WORD, 10, 0, AT + 16, 0)]),
    }
    let which = i32::from(number) << 1 | i32::from(way == Way::Out);
    all.extend([
        instruction(STORE_VALUE, 10, 0, AT + 20, which),
        // Flags: this processor's place in the table, and how much of the packet is wanted.
        instruction(COPY, 3, 8, 0, 0),
        instruction(SHIFT_LEFT, 3, 0, 0, 32),
        instruction(WIDE, 1, 0, 0, -1),
        instruction(0, 0, 0, 0, 0),
        instruction(OR, 3, 1, 0, 0),
        instruction(COPY, 1, 7, 0, 0),
        instruction(WIDE, 2, DESCRIPTOR, 0, output),
        instruction(0, 0, 0, 0, 0),
        instruction(COPY, 4, 10, 0, 0),
        instruction(ADD, 4, 0, 0, i32::from(AT)),
        instruction(SET, 5, 0, 0, META as i32),
        instruction(CALL, 0, 0, 0, if length.is_some() { SKB_OUTPUT } else { XDP_OUTPUT }),
        instruction(SET, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    all
}

/// A table of perf buffers, one for each processor.
pub(super) fn outputs(processors: u32) -> io::Result<OwnedFd> {
    const MAP_CREATE: u32 = 0;
    const PERF_EVENT_ARRAY: u32 = 4;
    let mut attributes = Attributes::default();
    for (at, value) in [PERF_EVENT_ARRAY, 4, 4, processors].into_iter().enumerate() {
        attributes.set(4 * at, &value.to_ne_bytes());
    }
    attributes.descriptor(MAP_CREATE)
}

/// `union bpf_attr`, as far as any of these commands reads it.
struct Attributes([u8; 120]);

impl Default for Attributes {
    fn default() -> Self {
        Self([0; 120])
    }
}

impl Attributes {
    fn set(&mut self, at: usize, value: &[u8]) {
        put(&mut self.0, at, value);
    }

    fn call(&mut self, command: u32) -> io::Result<i32> {
        // SAFETY: the attributes are as long as is said, and what they point to is alive in the callers.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
    }

    fn descriptor(&mut self, command: u32) -> io::Result<OwnedFd> {
        let fd = self.call(command)?;
        // SAFETY: the kernel has just made it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Asks what the kernel says of an object.
fn describe(fd: BorrowedFd<'_>, info: &mut [u8]) -> io::Result<()> {
    let mut attributes = Attributes::default();
    attributes.set(0, &fd.as_raw_fd().to_ne_bytes());
    attributes.set(4, &(info.len() as u32).to_ne_bytes());
    attributes.set(8, &(info.as_mut_ptr().expose_provenance() as u64).to_ne_bytes());
    attributes.call(INFO_BY_FD).map(drop)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at + value.len()) {
        to.copy_from_slice(value);
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_ne_bytes(*word)).unwrap_or_default()
}
