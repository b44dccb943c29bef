//! The integration tests, one binary: linking it once is what keeps a test run short.

mod ci;
mod fuzzed;
mod layers;
mod source;
mod tidy;
