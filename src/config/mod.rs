//! Configuration: one struct and one file per section, read from defaults, file, environment and flags.
