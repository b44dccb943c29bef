//! What is logged, how and where.

use super::setting::{choice, section};

section! {
    /// Logging.
    pub struct Log {
        pub level: LogLevel = LogLevel::Info,
        pub format: LogFormat,
        /// Path of a file to append to; empty for stderr, or for text on a terminal stdout.
        pub file: String,
    }
}

choice! {
    /// The least severe level that is logged.
    pub enum LogLevel {
        Trace = "trace",
        Debug = "debug",
        #[default]
        Info = "info",
        Warn = "warn",
        Error = "error",
        /// Errors too severe to go on after.
        Fatal = "fatal",
        /// Nothing at all.
        None = "none",
    }
}

choice! {
    /// The shape of a log line.
    pub enum LogFormat {
        /// Text on a terminal, JSON elsewhere.
        #[default]
        Auto = "auto",
        Json = "json",
        Text = "text",
    }
}
