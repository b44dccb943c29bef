//! The Redis engine against the real server: each test starts its own.

mod access;
mod archived;
mod cluster;
mod cluster_faults;
mod clusters;
mod contract;
mod control;
mod fence;
mod foreign;
mod gateways;
pub mod group;
mod health;
pub mod masters;
mod nodes;
mod outages;
mod positions;
mod presence;
pub mod process;
mod proxy;
mod refusals;
mod replicas;
mod tap;
mod wait;
