//! `envoy.filters.network.local_ratelimit`: so many new connections in so much time.

use weft_filter_api::{ConnectionFacts, NetworkFilter, NetworkFlow};
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
    fn connected(&self, _: &mut ConnectionFacts) -> NetworkFlow {
        if !self.enabled || self.bucket.take() {
            return NetworkFlow::Continue;
        }
        self.rate_limited.inc();
        NetworkFlow::Close
    }
}
