//! The `weft` command.
