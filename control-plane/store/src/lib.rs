//! Where resources are kept: one trait, an embedded store.
