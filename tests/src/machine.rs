//! The machine that figures come from: without it no figure means anything.

use std::fmt;
use std::fs;
use std::thread;

use serde::{Deserialize, Serialize};

/// Kernel, processors, memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// What the first processor calls itself.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// As /proc/meminfo has it.
    pub memory: String,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here() -> Machine {
        let field = |path: &str, name: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        Machine {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cpu: field("/proc/cpuinfo", "model name"),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory: field("/proc/meminfo", "MemTotal"),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}, {} cores ({}), {}", self.kernel, self.cores, self.cpu, self.memory)
    }
}

/// What /proc/loadavg says.
#[must_use]
pub fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
