//! A disk that is soon full.

use std::path::Path;
use std::process::Command;

/// A small disk in memory, gone when this is dropped.
pub struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    pub fn mount(at: &'a Path, size: &str) -> Self {
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", text(at)]);
        Self(at)
    }

    pub fn resize(&self, size: &str) {
        run("mount", &["-o", &format!("remount,size={size}"), text(self.0)]);
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        run("umount", &["-l", text(self.0)]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a text")
}

/// Mounting is root's; others get a user namespace only where the system allows it, so the test asks
/// for root rather than pass without having shown anything.
fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect("the program");
    assert!(
        status.success(),
        "{program} {arguments:?}: this test needs root to mount a small disk"
    );
}
