//! Logs: JSON lines for machines, text for a terminal.
//!
//! Fields have the same name wherever they occur:
//!
//! | field | holds |
//! |---|---|
//! | `client` | id of a connection |
//! | `user` | user id, empty for anonymous |
//! | `channel` | channel name |
//! | `method` | command or API method |
//! | `code` | numeric code of an error, a disconnect or an unsubscribe |
//! | `reason` | its text |
//! | `error` | what failed, with its causes |
//! | `transport` | `websocket` |
//! | `remote_addr` | address and port of the client, as far as trusted proxies tell it |
//!
//! Tokens, keys and publication data are never logged. A failure is logged once, where it is
//! handled.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// How much is logged. `Fatal` and `None` silence the log; what ends the process is printed by
/// the program itself, whatever the level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
    Fatal,
    None,
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text if the log goes to a terminal, JSON otherwise.
    #[default]
    Auto,
    Json,
    Text,
}

/// Where and how to log.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub level: Level,
    pub format: Format,
    /// Appended to, and made if it does not exist; standard error if not given.
    pub file: Option<PathBuf>,
}

/// Changes the level of a running log.
#[derive(Clone)]
pub struct LevelHandle(reload::Handle<LevelFilter, Registry>);

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log.file: cannot open {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("a log is already set up in this process")]
    AlreadySet,
}

/// A text that names no level or no format.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not one of {allowed}")]
pub struct NotOneOf {
    given: String,
    allowed: &'static str,
}

/// Starts the log of the process.
///
/// # Errors
/// A file that cannot be opened; a log that was started before.
pub fn init(settings: &Settings) -> Result<LevelHandle, Error> {
    let (writer, terminal) = match &settings.file {
        None => (BoxMakeWriter::new(io::stderr), io::stderr().is_terminal()),
        Some(path) => {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            let file = opened.map_err(|source| Error::File { path: path.clone(), source })?;
            (BoxMakeWriter::new(Mutex::new(file)), false)
        }
    };
    let (filter, handle) = reload::Layer::new(settings.level.filter());
    let registry = tracing_subscriber::registry().with(filter);
    let lines = lines(settings.format, terminal, writer);
    registry.with(lines).try_init().map_err(|_| Error::AlreadySet)?;
    Ok(LevelHandle(handle))
}

impl LevelHandle {
    /// Logs at `level` from now on.
    pub fn set(&self, level: Level) {
        if let Err(error) = self.0.reload(level.filter()) {
            tracing::warn!(%error, "cannot change the log level");
        }
    }
}

impl Level {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Trace => LevelFilter::TRACE,
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
            Self::Fatal | Self::None => LevelFilter::OFF,
        }
    }
}

impl FromStr for Level {
    type Err = NotOneOf;

    fn from_str(text: &str) -> Result<Self, NotOneOf> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" => Self::Warn,
            "error" => Self::Error,
            "fatal" => Self::Fatal,
            "none" => Self::None,
            _ => {
                let allowed = "trace, debug, info, warn, error, fatal, none";
                return Err(NotOneOf { given: text.to_owned(), allowed });
            }
        })
    }
}

impl FromStr for Format {
    type Err = NotOneOf;

    fn from_str(text: &str) -> Result<Self, NotOneOf> {
        Ok(match text {
            "auto" => Self::Auto,
            "json" => Self::Json,
            "text" => Self::Text,
            _ => return Err(NotOneOf { given: text.to_owned(), allowed: "auto, json, text" }),
        })
    }
}

/// The layer that writes lines. Module paths are left out: the message says what happened.
fn lines<S, W>(format: Format, terminal: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer).with_target(false).with_ansi(terminal);
    let text = format == Format::Text || (format == Format::Auto && terminal);
    if text {
        return lines.boxed();
    }
    lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("page").write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, terminal: bool, level: Level, event: impl FnOnce()) -> String {
        let page = Page::default();
        let out = page.clone();
        let lines = lines(format, terminal, move || out.clone());
        let subscriber = tracing_subscriber::registry().with(level.filter()).with(lines);
        tracing::subscriber::with_default(subscriber, event);
        let text = page.0.lock().expect("page").clone();
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn a_hostile_value_stays_inside_its_json_line() {
        let line = logged(Format::Auto, false, Level::Info, || {
            tracing::info!(user = "eve\"}\n{\"level\":\"ERROR", code = 3501, "disconnected");
        });
        assert_eq!(line.trim_end().lines().count(), 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["user"], "eve\"}\n{\"level\":\"ERROR");
        assert_eq!(value["code"], 3501);
        assert_eq!(value["message"], "disconnected");
        assert_eq!(value["level"], "INFO");
    }

    #[test]
    fn a_terminal_gets_text_unless_json_is_asked_for() {
        let event = || tracing::warn!("look here");
        assert!(logged(Format::Auto, true, Level::Info, event).contains("WARN"));
        assert!(!logged(Format::Auto, true, Level::Info, event).starts_with('{'));
        assert!(logged(Format::Json, true, Level::Info, event).starts_with('{'));
        assert!(!logged(Format::Text, false, Level::Info, event).starts_with('{'));
    }

    #[test]
    fn levels_hold_back_what_is_below_them() {
        let event = || tracing::error!("broken");
        assert!(!logged(Format::Json, false, Level::Error, event).is_empty());
        for silent in [Level::Fatal, Level::None] {
            assert_eq!(logged(Format::Json, false, silent, event), "");
        }
        assert_eq!(logged(Format::Json, false, Level::Info, || tracing::debug!("detail")), "");
    }

    #[test]
    fn an_unknown_level_names_the_allowed_ones() {
        let error = "loud".parse::<Level>().expect_err("error").to_string();
        assert_eq!(error, "\"loud\" is not one of trace, debug, info, warn, error, fatal, none");
        assert_eq!("WARN".parse(), Ok(Level::Warn));
        assert!("xml".parse::<Format>().is_err());
    }
}
