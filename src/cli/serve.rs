//! `bobolink` and `bobolink serve`: runs the server.

use super::{CliError, ServeArgs};
use crate::config::{Disk, Sources, load};

/// Runs the server until it is told to stop.
pub fn serve(args: ServeArgs) -> Result<(), CliError> {
    let sources = Sources::of_process(args.config, args.flags.0);
    let loaded = load(&sources, &Disk)?;
    for notice in &loaded.notices {
        tracing::warn!("{}", notice.text);
    }
    Err(CliError::Missing("the server"))
}
