//! The settings of the host that the agent changes.
//!
//! Source ports that it uses must not be given to other sockets.
//! The kernel keeps ports in `net.ipv4.ip_local_reserved_ports` for those who ask for them by number. The agent adds
//! its range where it meets `net.ipv4.ip_local_port_range`, and puts back what was there when it stops. What was there
//! is kept in a file meanwhile, for the next agent if this one dies.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// A setting could not be read, kept or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct SysctlError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn at(path: &Path) -> impl Fn(io::Error) -> SysctlError {
    move |source| SysctlError { path: path.to_owned(), source }
}

/// Keeps the source ports free of other sockets.
#[derive(Debug)]
pub struct ReservedPorts {
    /// Where the setting from before is kept.
    kept: PathBuf,
}

impl ReservedPorts {
    /// Nothing reserved yet; `kept` names the file for the setting from before.
    #[must_use]
    pub fn new(kept: PathBuf) -> Self {
        Self { kept }
    }

    /// Reserves a range, as far as the kernel could give its ports to others. Returns what it wrote, if anything.
    ///
    /// # Errors
    /// When a setting cannot be read or written; then nothing has changed.
    pub fn reserve(&self, ports: &RangeInclusive<u16>) -> Result<Option<String>, SysctlError> {
        let ephemeral = read(Path::new(EPHEMERAL))?;
        let before = match self.before()? {
            Some(kept) => kept,
            None => read(Path::new(RESERVED))?,
        };
        let Some(after) = with_range(&before, ports, &ephemeral) else {
            self.release()?;
            return Ok(None);
        };
        if let Some(directory) = self.kept.parent() {
            fs::create_dir_all(directory).map_err(at(directory))?;
        }
        fs::write(&self.kept, &before).map_err(at(&self.kept))?;
        fs::write(RESERVED, &after).map_err(at(Path::new(RESERVED)))?;
        Ok(Some(after))
    }

    /// Puts back what was there, here and of [`AcceptLocal`].
    ///
    /// # Errors
    /// When a setting cannot be written.
    pub fn restore(&self) -> Result<(), SysctlError> {
        let released = self.release();
        AcceptLocal::new(self.kept.with_extension(AcceptLocal::NAME)).restore().and(released)
    }

    fn release(&self) -> Result<(), SysctlError> {
        if let Some(before) = self.before()? {
            // The kernel takes an empty line for "none".
            fs::write(RESERVED, format!("{before}\n")).map_err(at(Path::new(RESERVED)))?;
            fs::remove_file(&self.kept).map_err(at(&self.kept))?;
        }
        Ok(())
    }

    fn before(&self) -> Result<Option<String>, SysctlError> {
        match fs::read_to_string(&self.kept) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&self.kept)(error)),
        }
    }
}

/// Lets packets in that have an address of this host for their source (`accept_local` of an interface, IPv4 alone: IPv6
/// takes them anyway). The datapath hands such packets to a server that knows its client by a VIP which is this host's now.
#[derive(Debug)]
pub struct AcceptLocal {
    /// Where the interface's name and its setting from before are kept.
    kept: PathBuf,
}

impl AcceptLocal {
    /// The setting's name, by which the file is told from others of the node.
    pub const NAME: &str = "accept_local";

    /// Nothing changed yet; `kept` names the file for the setting from before.
    #[must_use]
    pub fn new(kept: PathBuf) -> Self {
        Self { kept }
    }

    /// Switches it on for an interface.
    ///
    /// # Errors
    /// When a setting cannot be read, kept or written; then nothing has changed.
    pub fn set(&self, interface: &str) -> Result<(), SysctlError> {
        let setting = accept_local(interface);
        // What an earlier agent has kept was there before it.
        if !self.kept.exists() {
            let before = read(&setting)?;
            if before == "1" {
                // Somebody else's setting, and in a container one that cannot be written.
                return Ok(());
            }
            if let Some(directory) = self.kept.parent() {
                fs::create_dir_all(directory).map_err(at(directory))?;
            }
            fs::write(&self.kept, format!("{interface} {before}")).map_err(at(&self.kept))?;
        }
        fs::write(&setting, "1").map_err(at(&setting))
    }

    /// Puts back what was there, as far as anything was changed and the interface is still there.
    ///
    /// # Errors
    /// When the setting cannot be written.
    pub fn restore(&self) -> Result<(), SysctlError> {
        let kept = match fs::read_to_string(&self.kept) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            kept => kept.map_err(at(&self.kept))?,
        };
        if let Some((interface, before)) = kept.split_once(' ') {
            let setting = accept_local(interface);
            match fs::write(&setting, before) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&setting)(error)),
                _ => {}
            }
        }
        fs::remove_file(&self.kept).map_err(at(&self.kept))
    }
}

fn accept_local(interface: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(interface).join(AcceptLocal::NAME)
}

fn read(path: &Path) -> Result<String, SysctlError> {
    Ok(fs::read_to_string(path).map_err(at(path))?.trim().to_owned())
}

/// The list with the part of `ports` that lies in the ephemeral range; `None` where they do not meet.
fn with_range(reserved: &str, ports: &RangeInclusive<u16>, ephemeral: &str) -> Option<String> {
    let mut bounds = ephemeral.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    let (low, high) = (bounds.next()?, bounds.next()?);
    let (first, last) = ((*ports.start()).max(low), (*ports.end()).min(high));
    (first <= last).then(|| {
        let separator = if reserved.is_empty() { "" } else { "," };
        format!("{reserved}{separator}{first}-{last}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_could_give_away() {
        assert_eq!(with_range("", &(1024..=32_767), "32768\t60999"), None);
        assert_eq!(with_range("", &(1024..=40_000), "32768\t60999"), Some("32768-40000".to_owned()));
        assert_eq!(
            with_range("8080,9000-9010", &(50_000..=50_099), "32768 60999").as_deref(),
            Some("8080,9000-9010,50000-50099")
        );
        assert_eq!(with_range("", &(50_000..=50_099), "nonsense"), None);
    }
}
