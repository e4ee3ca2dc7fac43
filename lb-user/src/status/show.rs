//! The `status` command: asks the agent, prints, and says how it went by the exit code.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use super::render;
use super::watch::watch;
use crate::admin::{AdminError, fetch_status};
use crate::cli::StatusArgs;
use crate::clock;

/// Runs `xvip status`. Returns the exit code: 0, 3 when no agent answers, 1 when its answer cannot be used. With `--watch` it
/// returns when it is interrupted, or the output is closed.
pub async fn show(args: &StatusArgs) -> u8 {
    if args.watch {
        return watch(&args.socket).await;
    }
    match text(&args.socket, args.json).await {
        Ok(text) => {
            // Whoever closed the output has seen enough.
            let _ = io::stdout().write_all(text.as_bytes());
            0
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "xvip: {error}");
            error.exit_code()
        }
    }
}

async fn text(socket: &Path, json: bool) -> Result<String, AdminError> {
    let status = fetch_status(socket).await?;
    if json {
        let mut text = serde_json::to_string_pretty(&status)
            .map_err(|error| AdminError::Answer { socket: socket.to_owned(), what: error.to_string() })?;
        text.push('\n');
        return Ok(text);
    }
    let now = clock::unix(clock::wall());
    Ok(render(&status, now, colour(), size().map_or(usize::MAX, |size| size.columns)))
}

pub(super) fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Characters of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);

/// The terminal on standard output; none when that is something else.
pub(super) fn size() -> Option<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which `size` is; the descriptor is open for the life of the process.
    unsafe { window_size(io::stdout().as_raw_fd(), &raw mut size) }.ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some(Size { columns, rows })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::admin;
    use crate::config::{Admin, Readers};
    use crate::status::{Status, example::example};

    #[tokio::test]
    async fn both_forms_come_from_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        let (_sender, status) = watch::channel(Arc::new(example()));
        let access =
            admin::Access { status, orders: mpsc::channel(1).0, events: Default::default(), flows: Default::default() };
        let admin = Admin { socket: socket.clone(), read: Readers::Nobody };
        let _agent = admin::listen(&admin, access).await.unwrap();

        let json = text(&socket, true).await.unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), example());
        assert!(json.ends_with("}\n"));

        let table = text(&socket, false).await.unwrap();
        assert!(table.contains("master1  192.0.2.31:6443  up"), "{table}");
        assert!(!table.contains('\x1b'));
    }

    #[tokio::test]
    async fn without_an_agent_the_exit_code_is_three() {
        let dir = tempfile::tempdir().unwrap();
        let args = StatusArgs { json: true, socket: dir.path().join("admin.sock"), watch: false };
        assert_eq!(show(&args).await, 3);
    }
}
