//! What the tests of filters share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use weft_filter_api::{ConnectionFacts, Protocol, StreamCx};

/// The context of a stream that begins now, on a connection from 192.0.2.1.
pub(crate) fn stream(protocol: Protocol) -> StreamCx {
    let facts = ConnectionFacts {
        id: 1,
        remote: SocketAddr::from(([192, 0, 2, 1], 40_000)),
        local: SocketAddr::from(([192, 0, 2, 2], 80)),
        restored: false,
        accepted: SystemTime::UNIX_EPOCH,
        application_protocols: Vec::new(),
        server_name: None,
        tls: None,
    };
    StreamCx::new(Arc::new(facts), protocol)
}
