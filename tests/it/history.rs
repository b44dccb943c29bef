//! History that lasts: the stores, the service, and recovery from far back.

mod contract;
mod disk;
mod embedded;
