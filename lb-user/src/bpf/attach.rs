//! Loads the object, chooses how to attach it, attaches and pins it; adopts what an earlier agent left.

pub mod choose;
mod guard;
mod home;
mod link;
mod loaded;
mod observe;
mod program;
mod redirect;
mod six;
mod statistics;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use aya::maps::MapError;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, EbpfError};
use lb_ebpf::abi::{Node, VERSION, map};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use tracing::{info, warn};

use super::footprint::Footprint;
use super::layout::{Pin, Sizes, shapes};
use crate::config;
use choose::Choice;
pub use loaded::Loaded;
use loaded::redirects;
pub(crate) use observe::facts;
use program::Program;
pub use six::join as join_six;

const BPFFS: &str = "/sys/fs/bpf";
const PROGRAM: &str = "xvip";
const TC_PROGRAM: &str = "xvip_tc";
const LEAVE_PROGRAM: &str = "xvip_leave";
/// Maps that are written anew at every start, so that it does not matter whether an earlier agent had them.
const ANEW: [&str; 3] = [map::LEASES, map::SIX, map::TC_SIX];

/// What to load and where to attach it.
#[derive(Debug, Clone)]
pub struct Spec {
    /// `node.name`, which names the directory of pins.
    pub node: String,
    /// The interface.
    pub device: Device,
    /// Which mode is asked for.
    pub datapath: config::Datapath,
    /// What the connection tables hold.
    pub sizes: Sizes,
    /// Whether flows are reported as they open and close.
    pub log_flows: bool,
    /// Bytes of each packet to show as it enters and leaves; 0: none are shown.
    pub capture: u32,
}

/// An interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Name.
    pub name: String,
    /// Index.
    pub index: u32,
    /// Kind, for virtual devices: `veth`, `bridge`, ...
    pub kind: Option<String>,
}

/// How the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// XDP in the stack, before anything else there.
    Generic,
    /// TC (tcx): in the stack, on whole socket buffers.
    Tc,
}

impl Mode {
    /// As in status and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "xdp",
            Self::Generic => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

/// How it was attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Interface.
    pub device: Device,
    /// Mode.
    pub mode: Mode,
    /// Whether packets are sent by redirecting them to the interface instead of XDP_TX.
    pub redirect: bool,
    /// Why this way, for people.
    pub reason: String,
    /// The kernel's id of the program.
    pub program_id: u32,
}

/// Why the datapath cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The binary was built without it.
    #[error(
        "this binary was built with XVIP_EBPF_STUB=1 and has no datapath inside; build it with `cargo xtask build`"
    )]
    Stub,
    /// No bpffs.
    #[error(
        "{BPFFS} is no BPF file system and mounting one failed ({0}): run `mount -t bpf bpf {BPFFS}`, and enter a namespace with nsenter, not `ip netns exec`"
    )]
    NoBpffs(nix::errno::Errno),
    /// The directory of pins is not ours.
    #[error("{0} belongs to another user or others may write to it; remove it")]
    ForeignDirectory(PathBuf),
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        #[source]
        source: io::Error,
    },
    /// The object did not load.
    #[error(
        "the datapath did not load; it needs a kernel of 5.15 or newer and CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: {0}"
    )]
    Load(#[from] EbpfError),
    /// The kernel has no memory for a table.
    #[error(
        "no memory for table {table} of {max_flows} flows and {max_half_open} handshakes ({source}): lower node.max_flows or \
         node.max_half_open, or allow the agent more memory (MemoryMax= of its unit)"
    )]
    Memory {
        /// Which.
        table: String,
        /// `node.max_flows`
        max_flows: u32,
        /// `node.max_half_open`
        max_half_open: u32,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The program was refused.
    #[error(
        "the kernel refused the datapath; it needs a kernel of 5.15 or newer and CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: {0}"
    )]
    Program(#[from] ProgramError),
    /// A link could not be pinned or read.
    #[error("the attachment could not be pinned: {0}")]
    Link(String),
    /// No mode worked.
    #[error("cannot attach to {interface}: {why}")]
    Attach {
        /// Interface.
        interface: String,
        /// Each mode tried, with its refusal and a remedy.
        why: String,
    },
}

/// A loaded and attached datapath.
pub struct Datapath {
    ebpf: Ebpf,
    directory: PathBuf,
    attachment: Attachment,
    /// The kernel's id of the program that answers of this node's own backends pass, while it is attached.
    leaving: Option<u32>,
    guard: guard::Guard,
    /// The same of the program on the loopback interface.
    home: Option<u32>,
    capture: u32,
    tables: Option<u32>,
}

impl Datapath {
    /// Loads and attaches.
    ///
    /// Tables that an earlier agent of this node left are used again when they have the same shape, and the program
    /// is exchanged in one step; flows notice nothing.
    ///
    /// # Errors
    /// See [`DatapathError`]; what was attached before stays.
    pub fn open(spec: Spec) -> Result<Self, DatapathError> {
        Loaded::load(spec)?.attach(None)
    }

