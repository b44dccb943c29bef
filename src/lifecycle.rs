//! Signals, stop tokens and the drain schedule.
