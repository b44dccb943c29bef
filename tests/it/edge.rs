//! The gateway behind HAProxy, and what a deployment is made of: the real programs with the files of
//! this repository.

mod addresses;
mod agent;
mod balancer;
mod configuration;
mod container;
mod crowd;
mod leaving;
mod monitoring;
mod restarts;
