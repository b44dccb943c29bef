//! `bobolink` and `bobolink serve`: runs the server.

use std::path::PathBuf;
use std::sync::Arc;

use super::{CliError, ServeArgs, runtime};
use crate::config::log::{Log, LogFormat, LogLevel};
use crate::config::{Disk, Loaded, NoticeKind, Sources, load};
use crate::descriptors;
use crate::server::Reload;
use crate::telemetry::logging::{self, Format, Level, Settings};

/// Runs the server until it is told to stop.
pub fn serve(args: ServeArgs) -> Result<(), CliError> {
    let ServeArgs { config: file, dev, flags } = args;
    let loaded = load(&Sources::of_process(file.clone(), flags.0.clone()), &Disk)?;
    let level = logging::init(&log_settings(&loaded.config.log))?;
    announce(&loaded, dev);
    // Before the runtime, which has threads.
    match descriptors::claim() {
        Some(limit) => tracing::info!(limit, "files and sockets that may be open"),
        None => tracing::info!("no limit of open files and sockets"),
    }
    let sources = move || Sources::of_process(file.clone(), flags.0.clone());
    let reload = reload_of(sources, level, dev);
    Ok(runtime()?.block_on(crate::server::run(loaded.config, reload, dev))?)
}

/// Reads the configuration anew; the level of the log is put in force at once.
pub(super) fn reload_of(
    sources: impl Fn() -> Sources + Send + Sync + 'static,
    level: logging::LevelHandle,
    dev: bool,
) -> Reload {
    Arc::new(move || {
        let loaded = load(&sources(), &Disk).map_err(|errors| errors.to_string())?;
        announce(&loaded, dev);
        level.set(log_settings(&loaded.config.log).level);
        Ok(loaded.config)
    })
}

/// Logs the notices; under `--dev` without the advice, since what is missing there is provided and
/// what is open is meant to be.
pub(super) fn announce(loaded: &Loaded, dev: bool) {
    for notice in loaded.notices.iter().filter(|notice| !dev || notice.kind != NoticeKind::Advice) {
        tracing::warn!("{}", notice.text);
    }
}

pub(super) fn log_settings(log: &Log) -> Settings {
    let level = match log.level {
        LogLevel::Trace => Level::Trace,
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warn => Level::Warn,
        LogLevel::Error => Level::Error,
        LogLevel::Fatal => Level::Fatal,
        LogLevel::None => Level::None,
    };
    let format = match log.format {
        LogFormat::Auto => Format::Auto,
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    };
    let file = (!log.file.is_empty()).then(|| PathBuf::from(&log.file));
    Settings { level, format, file }
}
