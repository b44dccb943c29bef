//! The Redis engine against the real server: each test starts its own.

mod contract;
mod fence;
mod gateways;
mod outages;
pub mod process;
