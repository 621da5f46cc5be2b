//! `envoy.filters.network.sni_cluster`: the server name that a client asks for is the cluster that
//! `tcp_proxy` sends it to.

use std::rc::Rc;

use weft_filter_api::{Callouts, ConnectionFacts, NetworkFilter, NetworkFlow, TCP_CLUSTER};

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// The filter.
#[derive(Debug)]
pub(crate) struct SniCluster;

impl NetworkFilter for SniCluster {
    fn connected<'a>(
        &'a self,
        connection: &'a mut ConnectionFacts,
        _: &'a Rc<dyn Callouts>,
    ) -> NetworkFlow<'a> {
        if let Some(name) = connection.server_name.as_deref().filter(|name| !name.is_empty()) {
            let name = name.to_owned();
            connection.annotate().set_state(TCP_CLUSTER, name);
        }
        NetworkFlow::Continue
    }
}
