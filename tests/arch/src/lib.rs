//! Tests of the structure: crate graph, sizes, where protobuf may be named.
