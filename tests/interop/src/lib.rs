//! Software that others wrote, with `weft-sidecar` as its proxy.
//!
//! The suites are in `tests/`, the control planes beside them, one folder for each language.
