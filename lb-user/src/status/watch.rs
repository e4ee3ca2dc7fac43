//! `xvip status --watch`: the table drawn again every second, over what was there before. A terminal gets its own content back
//! at the end; anything else gets one table after the other.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use super::show::{Size, colour, size};
use super::words::instant;
use super::{Rates, Status, render_live};
use crate::admin::fetch_status;
use crate::clock;

/// Time between two drawings.
const REDRAW: Duration = Duration::from_secs(1);

/// The other screen, no cursor, and lines that end at the edge; and all of that back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Draws until it is interrupted or the output is closed; what to exit with.
pub(super) async fn watch(socket: &Path) -> u8 {
    let terminal = io::stdout().is_terminal();
    if terminal && write(ENTER).is_err() {
        return 0;
    }
    let code = tokio::select! {
        code = draw(socket, terminal) => code,
        () = ended() => 0,
    };
    if terminal {
        // A terminal that is gone needs nothing back.
        let _ = write(LEAVE);
    }
    code
}

/// Waits for Ctrl-C and its like, which without this would leave the terminal as it is.
async fn ended() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

async fn draw(socket: &Path, terminal: bool) -> u8 {
    let mut before: Option<(Instant, Status)> = None;
    loop {
        let (at, now) = (clock::now(), clock::unix(clock::wall()));
        let screen = if terminal { size() } else { None };
        let columns = screen.map_or(usize::MAX, |screen| screen.columns);
        let body = match fetch_status(socket).await {
            Ok(status) => {
                let rates = before.as_ref().and_then(|(then, before)| {
                    Rates::between(before, &status, at.saturating_duration_since(*then).as_secs_f64())
                });
                let text = render_live(&status, rates.as_ref(), now, colour(), columns);
                before = Some((at, status));
                text
            }
            Err(error) => {
                before = None;
                format!("{error}\n")
            }
        };
        let text = format!("{}\n\n{body}", instant(now));
        let drawn = match screen {
            Some(screen) => write(&frame(&text, screen)),
            None => write(&format!("{text}\n")),
        };
        if drawn.is_err() {
            return 0;
        }
        tokio::time::sleep(REDRAW).await;
    }
}

/// The text over whatever the screen shows: each line is cleared behind its end, and the rest of the screen behind the last one,
/// so that nothing is blank in between. What is below the edge is counted.
fn frame(text: &str, screen: Size) -> String {
    let lines: Vec<_> = text.lines().collect();
    let shown = if lines.len() > screen.rows { screen.rows - 1 } else { lines.len() };
    let mut frame = "\x1b[H".to_owned();
    for (number, line) in lines.iter().take(shown).enumerate() {
        frame.push_str(if number > 0 { "\r\n" } else { "" });
        frame.push_str(line);
        frame.push_str("\x1b[K");
    }
    if shown < lines.len() {
        frame.push_str(&format!("\r\n… {} more lines\x1b[K", lines.len() - shown));
    }
    frame.push_str("\x1b[J");
    frame
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_covers_the_screen_and_no_more() {
        let screen = |rows| Size { columns: 80, rows };
        assert_eq!(frame("a\nb\n", screen(2)), "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
        assert_eq!(frame("a\nb\nc\n", screen(2)), "\x1b[Ha\x1b[K\r\n… 2 more lines\x1b[K\x1b[J");
        assert_eq!(frame("a\nb\n", screen(1)), "\x1b[H\r\n… 2 more lines\x1b[K\x1b[J");
    }
}
