//! Control planes that others wrote, with `weft-sidecar` as their proxy.
//!
//! The suites are in `tests/`, the control planes beside them, one folder for each language.