    /// Bytes that it shows of each packet.
    #[must_use]
    pub fn capture(&self) -> u32 {
        self.capture
    }

    /// The kernel's number of its tables, all of which are made anew where one is; none where it does not tell.
    #[must_use]
    pub fn tables(&self) -> Option<u32> {
        self.tables
    }

    /// How it was attached.
    #[must_use]
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// The maps, to be taken out of it.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// What the tables take of memory.
    pub(crate) fn footprint(&self) -> Footprint {
        Footprint::open(&self.directory)
    }

    /// Whether the program is still attached to the device.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        let Attachment { device, mode, program_id, .. } = &self.attachment;
        let holds = |path: &Path, program: u32| link::holds(path, program, device.index);
        holds(&link_path(&self.directory, *mode, device), *program_id)
            && self.leaving.is_none_or(|program| holds(&leave_path(&self.directory, device), program))
    }

    /// Attaches what gives answers of this node's own backends the VIP for their source, or detaches it; nothing is
    /// done where that is so already.
    ///
    /// # Errors
    /// When the kernel refuses, with a remedy.
    pub fn answer_for_own(&mut self, wanted: bool) -> Result<(), DatapathError> {
        let device = &self.attachment.device;
        let path = leave_path(&self.directory, device);
        // An earlier agent may have had another configuration.
        if wanted && self.leaving.is_some() || !wanted && !path.exists() {
            return Ok(());
        }
        if !wanted {
            fs::remove_file(&path).map_err(|source| DatapathError::Io { path, source })?;
            self.leaving = None;
            info!(interface = device.name, "no backend is this node itself any more: what leaves is not looked at");
            return Ok(());
        }
        let mut program = Program::Tc(tc(&mut self.ebpf, LEAVE_PROGRAM)?, TcAttachType::Egress);
        attach_at(&mut program, device, &path)?.map_err(|why| {
            let why = format!("a backend is this node itself, whose answers leave by TC: {why}");
            DatapathError::Attach { interface: device.name.clone(), why }
        })?;
        self.leaving = Some(program.id()?);
        info!(interface = device.name, "a backend is this node itself: its answers get the VIP for their source");
        Ok(())
    }

    /// Programs of others that see packets before ours, in their order. Only TC has any.
    #[must_use]
    pub fn ahead(&self) -> Vec<String> {
        match self.attachment.mode {
            Mode::Tc => observe::ahead(self.attachment.device.index, self.attachment.program_id),
            Mode::Native | Mode::Generic => Vec::new(),
        }
    }
}

/// Pins what packets are shown by, or removes what an earlier one was shown by.
fn show(ebpf: &Ebpf, wanted: bool, directory: &Path) -> Result<(), DatapathError> {
    let path = directory.join(map::CAPTURED);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(DatapathError::Io { path, source }),
        _ => {}
    }
    if wanted {
        let array = ebpf.map(map::CAPTURED).ok_or(DatapathError::Stub)?;
        array.pin(&path).map_err(|error| DatapathError::Link(error.to_string()))?;
    }
    Ok(())
}

/// Tells that memory is lacking where it is.
fn no_memory(error: EbpfError, Sizes { max_flows, max_half_open }: Sizes) -> DatapathError {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error })
            if io_error.kind() == io::ErrorKind::OutOfMemory =>
        {
            DatapathError::Memory { table: name, max_flows, max_half_open, source: io_error }
        }
        error => DatapathError::Load(error),
    }
}

/// Whether a program is pinned for this node, by this agent or an earlier one.
#[must_use]
pub fn is_pinned(node: &str) -> bool {
    fs::read_dir(directory_of(node))
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|e| is_link(&e.path()))))
}

/// Detaches the program of a node and removes all its pins: the host as it was.
///
/// # Errors
/// When one cannot be removed.
pub fn flush(node: &str) -> Result<(), DatapathError> {
    let directory = directory_of(node);
    if !directory.exists() {
        return Ok(());
    }
    let directory = directory.as_path();
    let io = |source| DatapathError::Io { path: directory.to_owned(), source };
    // The attachment first: a program without tables would forward nothing.
    let mut entries: Vec<_> = fs::read_dir(directory)
        .map_err(io)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(io)?;
    entries.sort_by_key(|path| !is_link(path));
    for path in entries {
        fs::remove_file(&path).map_err(|source| DatapathError::Io { path, source })?;
    }
    fs::remove_dir(directory).map_err(io)?;
    // The parent goes with the last node; others may still be in it.
    if let Some(parent) = directory.parent() {
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

fn is_link(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("link-"))
}

fn is_xdp_link(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("link-xdp"))
}

