//! `bobolink bench`: runs a scenario, prints a table, writes the file.

use std::fs::File;
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
    // Nobody should wait for a run whose results cannot be kept.
    let file = args.shared.json.as_deref().map(Output::create).transpose()?;
    let report = bench::run(args, clock)?;
    write!(out, "{}", table::render(&report))?;
    if let Some(file) = file {
        file.write(&report)?;
    }
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The file that is written to at the end.
struct Output<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Output<'a> {
    fn create(path: &'a Path) -> Result<Self, BenchCommandError> {
        let file = File::create(path).map_err(|source| failed(path, source))?;
        Ok(Self { path, file })
    }

    fn write(mut self, report: &Report) -> Result<(), BenchCommandError> {
        let mut text =
            serde_json::to_vec_pretty(report).map_err(|error| failed(self.path, error.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(|source| failed(self.path, source))
    }
}

fn failed(path: &Path, source: io::Error) -> BenchCommandError {
    BenchCommandError::Write { path: path.display().to_string(), source }
}
