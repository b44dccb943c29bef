//! The server API over HTTP.

use super::setting::{choice, section};
use super::units::Secret;

section! {
    /// What the application backend calls.
    pub struct HttpApi {
        pub disabled: bool,
        pub handler_prefix: String = "/api".into(),
        /// Key callers must give; without one nobody may call.
        pub key: Secret,
        pub error_mode: ErrorMode,
        /// Also on the main port, if there is an internal one.
        pub external: bool,
        /// Asks for no key.
        pub insecure: bool,
    }
}

choice! {
    /// Where an error of a method shows.
    pub enum ErrorMode {
        /// In the body of an answer with status 200.
        #[default]
        Body = "",
        /// In the status.
        Transport = "transport",
    }
}
