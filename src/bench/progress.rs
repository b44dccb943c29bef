//! One line on the terminal that says how far the run is.

use std::io::{self, IsTerminal, Write};

use super::ticker::SECOND_NS;

/// How often the line changes.
const EVERY_NS: u64 = SECOND_NS / 5;

/// The line. It is written to stderr, and only if that is a terminal.
#[derive(Debug)]
pub struct Progress {
    is_shown: bool,
    next_ns: u64,
    is_dirty: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self { is_shown: io::stderr().is_terminal(), next_ns: 0, is_dirty: false }
    }

    /// Shows a text in the place of the one before, five times a second at most.
    pub fn show(&mut self, now_ns: u64, text: impl FnOnce() -> String) {
        if !self.is_shown || now_ns < self.next_ns {
            return;
        }
        self.next_ns = now_ns + EVERY_NS;
        self.is_dirty = true;
        // A terminal that is gone is no reason to stop measuring.
        let _ = write!(io::stderr(), "\r\x1b[2K{}", text());
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_dirty) {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
