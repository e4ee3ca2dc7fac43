//! Where log lines go and what they look like: standard error; plain for a file, dressed for a terminal, levels for the journal, JSON
//! for programs.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::LogFormat;
use crate::status::words;
use crate::{clock, events};

/// The variable with the filter, e.g. `info,xvip::vrrp=debug`.
pub const FILTER_VARIABLE: &str = "XVIP_LOG";

const DEFAULT_FILTER: &str = "info";

/// Sends log lines to standard error from now on. A filter that cannot be read is reported and replaced by `info`; a second
/// call changes nothing.
pub fn init(format: LogFormat) {
    let wanted = std::env::var(FILTER_VARIABLE).ok();
    let (filter, fault) = filter(wanted.as_deref());
    // Lines for people say the same in words already.
    let filter = match (format, format!("{}=off", events::TARGET).parse()) {
        (LogFormat::Text, Ok(directive)) => filter.add_directive(directive),
        _ => filter,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);

    let done = if format == LogFormat::Json {
        builder.with_ansi(false).event_format(Json).try_init()
    } else if to_journal() {
        builder.with_ansi(false).event_format(Journal::default()).try_init()
    } else {
        builder.with_ansi(colour_on_stderr()).try_init()
    };
    if done.is_ok()
        && let Some(fault) = fault
    {
        tracing::warn!("{FILTER_VARIABLE}: {fault}; using \"{DEFAULT_FILTER}\"");
    }
}

fn filter(wanted: Option<&str>) -> (EnvFilter, Option<String>) {
    let Some(wanted) = wanted.filter(|w| !w.trim().is_empty()) else {
        return (EnvFilter::new(DEFAULT_FILTER), None);
    };
    match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(fault) => (EnvFilter::new(DEFAULT_FILTER), Some(fault.to_string())),
    }
}

fn colour_on_stderr() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Whether standard error is the stream systemd connected to the journal, and not one somebody redirected since.
fn to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    nix::sys::stat::fstat(io::stderr().as_fd()).is_ok_and(|stat| is_stream(&stream, stat.st_dev, stat.st_ino))
}

fn is_stream(variable: &str, device: u64, inode: u64) -> bool {
    variable.split_once(':').is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

/// Lines for the journal: it has the time already and reads the level from a `<N>` in front (sd-daemon(3)).
struct Journal(Format<Full, ()>);

impl Default for Journal {
    fn default() -> Self {
        Self(Format::default().without_time().with_level(false))
    }
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{level}>")?;
        self.0.format_event(context, writer, event)
    }
}

/// One object to a line: time, level, target, message, and what else the event has, each under its name.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields(serde_json::Map::new());
        let metadata = event.metadata();
        fields.put("time", words::instant(clock::unix(clock::wall())));
        fields.put("level", metadata.level().as_str().to_lowercase());
        fields.put("target", metadata.target());
        event.record(&mut fields);
        writeln!(writer, "{}", serde_json::Value::Object(fields.0))
    }
}

struct Fields(serde_json::Map<String, serde_json::Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn journal_lines_have_a_level_and_no_time() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(Some("debug")).0)
            .with_ansi(false)
            .event_format(Journal::default())
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(backend = "master1", "up");
            tracing::error!("gone");
            tracing::trace!("unheard");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "<6>xvip::logging::tests: up backend=\"master1\"\n<3>xvip::logging::tests: gone\n");
    }

    #[test]
    fn lines_for_programs_are_objects() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().event_format(Json).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(backend = "master1", checks = 3, up = false, "say \"no\"\n{}", 1);
            events::Reporter::default().changed("vrrp k8s".to_owned(), "backup", "active", "nobody is heard");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let objects: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = objects.as_slice() else { panic!("{text}") };
        assert_eq!((&first["level"], &first["message"]), (&"warn".into(), &"say \"no\"\n1".into()));
        assert_eq!((&first["backend"], &first["checks"], &first["up"]), (&"master1".into(), &3.into(), &false.into()));
        assert!(first["time"].as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z')));
        assert_eq!((&second["target"], &second["subject"]), (&events::TARGET.into(), &"vrrp k8s".into()));
        assert_eq!((&second["from"], &second["to"]), (&"backup".into(), &"active".into()));
        assert_eq!(second["cause"], "nobody is heard");
    }

    #[test]
    fn a_bad_filter_falls_back_and_says_so() {
        for good in [None, Some(""), Some("debug"), Some("info,xvip::vrrp=trace")] {
            assert_eq!(filter(good).1, None, "{good:?}");
        }
        let (used, fault) = filter(Some("xvip=loud"));
        assert_eq!(used.to_string(), "info");
        assert!(fault.is_some());
    }

    #[test]
    fn the_journal_is_recognised_by_device_and_inode() {
        assert!(is_stream("8:1234", 8, 1234));
        for other in ["8:1235", "9:1234", "8", "", ":", "8:1234:1"] {
            assert!(!is_stream(other, 8, 1234), "{other}");
        }
    }
}
