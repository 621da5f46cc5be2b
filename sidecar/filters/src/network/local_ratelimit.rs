//! `envoy.filters.network.local_ratelimit`: so many new connections in so much time.

use std::rc::Rc;

use weft_filter_api::{Callouts, ConnectionFacts, NetworkFilter, NetworkFlow};
use weft_telemetry::Counter;

use crate::bucket::TokenBucket;

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// The filter.
#[derive(Debug)]
pub(crate) struct LocalRateLimit {
    bucket: TokenBucket,
    enabled: bool,
    rate_limited: Counter,
}

impl NetworkFilter for LocalRateLimit {
    fn connected<'a>(
        &'a self,
        _: &'a mut ConnectionFacts,
        _: &'a Rc<dyn Callouts>,
    ) -> NetworkFlow<'a> {
        if !self.enabled || self.bucket.take() {
            return NetworkFlow::Continue;
        }
        self.rate_limited.inc();
        NetworkFlow::Close
    }
}
