//! The limits of a systemd unit, laid on a process where no systemd is: capabilities, system calls, address families, namespaces,
//! which files can be written, and for whom. What a unit says beyond that is not imitated.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

/// The keys and values of a unit, in their order.
#[derive(Debug, Clone)]
pub struct Unit {
    settings: Vec<(String, String)>,
}

impl Unit {
    /// Reads a unit's file.
    pub fn read(path: &Path) -> Result<Unit> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Unit {
        let settings = text.lines().filter(|line| !line.starts_with(['#', ';', '[']));
        let settings = settings.filter_map(|line| line.split_once('='));
        Unit { settings: settings.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect() }
    }

    /// What is said under a key, each time.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.settings.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The words under a key.
    pub fn words<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.all(key).flat_map(str::split_whitespace)
    }

    fn says(&self, key: &str, value: &str) -> bool {
        self.all(key).last() == Some(value)
    }

    /// The mask of its capabilities, as /proc/PID/status shows it.
    pub fn capabilities(&self) -> Result<u64> {
        self.words("CapabilityBoundingSet").map(|name| Ok(1 << capability(name)?)).sum()
    }

    /// Its limits; files can be written in `writable` and nowhere else but below /dev, /proc and /sys.
    pub fn limits(&self, writable: &[&Path]) -> Result<Limits> {
        for (key, value) in [
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("ProtectControlGroups", "yes"),
            ("RestrictNamespaces", "yes"),
            ("MemoryDenyWriteExecute", "yes"),
            ("SystemCallErrorNumber", "EPERM"),
        ] {
            if !self.says(key, value) {
                bail!("the unit has no {key}={value}, which is imitated");
            }
        }
        let kept = self.capabilities()?;
        let mask = self.all("UMask").last().context("the unit has no UMask=, which is imitated")?;
        let mask = Mode::from_bits_truncate(libc::mode_t::from_str_radix(mask, 8)?);
        let writable = writable.iter().map(|path| Ok(CString::new(path.as_os_str().as_bytes())?));
        Ok(Limits {
            kept,
            mask,
            writable: writable.collect::<Result<_>>()?,
            filter: filter(&self.system_calls()?, &self.families()?),
        })
    }

    /// The numbers of the system calls that it allows.
    fn system_calls(&self) -> Result<BTreeSet<u32>> {
        let (groups, numbers) = (groups()?, numbers()?);
        // systemd adds these to every list of what is allowed.
        let mut allowed = members("@default", &groups);
        for list in self.all("SystemCallFilter") {
            let (words, is_taken_away) = match list.strip_prefix('~') {
                Some(words) => (words, true),
                None => (list, false),
            };
            for word in words.split_whitespace() {
                let names = members(word, &groups);
                match is_taken_away {
                    true => allowed = &allowed - &names,
                    false => allowed.extend(names),
                }
            }
        }
        Ok(allowed.iter().filter_map(|name| numbers.get(name).copied()).collect())
    }

    fn families(&self) -> Result<Vec<u32>> {
        let known = [
            ("AF_UNIX", libc::AF_UNIX),
            ("AF_INET", libc::AF_INET),
            ("AF_INET6", libc::AF_INET6),
            ("AF_NETLINK", libc::AF_NETLINK),
            ("AF_PACKET", libc::AF_PACKET),
        ];
        let number = |name: &str| {
            let found = known.iter().find(|(known, _)| *known == name);
            Ok(found.with_context(|| format!("{name} is no address family known here"))?.1 as u32)
        };
        self.words("RestrictAddressFamilies").map(number).collect()
    }
}

/// Number of a capability (linux/capability.h).
fn capability(name: &str) -> Result<u32> {
    let known = [
        ("CAP_CHOWN", 0),
        ("CAP_NET_ADMIN", 12),
        ("CAP_NET_RAW", 13),
        ("CAP_SYS_NICE", 23),
        ("CAP_PERFMON", 38),
        ("CAP_BPF", 39),
    ];
    let found = known.iter().find(|(known, _)| *known == name);
    Ok(found.with_context(|| format!("{name} is no capability known here"))?.1)
}

/// systemd's groups of system calls, by name, with the names in them.
fn groups() -> Result<BTreeMap<String, Vec<String>>> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]).output();
    let output = output.context("the program `systemd-analyze` is needed: install the package systemd")?;
    let text = String::from_utf8(output.stdout)?;
    let mut groups = BTreeMap::<String, Vec<String>>::new();
    let mut current = String::new();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default()) {
        if line.starts_with('@') {
            current = line.trim().to_owned();
        } else if !line.trim().is_empty() && !current.is_empty() {
            groups.entry(current.clone()).or_default().push(line.trim().to_owned());
        }
    }
    if !groups.contains_key("@system-service") {
        bail!("`systemd-analyze syscall-filter` does not list @system-service");
    }
    Ok(groups)
}

/// The system calls that a word stands for: itself, or those of a group and of the groups in it.
fn members(word: &str, groups: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    match groups.get(word) {
        Some(words) => words.iter().flat_map(|word| members(word, groups)).collect(),
        None => [word.to_owned()].into(),
    }
}

