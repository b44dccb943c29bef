//! The `bobolink` program: parses the command line, maps the result to an exit code.

use std::process::ExitCode;

use bobolink::cli::{self, Cli};
use clap::Parser;

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