fn leave_path(directory: &Path, device: &Device) -> PathBuf {
    directory.join(format!("link-leave-{}", pin_name(&device.name)))
}

fn has_bpffs() -> bool {
    statfs(BPFFS).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn directory_of(node: &str) -> PathBuf {
    Path::new(BPFFS).join("xvip").join(pin_name(node))
}

/// Mounts the file system of pins unless it is there. systemd does at boot; a container or a minimal system may not have it yet.
///
/// # Errors
/// When it cannot be mounted, for want of CAP_SYS_ADMIN for one.
pub fn provide_file_system() -> Result<(), DatapathError> {
    if !has_bpffs() {
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700")).map_err(DatapathError::NoBpffs)?;
        info!("mounted a BPF file system on {BPFFS}; it stays, as systemd would leave it");
    }
    Ok(())
}

/// The directory of this node's pins, made if it is not there.
fn directory(node: &str) -> Result<PathBuf, DatapathError> {
    provide_file_system()?;
    let directory = directory_of(node);
    let io = |source| DatapathError::Io { path: directory.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(io)?;
    let meta = fs::symlink_metadata(&directory).map_err(io)?;
    let ours = meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o022 == 0;
    if ours { Ok(directory) } else { Err(DatapathError::ForeignDirectory(directory)) }
}

/// Where each map is pinned; pins of another shape or version are removed first, all of them, because a flow of one
/// table means nothing beside backends of another.
fn usable_pins(directory: &Path, sizes: Sizes) -> Result<Vec<(&'static str, PathBuf)>, DatapathError> {
    let shapes = shapes(sizes);
    let (mut misfit, mut fitting) = (None, 0);
    let lasting = shapes.iter().filter(|shape| !ANEW.contains(&shape.name)).count();
    for shape in &shapes {
        let path = directory.join(shape.name);
        match shape.compare(&path).map_err(|source| DatapathError::Io { path: path.clone(), source })? {
            Pin::Other(what) => misfit = Some(what),
            Pin::Fits if shape.name == map::NODE => {
                fitting += 1;
                if let Some(version) = pinned_version(&path).filter(|version| ![0, VERSION].contains(version)) {
                    misfit = Some(format!("they are of version {version}, wanted is {VERSION}"));
                }
            }
            Pin::Fits if !ANEW.contains(&shape.name) => fitting += 1,
            Pin::Fits | Pin::Missing => {}
        }
    }
    if fitting > 0 && fitting < lasting {
        misfit.get_or_insert_with(|| format!("{} of {lasting} are missing", lasting - fitting));
    }
    if let Some(what) = misfit {
        warn!("the tables of an earlier agent do not fit and are replaced, their flows are lost: {what}");
        for shape in &shapes {
            let path = directory.join(shape.name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(DatapathError::Io { path, source });
                }
                _ => {}
            }
        }
    }
    Ok(shapes.iter().map(|shape| (shape.name, directory.join(shape.name))).collect())
}

fn pinned_version(path: &Path) -> Option<u32> {
    let data = aya::maps::MapData::from_pin(path).ok()?;
    let node: aya::maps::Array<_, Node> = aya::maps::Map::from_map_data(data).ok()?.try_into().ok()?;
    Some(node.get(&0, 0).ok()?.version)
}

fn link_path(directory: &Path, mode: Mode, device: &Device) -> PathBuf {
    directory.join(format!("link-{}-{}", mode.label(), pin_name(&device.name)))
}

/// A name as the BPF file system takes it: it refuses dots, which names of nodes and interfaces may have. Neither may
/// have colons, so that different names stay different.
fn pin_name(name: &str) -> String {
    name.replace('.', ":")
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, DatapathError> {
    let program: &mut Xdp = ebpf.program_mut(name).ok_or(DatapathError::Stub)?.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program)
}

fn tc<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, DatapathError> {
    let program: &mut SchedClassifier = ebpf.program_mut(name).ok_or(DatapathError::Stub)?.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program)
}

/// Another xvip on the device keeps this one from it.
fn refuse_beside_rival(device: &Device, directory: &Path) -> Result<(), DatapathError> {
    let Some(program) = observe::rival(device, directory) else {
        return Ok(());
    };
    let why = format!(
        "another xvip, of a node of another name, serves it with program {program}: stop that one; its pins are below \
         {BPFFS}/xvip"
    );
    Err(DatapathError::Attach { interface: device.name.clone(), why })
}

