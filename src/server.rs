//! The composition root: config, backends, node, listeners.
