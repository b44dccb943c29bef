//! The server API's description for machines (`openapi.json`) and the page that shows it.

pub mod assets;
