//! `envoy.filters.network.connection_limit`: so many connections at once.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weft_filter_api::{Callouts, ConnectionFacts, NetworkFilter, NetworkFlow};
use weft_telemetry::{Counter, Gauge};

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// The filter.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    open: Arc<Open>,
    /// `max_connections`, of all workers together.
    most: u64,
    /// How long a connection beyond it is kept, unread, before it is closed.
    delay: Duration,
    enabled: bool,
    limited: Counter,
}

/// The connections that count.
#[derive(Debug)]
struct Open {
    count: AtomicU64,
    active: Gauge,
}

/// One of them.
#[derive(Debug)]
struct Place(Arc<Open>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.active.dec();
    }
}

impl ConnectionLimit {
    fn place(&self) -> Option<Place> {
        let one_more = |count: u64| (count < self.most).then_some(count + 1);
        self.open.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        self.open.active.inc();
        Some(Place(Arc::clone(&self.open)))
    }
}

impl NetworkFilter for ConnectionLimit {
    fn connected<'a>(
        &'a self,
        connection: &'a mut ConnectionFacts,
        _: &'a Rc<dyn Callouts>,
    ) -> NetworkFlow<'a> {
        if !self.enabled {
            return NetworkFlow::Continue;
        }
        if let Some(place) = self.place() {
            connection.kept.push(Arc::new(place));
            return NetworkFlow::Continue;
        }
        self.limited.inc();
        if self.delay.is_zero() {
            return NetworkFlow::Close;
        }
        NetworkFlow::Await(Box::pin(async {
            tokio::time::sleep(self.delay).await;
            false
        }))
    }
}
