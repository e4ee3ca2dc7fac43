//! One agent for each node of a host.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::lock::{LockFault, LockFile};

/// Others may look into the directory, and put nothing there.
const DIRECTORY_MODE: u32 = 0o755;

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("another xvip is running for node {node:?}: stop it, or give this one another node.name; {fault}")]
    Taken {
        /// `node.name`
        node: String,
        /// Which file it is about.
        fault: LockFault,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock node {node:?}: {fault}")]
    Fault {
        /// `node.name`
        node: String,
        /// What is wrong with it.
        fault: LockFault,
    },
}

/// Takes the lock of `node`, in `directory`.
pub(super) fn take(directory: &Path, node: &str) -> Result<LockFile, LockError> {
    let path = directory.join(format!("{node}.lock"));
    let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
    let made = made.map_err(|source| LockFault::Io { path: directory.to_owned(), source });
    made.and_then(|()| LockFile::take(&path)).map_err(|fault| match fault {
        LockFault::Held(_) => LockError::Taken { node: node.to_owned(), fault },
        fault => LockError::Fault { node: node.to_owned(), fault },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("run");
        let _first = take(&directory, "lb1").unwrap();
        let refused = take(&directory, "lb1").unwrap_err();
        assert!(matches!(refused, LockError::Taken { .. }));
        let file = directory.join("lb1.lock");
        assert_eq!(
            refused.to_string(),
            format!(
                "another xvip is running for node \"lb1\": stop it, or give this one another node.name; another process \
                 holds {0}: `fuser {0}` names it",
                file.display()
            )
        );
        take(&directory, "lb2").unwrap();
    }

    #[test]
    fn who_dies_leaves_its_file_until_another_serves() {
        let directory = tempfile::tempdir().unwrap();
        let take = || take(directory.path(), "lb1").unwrap();
        assert!(!take().is_left(), "the first one");
        std::fs::write(directory.path().join("lb1.lock"), "").unwrap();
        assert!(take().is_left(), "its file is there and nobody has the lock");
        let mut third = take();
        assert!(third.is_left(), "the second one has not served");
        third.serves();
        drop(third);
        assert!(!take().is_left());
    }
}
