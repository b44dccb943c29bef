//! What tests ask of archived channels: to recover from a position, and whether the archive is whole.

use std::path::Path;
use std::process::{Command, Output};

use bobolink::protocol::command::SubscribeRequest;

/// Asks for a channel and for what was missed since a position.
pub fn recovering(channel: &str, offset: u64, epoch: &str) -> SubscribeRequest {
    SubscribeRequest {
        channel: channel.to_owned(),
        recover: true,
        offset,
        epoch: epoch.to_owned(),
        ..SubscribeRequest::default()
    }
}

/// Walks the archive of these settings with `bobolink history verify`.
pub fn verify(folder: &Path, settings: &str) -> Output {
    let file = folder.join("verify.toml");
    std::fs::write(&file, settings).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bobolink"));
    command.args(["history", "verify", "-c"]).arg(file).current_dir(folder);
    command.output().expect("the program")
}

/// What it tells of an archive that is whole; panics if it finds a fault.
pub fn verified(folder: &Path, settings: &str) -> String {
    let output = verify(folder, settings);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    told
}
