//! Resources in, xDS out: a pure translation for each node.
