//! The entrance: one established connection is served to its end.

use std::rc::Rc;

use weft_model::Terminal;
use weft_net::Established;

use crate::worker::WorkerCx;
use crate::{connection, tcp};

/// Serves a connection until it ends: by the client, the upstream, a time limit or draining.
pub async fn serve(established: Established, worker: Rc<WorkerCx>) {
    match established.chain.terminal.clone() {
        Terminal::Http(manager) => connection::serve(established, manager, worker).await,
        Terminal::Tcp(proxy) => tcp::serve(established, proxy, worker).await,
    }
}
