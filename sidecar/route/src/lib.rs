//! Route tables: compiled matching from a request to what is done with it.
