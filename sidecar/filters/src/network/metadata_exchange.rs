//! `istio.metadata_exchange` of TCP: peers that agree on its ALPN name tell each other who they
//! are, each in a preface of its own before the connection's bytes. The TCP proxy writes and reads
//! them; what they hold is made and understood here.

use std::rc::Rc;
use std::sync::Arc;

use weft_filter_api::{Callouts, ConnectionFacts, NetworkFilter, NetworkFlow, PeerExchange};

pub(crate) mod config;
mod preface;
#[cfg(test)]
mod tests;

/// The filter of a listener.
#[derive(Debug)]
pub(crate) struct MetadataExchange(Arc<PeerExchange>);

impl NetworkFilter for MetadataExchange {
    fn connected<'a>(
        &'a self,
        _: &'a mut ConnectionFacts,
        _: &'a Rc<dyn Callouts>,
    ) -> NetworkFlow<'a> {
        NetworkFlow::Continue
    }

    fn peer_exchange(&self) -> Option<&Arc<PeerExchange>> {
        Some(&self.0)
    }
}
