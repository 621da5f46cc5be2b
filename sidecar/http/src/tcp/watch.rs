//! Network filters that are told what a connection carries.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use weft_filter_api::{Carried, NetworkFilter};
use weft_model::FilterChain;
use weft_telemetry::ResponseFlags;

use super::Session;

/// The filters of one connection that want to know, and what they have been told.
pub(super) struct Watch {
    filters: Vec<Arc<dyn NetworkFilter>>,
    every: Duration,
    /// Bytes from the client and to it, told so far, and the flags at the first time.
    told: Cell<Option<(u64, u64, ResponseFlags)>>,
}

impl Watch {
    /// `None`: no filter of the chain wants to know.
    pub(super) fn over(chain: &FilterChain) -> Option<Box<Self>> {
        let watching = chain.network_filters.iter().filter(|filter| filter.watches().is_some());
        let filters: Vec<_> = watching.cloned().collect();
        let every = filters.iter().filter_map(|filter| filter.watches()).min()?;
        Some(Box::new(Self { filters, every, told: Cell::default() }))
    }

    /// Waits for a future, and tells what was carried now and then.
    pub(super) async fn during<F: Future>(&self, future: F, session: &Session) -> F::Output {
        let mut future = pin!(future);
        loop {
            let next = session.worker.timers.after(Some(self.every).filter(|time| !time.is_zero()));
            // What ends the connection comes before the news of it.
            tokio::select! {
                biased;
                output = &mut future => return output,
                () = next => self.tell(session, false),
            }
        }
    }

    /// Tells the filters what was carried since the last time.
    pub(super) fn tell(&self, session: &Session, last: bool) {
        let (received, sent) = (session.counters.forward.get(), session.counters.backward.get());
        let before = self.told.get();
        let (seen_received, seen_sent, flags) = before.unwrap_or((0, 0, session.flags));
        self.told.set(Some((received, sent, flags)));
        let mut record = session.record();
        record.flags = flags;
        let carried = Carried {
            record,
            first: before.is_none(),
            last,
            received: received.saturating_sub(seen_received),
            sent: sent.saturating_sub(seen_sent),
            client_metadata: session.told[0].get().map(Vec::as_slice),
            upstream_metadata: session.told[1].get().map(Vec::as_slice),
        };
        for filter in &self.filters {
            filter.carried(&carried);
        }
    }
}
