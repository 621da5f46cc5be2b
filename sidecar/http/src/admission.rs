//! The network filters before the terminal one: whether a connection may go on.

use std::sync::Arc;

use weft_filter_api::NetworkFlow;
use weft_net::{Established, Phase};

use crate::worker::WorkerCx;

/// Asks a chain's network filters in their order. A connection for which one still waits when the
/// proxy drains is closed: nothing of the application has been exchanged on it.
pub(crate) async fn admit(established: &mut Established, worker: &WorkerCx) -> bool {
    let Established { facts, chain, guard, listener, .. } = established;
    // Nobody else knows of the connection yet.
    let facts = Arc::make_mut(facts);
    for filter in &chain.network_filters {
        let stays = match filter.connected(facts, &worker.callouts) {
            NetworkFlow::Continue => true,
            NetworkFlow::Close => false,
            NetworkFlow::Await(waiting) => tokio::select! {
                biased;
                stays = waiting => stays,
                () = guard.drain.reached(Phase::Closing) => false,
            },
        };
        if !stays {
            tracing::debug!(listener = %listener.name, ?filter, "a network filter closes a connection");
            return false;
        }
    }
    true
}