/// Attaches in the first of these modes that works.
fn attach(
    ebpf: &mut Ebpf, device: &Device, choices: Vec<Choice>, directory: &Path, serving: Option<&Attachment>,
) -> Result<Attachment, DatapathError> {
    let is_veth = device.kind.as_deref() == Some("veth");
    let mut refusals = Vec::new();
    for Choice { mode, why } in choices {
        six::join(ebpf, mode == Mode::Tc)?;
        let mut program = match mode {
            Mode::Tc => Program::Tc(tc(ebpf, TC_PROGRAM)?, TcAttachType::Ingress),
            Mode::Native => Program::Xdp(xdp(ebpf, PROGRAM)?, XdpMode::Driver),
            Mode::Generic => Program::Xdp(xdp(ebpf, PROGRAM)?, XdpMode::Skb),
        };
        if let Err(refusal) = attach_in(&mut program, mode, device, directory)? {
            refusals.push(format!("{}: {refusal}", mode.label()));
            continue;
        }
        let program_id = program.id()?;
        let redirect = redirects(device, mode);
        let is_tried = serving.is_some_and(|serving| serving.redirect && serving.device == *device);
        if redirect
            && !is_tried
            && let Err(why) = redirect::probe(xdp(ebpf, redirect::PROGRAM)?, device)
        {
            let path = link_path(directory, mode, device);
            fs::remove_file(&path).map_err(|source| DatapathError::Io { path, source })?;
            refusals.push(format!("{}: {why}", mode.label()));
            continue;
        }
        let keeps = [
            link_path(directory, mode, device),
            leave_path(directory, device),
            guard::path(directory, device),
            home::path(directory),
        ];
        drop_links(directory, |path| keeps.iter().all(|kept| kept != path))?;
        let reason = reason(&why, redirect, &refusals);
        info!(interface = device.name, mode = mode.label(), program_id, "datapath attached: {reason}");
        if is_veth && mode != Mode::Tc {
            info!(
                interface = device.name,
                "on a veth the other end must finish checksums: `ethtool -K PEER tx off` there, or TCP through the VIP stalls"
            );
        }
        return Ok(Attachment { device: device.clone(), mode, redirect, reason, program_id });
    }
    Err(DatapathError::Attach { interface: device.name.clone(), why: refusals.join("; ") })
}

fn reason(why: &str, redirect: bool, refusals: &[String]) -> String {
    let mut text = why.to_owned();
    if redirect {
        text.push_str(", sending by redirect because XDP_TX on veth stalls without a program on the other end");
    }
    if !refusals.is_empty() {
        text.push_str(&format!(" ({})", refusals.join("; ")));
    }
    text
}

/// Puts the program on the device: into the pinned link of an earlier agent, or by a link of its own. The inner error
/// is the kernel's refusal of this mode.
fn attach_in(
    program: &mut Program<'_>, mode: Mode, device: &Device, directory: &Path,
) -> Result<Result<(), String>, DatapathError> {
    let path = link_path(directory, mode, device);
    if mode != Mode::Tc && !link::is_live(&path, device.index) {
        // A device has one XDP program: another link of ours gives way now, not earlier. One of TC's stays until
        // XDP takes its packets.
        drop_links(directory, |other| other != path && is_xdp_link(other))?;
    }
    attach_at(program, device, &path)
}

/// The same with the link's pin at `path`.
fn attach_at(program: &mut Program<'_>, device: &Device, path: &Path) -> Result<Result<(), String>, DatapathError> {
    if path.exists() {
        match program.adopt(path) {
            Ok(()) => return Ok(Ok(())),
            Err(why) => {
                // The device has gone and come back, or the pin is no link: it does nothing any more.
                info!(pin = %path.display(), "an earlier attachment is of no use and is replaced: {why}");
                fs::remove_file(path).map_err(|source| DatapathError::Io { path: path.to_owned(), source })?;
            }
        }
    }
    let link = match program.attach(device) {
        Ok(link) => link,
        Err(refusal) => return Ok(Err(refusal)),
    };
    link.pin(path).map_err(|error| DatapathError::Link(error.to_string()))?;
    Ok(Ok(()))
}

/// Detaches those of a node's links that `unwanted` picks by their pins.
fn drop_links(directory: &Path, unwanted: impl Fn(&Path) -> bool) -> Result<(), DatapathError> {
    let io = |source| DatapathError::Io { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if is_link(&path) && unwanted(&path) {
            fs::remove_file(&path).map_err(|source| DatapathError::Io { path, source })?;
        }
    }
    Ok(())
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_have_no_dots() {
        let device = Device { name: "eth0.100".to_owned(), index: 7, kind: Some("vlan".to_owned()) };
        let path = link_path(Path::new("/pins"), Mode::Native, &device);
        assert_eq!(path, Path::new("/pins/link-xdp-eth0:100"));
        assert!(is_link(&path) && is_xdp_link(&path));
        assert!(!is_xdp_link(&link_path(Path::new("/pins"), Mode::Tc, &device)));
        assert!(is_link(&leave_path(Path::new("/pins"), &device)));
        assert_eq!(pin_name("lb1.example.net"), "lb1:example:net");
    }
}
