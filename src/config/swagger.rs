//! The description of the server API.

use super::setting::section;

section! {
    /// A page that describes the server API.
    pub struct Swagger {
        pub enabled: bool,
        pub handler_prefix: String = "/swagger".into(),
    }
}
