//! `bobolink drill`: runs drills, prints the verdict, writes the file.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::drill::options::DrillArgs;
use crate::drill::report::{Report, render};
use crate::drill::{self, DrillError, UsageError};
use crate::time::Clock;

/// A promise was broken.
const FAILED: u8 = 1;
/// The flags make no sense, as clap has it.
const USAGE: u8 = 2;
/// There is no verdict.
const NOT_RUN: u8 = 3;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum DrillCommandError {
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("not run: {0}")]
    Drill(#[from] DrillError),
    #[error("cannot write {path}: {source}")]
    Write { path: String, source: io::Error },
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Runs the drills; the exit code is 0 if every promise was kept, 1 if not, 2 for flags that make no
/// sense and 3 if there was no drill, which stderr says.
pub async fn run(args: &DrillArgs, clock: &Clock, out: &mut impl Write) -> ExitCode {
    match verdict(args, clock, out).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FAILED.into(),
        Err(error) => {
            eprintln!("bobolink: {error}");
            let is_usage = matches!(error, DrillCommandError::Usage(_));
            (if is_usage { USAGE } else { NOT_RUN }).into()
        }
    }
}

async fn verdict(
    args: &DrillArgs,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<bool, DrillCommandError> {
    drill::check(args)?;
    // Where the verdict goes to standard output, it goes there alone.
    let is_alone = args.json.as_deref() == Some(Path::new("-"));
    let report = match is_alone {
        true => drill::run(args, clock, &mut io::stderr()).await?,
        false => drill::run(args, clock, out).await?,
    };
    let Some(report) = report else { return Ok(true) };
    if is_alone {
        out.write_all(&json(&report)?)?;
    } else {
        write!(out, "{}", render(&report))?;
    }
    if let Some(path) = args.json.as_deref().filter(|_| !is_alone) {
        let failed = |source| DrillCommandError::Write { path: path.display().to_string(), source };
        std::fs::write(path, json(&report)?).map_err(failed)?;
    }
    Ok(report.passed)
}

fn json(report: &Report) -> Result<Vec<u8>, io::Error> {
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    Ok(text)
}
