//! The xDS server: one watch for each node and type, and pushes of what changed.
