//! Channels: names, namespaces, options and who may do what. Pure.
