//! APISIX's plugins, which run in weft-plugins; here is only how they travel.

pub(crate) mod config;
