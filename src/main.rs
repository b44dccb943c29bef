//! The `bobolink` program: parses the command line, maps the result to an exit code.

use std::process::ExitCode;

use bobolink::cli::{self, Cli};
use clap::Parser;
use tikv_jemallocator::Jemalloc;

/// Keeps idle connections small and, unlike the system's allocator, gives memory back when a crowd
/// has left.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
