//! The files that the topology is started from: those of the repository, which the binary carries, or
//! those in a folder, so that one can drill what one deploys.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::time::random_letters;

/// Path below the repository, and content.
const FILES: &[(&str, &str)] = &[
    ("sentinel/start", include_str!("../../../sentinel/start")),
    ("sentinel/master.conf", include_str!("../../../sentinel/master.conf")),
    ("sentinel/replica.conf", include_str!("../../../sentinel/replica.conf")),
    ("sentinel/sentinel.conf", include_str!("../../../sentinel/sentinel.conf")),
    ("sentinel/gateway.toml", include_str!("../../../sentinel/gateway.toml")),
    ("haproxy/haproxy.cfg", include_str!("../../../haproxy/haproxy.cfg")),
];

/// A folder for all that the processes write; removed when this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    is_kept: bool,
}

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = .path.display())]
pub struct FileError {
    path: PathBuf,
    source: io::Error,
}

impl Folder {
    /// A new folder among the temporary ones of the system, with the files in it: from below `from`
    /// where that is given, else as the binary has them. With `is_kept` it outlives this.
    ///
    /// # Errors
    /// Names the path that cannot be read or written.
    pub fn new(from: Option<&Path>, is_kept: bool) -> Result<Self, FileError> {
        let name = format!("bobolink-drill-{}", random_letters(8));
        let path = std::env::temp_dir().join(name);
        let folder = Self { path, is_kept };
        for (below, content) in FILES {
            let text = match from {
                Some(from) => read(&from.join(below))?,
                None => (*content).to_owned(),
            };
            folder.write(below, &text)?;
        }
        let start = folder.path("sentinel/start");
        fs::set_permissions(&start, Permissions::from_mode(0o700)).map_err(at(&start))?;
        Ok(folder)
    }

    /// The place of something in it.
    pub fn path(&self, below: &str) -> PathBuf {
        self.path.join(below)
    }

    /// Writes a file into it.
    ///
    /// # Errors
    /// Names the path that cannot be written.
    pub fn write(&self, below: &str, text: &str) -> Result<(), FileError> {
        let path = self.path.join(below);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        fs::write(&path, text).map_err(at(&path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_has_the_files_and_goes_away() {
        let folder = Folder::new(None, false).unwrap();
        let (start, path) = (folder.path("sentinel/start"), folder.path.clone());
        assert_eq!(fs::metadata(start).unwrap().permissions().mode() & 0o777, 0o700);
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_without_the_files_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let error = Folder::new(Some(empty.path()), false).unwrap_err().to_string();
        assert!(error.contains("sentinel/start"), "{error}");
    }
}
