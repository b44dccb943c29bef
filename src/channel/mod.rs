//! Channels: names, namespaces, options and who may do what. Pure: nothing here waits, and what is
//! decided depends on the arguments alone.
//!
//! **To add a channel option:** a field of [`ChannelOptions`](crate::config::ChannelOptions) with
//! its line in `config.toml`; whom it allows what goes to [`permission`], with its rows in the
//! tables of that file's tests.

pub mod name;
pub mod rules;
pub mod namespaces;
pub mod permission;

pub use name::{Channel, Name, NameRules};
pub use namespaces::Namespaces;
pub use permission::{Actor, Refusal};
pub use rules::ChannelRules;
