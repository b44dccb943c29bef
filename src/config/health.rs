//! The health endpoint.

use super::setting::section;

section! {
    /// Tells whether the server is well.
    pub struct Health {
        pub enabled: bool,
        pub handler_prefix: String = "/health".into(),
    }
}
