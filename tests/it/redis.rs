//! The Redis engine against the real server: each test starts its own.

mod cluster;
mod contract;
mod control;
mod fence;
mod foreign;
mod gateways;
mod masters;
mod nodes;
mod outages;
pub mod process;
mod proxy;
mod wait;
