//! Streams and their distribution.
