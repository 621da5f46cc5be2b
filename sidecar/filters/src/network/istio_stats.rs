//! `istio.stats`: counts connections and their bytes in Istio's standard metrics.

use std::rc::Rc;
use std::time::Duration;

use weft_filter_api::{Callouts, Carried, ConnectionFacts, NetworkFilter, NetworkFlow};

use crate::istio::{Carriage, Peers, Stats};

pub(crate) mod config;

/// The filter.
#[derive(Debug)]
pub(crate) struct IstioStats(Stats);

impl NetworkFilter for IstioStats {
    fn connected<'a>(
        &'a self,
        _: &'a mut ConnectionFacts,
        _: &'a Rc<dyn Callouts>,
    ) -> NetworkFlow<'a> {
        NetworkFlow::Continue
    }

    fn watches(&self) -> Option<Duration> {
        Some(self.0.report_every)
    }

    fn carried(&self, carried: &Carried<'_>) {
        let peers = Peers { client: carried.client_metadata, upstream: carried.upstream_metadata };
        let carriage = Carriage {
            opened: carried.first,
            closed: carried.last,
            received: carried.received,
            sent: carried.sent,
        };
        self.0.count_connection(&carried.record, peers, &carriage);
    }
}
