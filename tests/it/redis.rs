//! The Redis engine against the real server: each test starts its own.

mod contract;
mod control;
mod fence;
mod foreign;
mod gateways;
mod nodes;
mod outages;
pub mod process;
