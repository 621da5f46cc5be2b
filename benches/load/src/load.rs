//! The clients.

mod bodies;
mod grpc;
mod hold;
mod http1;
mod http2;
pub(crate) mod open;
mod tcp;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

pub(crate) use self::hold::{http1 as hold, http2 as hold_http2};
pub(crate) use self::http1::clients as http1_path;

use crate::histogram::Histogram;

/// Streams at a time on each HTTP/2 connection.
const STREAMS: usize = 8;

/// What a run did while it was measured.
pub(crate) struct Outcome {
    /// Latencies of the units.
    pub(crate) latencies: Histogram,
    /// Requests, messages or connections.
    pub(crate) units: u64,
    /// Bytes both ways, where they are what counts.
    pub(crate) bytes: u64,
    /// Connections that took up a TLS session.
    pub(crate) resumed: u64,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
}

/// From when to when units count.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

/// The kinds of closed loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// GET with a small reply.
    Http1,
    /// The same on streams of HTTP/2 with prior knowledge.
    Http2,
    /// One message each way.
    GrpcUnary,
    /// Messages to and fro on streams that stay.
    GrpcStream,
    /// Bytes to and fro, as many as go.
    Tcp,
    /// Large bodies up and down in turn.
    Bodies,
}

/// One client's part.
#[derive(Default)]
struct Part {
    latencies: Histogram,
    units: u64,
    bytes: u64,
    resumed: u64,
}

impl Window {
    fn contains(&self, at: Instant) -> bool {
        at >= self.from && at < self.until
    }
}

impl Traffic {
    /// Runs so many clients until the window ends.
    pub(crate) async fn run(
        self,
        address: SocketAddr,
        clients: usize,
        window: Window,
    ) -> Result<Outcome> {
        match self {
            Self::Http1 => http1::clients(address, clients, window, "/hello".to_owned()).await,
            Self::Http2 => http2::clients(address, clients, window).await,
            Self::GrpcUnary => grpc::unary(address, clients, window).await,
            Self::GrpcStream => grpc::streams(address, clients, window).await,
            Self::Tcp => tcp::clients(address, clients, window).await,
            Self::Bodies => bodies::clients(address, clients, window).await,
        }
    }
}

impl Part {
    /// Counts one unit that began at `start` and is done now, if now is within the window.
    fn record(&mut self, start: Instant, window: Window) {
        let end = Instant::now();
        if window.contains(end) {
            self.latencies.record((end - start).as_micros() as u64);
            self.units += 1;
        }
    }

    /// Counts bytes that went by now.
    fn pass(&mut self, bytes: usize, window: Window) {
        if window.contains(Instant::now()) {
            self.bytes += bytes as u64;
        }
    }
}

async fn collect(mut tasks: JoinSet<Result<Part>>, window: Window) -> Result<Outcome> {
    let mut sum = Part::default();
    while let Some(part) = tasks.join_next().await {
        let part = part??;
        sum.latencies.merge(&part.latencies);
        sum.units += part.units;
        sum.bytes += part.bytes;
        sum.resumed += part.resumed;
    }
    Ok(Outcome {
        latencies: sum.latencies,
        units: sum.units,
        bytes: sum.bytes,
        resumed: sum.resumed,
        elapsed: window.until - window.from,
    })
}
