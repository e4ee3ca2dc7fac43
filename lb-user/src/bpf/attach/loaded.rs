//! A datapath that the kernel has accepted and that is not attached yet. Loading takes about a second of a processor's time,
//! most of it the verifier's; attaching what is loaded takes none to speak of.

use std::path::PathBuf;

use aya::{Ebpf, EbpfLoader};
use lb_ebpf::abi::map;

use super::choose::{self, Choice};
use super::{
    Attachment, Datapath, DatapathError, Device, LEAVE_PROGRAM, Mode, PROGRAM, Spec, TC_PROGRAM, attach, directory,
    guard, home, leave_path, link, link_path, no_memory, observe, redirect, refuse_beside_rival, show, six, tc,
    usable_pins, xdp,
};
use crate::bpf::hooks;
use crate::bpf::layout::number;

/// Loaded, and not attached. Nothing that serves has changed until then.
pub struct Loaded {
    ebpf: Ebpf,
    directory: PathBuf,
    spec: Spec,
    /// The modes to try, in their order.
    choices: Vec<Choice>,
}

impl Loaded {
    /// Loads the object and has the kernel look at the programs that will be attached: those of the mode that is tried first,
    /// and those that take the place of others.
    ///
    /// Tables that an earlier agent of this node left are used again when they have the same shape.
    ///
    /// # Errors
    /// See [`DatapathError`].
    pub fn load(spec: Spec) -> Result<Self, DatapathError> {
        if crate::bpf::OBJECT.is_empty() {
            return Err(DatapathError::Stub);
        }
        let directory = directory(&spec.node)?;
        let device = &spec.device;
        refuse_beside_rival(device, &directory)?;
        let maps = usable_pins(&directory, spec.sizes)?;
        let level: u8 = if spec.log_flows { 4 } else { 2 };
        let mut loader = EbpfLoader::new();
        for (table, entries) in spec.sizes.tables() {
            loader.map_max_entries(table, entries);
        }
        loader.override_global("AYA_LOG_LEVEL", &level, true);
        loader.override_global("PROBE_IFINDEX", &device.index, true);
        loader.override_global("CAPTURE", &spec.capture, true);
        for (name, path) in &maps {
            loader.map_pin_path(name, path);
        }
        let mut ebpf = loader.load(crate::bpf::OBJECT).map_err(|error| no_memory(error, spec.sizes))?;
        let mut choices = choose::modes(spec.datapath, &observe::facts(device, |id| observe::is_ours(id, &directory)));
        // What an earlier agent attached is tried first: its program can be exchanged without a gap.
        choices.sort_by_key(|choice| !link::is_live(&link_path(&directory, choice.mode, device), device.index));
        if let Some(Choice { mode, .. }) = choices.first() {
            verify(&mut ebpf, *mode, redirects(device, *mode))?;
        }
        for (path, program) in [
            (leave_path(&directory, device), LEAVE_PROGRAM),
            (guard::path(&directory, device), guard::PROGRAM),
            (home::path(&directory), home::PROGRAM),
        ] {
            if path.exists() {
                // What is wrong with it shows where it is attached.
                let _ = tc(&mut ebpf, program);
            }
        }
        hooks::verify_again(&mut ebpf, &directory);
        Ok(Self { ebpf, directory, spec, choices })
    }

    /// Bytes of each packet that it will show.
    #[must_use]
    pub fn capture(&self) -> u32 {
        self.spec.capture
    }

    /// Attaches it: in the place of what serves so far, if anything does. What serves already in the same way is not tried
    /// out again.
    ///
    /// # Errors
    /// See [`DatapathError`]; what was attached before stays.
    pub fn attach(mut self, serving: Option<&Attachment>) -> Result<Datapath, DatapathError> {
        show(&self.ebpf, self.spec.capture > 0, &self.directory)?;
        let attachment = attach(&mut self.ebpf, &self.spec.device, self.choices, &self.directory, serving)?;
        Ok(Datapath {
            capture: self.spec.capture,
            tables: number(&self.directory.join(map::NODE)),
            ebpf: self.ebpf,
            directory: self.directory,
            attachment,
            leaving: None,
            guard: guard::Guard::default(),
            home: None,
        })
    }
}

/// Whether what XDP sends in this mode is redirected to the interface: XDP_TX on veth stalls without a program on the other end.
pub(super) fn redirects(device: &Device, mode: Mode) -> bool {
    device.kind.as_deref() == Some("veth") && mode == Mode::Native
}

/// Has the kernel look at the programs of a mode.
fn verify(ebpf: &mut Ebpf, mode: Mode, redirects: bool) -> Result<(), DatapathError> {
    six::load(ebpf, mode == Mode::Tc)?;
    match mode {
        Mode::Tc => tc(ebpf, TC_PROGRAM).map(drop),
        Mode::Native | Mode::Generic => xdp(ebpf, PROGRAM).map(drop),
    }?;
    if redirects { xdp(ebpf, redirect::PROGRAM).map(drop) } else { Ok(()) }
}
