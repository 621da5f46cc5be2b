//! Which sockets listen, as the workers tell.

use std::collections::HashMap;

use parking_lot::Mutex;
use weft_model::{ListenAddress, Snapshot};
use weft_net::ListenerEvent;

/// The sockets of all workers.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Mutex<HashMap<ListenAddress, Bound>>);

#[derive(Debug)]
struct Bound {
    /// Workers that listen.
    workers: usize,
}

impl Sockets {
    /// Notes an event and says it in the log; gives back a failure: listener, address and reason.
    pub(crate) fn note(&self, event: ListenerEvent) -> Option<(String, String, String)> {
        let mut sockets = self.0.lock();
        match event {
            ListenerEvent::Bound { listener, wanted, bound } => {
                let new = !sockets.contains_key(&wanted);
                let shown = bound.map_or_else(|| text(&wanted), |address| address.to_string());
                if new {
                    tracing::info!(%listener, address = %shown, "listening");
                }
                let entry = sockets.entry(wanted).or_insert(Bound { workers: 0 });
                entry.workers += 1;
                None
            }
            ListenerEvent::Failed { listener, address, reason } => {
                tracing::error!(%listener, address = %text(&address), %reason, "can't listen");
                Some((listener.to_string(), text(&address), reason))
            }
            ListenerEvent::Closed { address } => {
                let left = sockets.get_mut(&address).map(|bound| {
                    bound.workers = bound.workers.saturating_sub(1);
                    bound.workers
                });
                if left == Some(0) {
                    tracing::info!(address = %text(&address), "closed");
                    sockets.remove(&address);
                }
                None
            }
        }
    }

    /// Whether every socket of the snapshot's listeners listens on all workers; Unix sockets belong
    /// to one.
    pub(crate) fn serve(&self, snapshot: &Snapshot, workers: usize) -> bool {
        let sockets = self.0.lock();
        let mut addresses =
            snapshot.listeners.values().filter(|l| l.bind).flat_map(|l| &l.addresses);
        addresses.all(|address| {
            let wanted = if matches!(address, ListenAddress::Socket(_)) { workers } else { 1 };
            sockets.get(address).is_some_and(|bound| bound.workers >= wanted)
        })
    }
}

fn text(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Socket(address) => address.to_string(),
        ListenAddress::Pipe(path) => path.display().to_string(),
    }
}
