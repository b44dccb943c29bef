//! `bobolink bench`: runs a scenario, prints a table, writes the file.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::bench::options::BenchArgs;
use crate::bench::report::Report;
use crate::bench::{self, BenchError, table};
use crate::time::Clock;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchCommandError {
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error("cannot write {path}: {source}")]
    Write { path: String, source: io::Error },
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Runs a scenario; the exit code is 0 if nothing went wrong in it.
///
/// # Errors
/// If nothing could be measured, or the result not be written.
pub fn run(
    args: &BenchArgs,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<ExitCode, BenchCommandError> {
    let report = bench::run(args, clock)?;
    write!(out, "{}", table::render(&report))?;
    if let Some(path) = &args.shared.json {
        write_json(&report, path)?;
    }
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write_json(report: &Report, path: &Path) -> Result<(), BenchCommandError> {
    let failed = |source| BenchCommandError::Write { path: path.display().to_string(), source };
    let mut text = serde_json::to_vec_pretty(report).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    std::fs::write(path, text).map_err(failed)
}
