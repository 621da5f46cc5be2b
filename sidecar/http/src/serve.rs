//! The entrance: one established connection is served to its end.

use std::rc::Rc;

use weft_model::Terminal;
use weft_net::Established;

use crate::worker::WorkerCx;
use crate::{admission, connection, ends, tcp};

/// Serves a connection until it ends: by the client, the upstream, a time limit or draining.
pub async fn serve(mut established: Established, worker: Rc<WorkerCx>) {
    if !established.chain.network_filters.is_empty()
        && !Box::pin(admission::admit(&mut established, &worker)).await
    {
        return;
    }
    // An idle connection keeps the largest of these, so that all but HTTP's, of which there are most,
    // stand on the heap.
    match established.chain.terminal.clone() {
        Terminal::Http(manager) => connection::serve(established, manager, worker).await,
        Terminal::Tcp(proxy) => Box::pin(tcp::serve(established, proxy, worker)).await,
        Terminal::Direct(response) => Box::pin(ends::respond(established, &response)).await,
        Terminal::Echo => Box::pin(ends::echo(established)).await,
    }
}
