//! `envoy.filters.http.on_demand`: has missing virtual hosts and clusters fetched.
//!
//! The waiting is done where the route is chosen, before the filters run: Envoy runs the chain
//! anew after its filter has waited, with the same result.

pub(crate) mod config;
