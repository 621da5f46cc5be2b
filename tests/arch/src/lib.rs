//! Tests of the structure: crate graph, sizes, where protobuf and unsafe code may be.
//!
//! The crate has no code of its own; see `tests/structure.rs`.
