//! The admin page.

use super::setting::section;
use super::units::Secret;

section! {
    /// The admin page and its API.
    pub struct Admin {
        pub enabled: bool,
        /// Path the page is under; empty for the root.
        pub handler_prefix: String,
        pub password: Secret,
        /// Signs the tokens of those who gave the password.
        pub secret: Secret,
        /// Asks for no password.
        pub insecure: bool,
        /// Folder of another page to serve.
        pub web_path: String,
        /// Address another page is served from.
        pub web_proxy_address: String,
        /// Also on the main port, if there is an internal one.
        pub external: bool,
    }
}
