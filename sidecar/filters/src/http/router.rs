//! `envoy.filters.http.router`: the mark at the end of the chain; forwarding itself is the
//! connection manager's.

pub(crate) mod config;
