//! End-to-end tests of the built programs.
//!
//! The crate has no code of its own; each file in `tests/` is a suite that
//! starts real processes and ends them.
