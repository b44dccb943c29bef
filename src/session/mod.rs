//! One connection's protocol life.
