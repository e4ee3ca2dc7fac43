//! The keys of `[flow_log]`.

use std::path::PathBuf;

use super::reader::Section;
use super::{FlowLog, LogTo, values};

/// Lines in a second where nothing is said about it.
const USUAL: u32 = 1000;

/// `None`: a fault was reported; `Some(None)`: there is no log.
pub(super) fn read(section: &Section<'_>, is_there: bool) -> Option<Option<FlowLog>> {
    const EXAMPLE: &str = "/var/log/xvip/flows.log";
    let to = |text: &str| match text {
        "-" => Ok(LogTo::Stdout),
        text => values::path(text, 4095, EXAMPLE).map(LogTo::File),
    };
    let path = section.key("path", r#""/var/log/xvip/flows.log""#);
    let path = if is_there { path.required() } else { path };
    let path = path.text(to).or(LogTo::File(PathBuf::new()));
    let most = section.key("max_lines_per_second", "1000").integer(1..=100_000).or(USUAL);
    section.finish();
    if !is_there {
        return Some(None);
    }
    Some(Some(FlowLog { to: path?.value, max_lines_per_second: most?.value }))
}
