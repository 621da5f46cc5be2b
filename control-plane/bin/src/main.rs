//! The control plane program.

fn main() {}
