//! Channels: names, namespaces, options and who may do what. Pure: nothing here waits, and what is
//! decided depends on the arguments alone.
//!
//! **To add a channel option:** a field of [`ChannelOptions`](crate::config::ChannelOptions) with
//! its line in `config.toml`; what follows from it for a subscription goes to [`features`], whom it
//! allows what to [`permission`], each with its row in the table of that file's tests.

pub mod name;
pub mod options;
pub mod namespaces;
pub mod features;
pub mod permission;

pub use features::{Features, Overrides, Wishes};
pub use name::{Channel, Name, NameRules};
pub use namespaces::{Namespaces, Resolved};
pub use options::Options;
pub use permission::{Asker, Refusal, SubscribeDecision};
