//! Clusters against real servers on loopback.

mod http1;
mod support;