/// Numbers of the system calls of this machine.
fn numbers() -> Result<BTreeMap<String, u32>> {
    let path = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
    let text = fs::read_to_string(path).with_context(|| format!("{path} is needed: install the package libc6-dev"))?;
    let number = |line: &str| {
        let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    Ok(text.lines().filter_map(number).collect())
}

// linux/filter.h, linux/seccomp.h, linux/audit.h
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_ANY: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const FAIL: u32 = 0x0005_0000;
const X86_64: u32 = 0xc000_003e;
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const fn statement(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

/// Goes on with the next instruction when it holds, else with that after it.
const fn when(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 1, k }
}

/// Fails what is not allowed as the unit says.
fn filter(allowed: &BTreeSet<u32>, families: &[u32]) -> Vec<libc::sock_filter> {
    let fails = |errno: Errno| statement(RETURN, FAIL | errno as u32);
    let namespaces = all_namespaces();
    let socket: Vec<_> = [statement(LOAD, FIRST_ARGUMENT)]
        .into_iter()
        .chain(families.iter().flat_map(|family| [when(JUMP_IF_EQUAL, *family), statement(RETURN, ALLOW)]))
        .chain([fails(Errno::EAFNOSUPPORT)])
        .collect();
    let flagged = vec![
        statement(LOAD, FIRST_ARGUMENT),
        when(JUMP_IF_ANY, namespaces.bits().cast_unsigned()),
        fails(Errno::EPERM),
        statement(RETURN, ALLOW),
    ];
    let mut program = vec![
        statement(LOAD, MACHINE),
        libc::sock_filter { code: JUMP_IF_EQUAL, jt: 1, jf: 0, k: X86_64 },
        fails(Errno::EPERM),
        statement(LOAD, NUMBER),
    ];
    for (call, body) in [
        (libc::SYS_socket, socket),
        (libc::SYS_clone, flagged.clone()),
        (libc::SYS_unshare, flagged),
        (libc::SYS_setns, vec![fails(Errno::EPERM)]),
        // Its flags are in memory, where no filter looks; libraries fall back to clone.
        (libc::SYS_clone3, vec![fails(Errno::ENOSYS)]),
    ] {
        let over = libc::sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: body.len() as u8, k: call as u32 };
        program.push(over);
        program.extend(body);
    }
    program.extend(allowed.iter().flat_map(|call| [when(JUMP_IF_EQUAL, *call), statement(RETURN, ALLOW)]));
    program.push(fails(Errno::EPERM));
    program
}

fn all_namespaces() -> CloneFlags {
    CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWUTS
}

/// What a process started under a unit may not do.
#[derive(Clone)]
pub struct Limits {
    kept: u64,
    mask: Mode,
    writable: Vec<CString>,
    filter: Vec<libc::sock_filter>,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("kept", &self.kept).field("filter", &self.filter.len()).finish_non_exhaustive()
    }
}

impl Limits {
    /// Lays them on what `command` starts, after what was laid on it before.
    pub fn lay_on(&self, command: &mut Command) {
        let limits = self.clone();
        // SAFETY: between fork and exec the closure makes system calls with what was made before, and allocates nothing.
        unsafe {
            command.pre_exec(move || limits.begin());
        }
    }

    fn begin(&self) -> io::Result<()> {
        umask(self.mask);
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, c"/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
        for path in &self.writable {
            let path = path.as_c_str();
            mount(Some(path), path, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        }
        set_read_only(c"/", true)?;
        for path in [c"/dev", c"/proc", c"/sys"].into_iter().chain(self.writable.iter().map(CString::as_c_str)) {
            set_read_only(path, false)?;
        }
        set_read_only(c"/sys/fs/cgroup", true)?;
        for capability in (0..64).filter(|bit| self.kept & (1 << bit) == 0) {
            // One that this kernel does not know is refused.
            control(libc::PR_CAPBSET_DROP, capability, 0).or_else(|errno| match errno {
                Errno::EINVAL => Ok(()),
                errno => Err(errno),
            })?;
        }
        control(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
        control(libc::PR_SET_MDWE, libc::PR_MDWE_REFUSE_EXEC_GAIN.into(), 0)?;
        let program = libc::sock_fprog { len: self.filter.len() as u16, filter: self.filter.as_ptr().cast_mut() };
        control(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER.into(), &raw const program as libc::c_ulong)?;
        Ok(())
    }
}

fn control(what: libc::c_int, with: libc::c_ulong, and: libc::c_ulong) -> nix::Result<()> {
    // SAFETY: numbers, and for a filter the address of one that outlives the call.
    Errno::result(unsafe { libc::prctl(what, with, and, 0, 0) }).map(drop)
}

/// Arguments of mount_setattr(2).
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// With all that is mounted below.
fn set_read_only(path: &std::ffi::CStr, is_read_only: bool) -> io::Result<()> {
    const READ_ONLY: u64 = 1;
    let (set, clear) = if is_read_only { (READ_ONLY, 0) } else { (0, READ_ONLY) };
    let attributes = Attributes { set, clear, propagation: 0, user_namespace: 0 };
    // SAFETY: path and attributes are valid for the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    Errno::result(done).map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_groups() {
        let unit = Unit::parse("[Service]\n# A=b\nCapabilityBoundingSet=CAP_BPF CAP_NET_RAW\nA=1\nA=2 3\n");
        assert_eq!(unit.capabilities().unwrap(), 1 << 39 | 1 << 13);
        assert_eq!(unit.words("A").collect::<Vec<_>>(), ["1", "2", "3"]);
        let groups = BTreeMap::from([
            ("@a".to_owned(), vec!["@b".to_owned(), "read".to_owned()]),
            ("@b".to_owned(), vec!["write".to_owned()]),
        ]);
        assert_eq!(members("@a", &groups), ["read".to_owned(), "write".to_owned()].into());
        assert!(Unit::parse("CapabilityBoundingSet=CAP_SYS_ADMIN").capabilities().is_err());
    }
}
