//! One task for each connection: connects, shakes hands, and drives the protocol until it ends.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use weft_model::Cluster;

use super::lease::{Http1Connection, Http2Connection};
use super::{ConnectionFacts, Kind, Pool, alpn};
use crate::dial::dial;
use crate::limits::{add, sub};
use crate::stream::{CountedConnection, UpstreamStream};
use crate::{RequestBody, UpstreamError};

type Io = TokioIo<UpstreamStream>;

#[expect(clippy::large_enum_variant, reason = "it is taken apart as soon as it is there")]
enum Established {
    Http1(http1::SendRequest<RequestBody>, http1::Connection<Io, RequestBody>),
    Http2(http2::SendRequest<RequestBody>, http2::Connection<Io, RequestBody, LocalExecutor>),
}

/// Starts an attempt. The task ends with its connection, which ends when the pool lets go of it.
pub(super) fn start(pool: &Rc<Pool>) {
    add(&pool.open);
    add(&pool.connecting);
    let level = pool.level();
    let counted = CountedConnection::new(&pool.cluster.handle, &level.connections);
    let open = Open { pool: Rc::clone(pool), connecting: true };
    tokio::task::spawn_local(drive(open, counted));
}

async fn drive(open: Open, counted: CountedConnection) {
    let pool = Rc::clone(&open.pool);
    run(open, counted).await;
    // Those who still wait need another one.
    pool.top_up();
}

async fn run(mut open: Open, counted: CountedConnection) {
    // Boxed, so that a connection does not carry the room of its handshake for life.
    let established = Box::pin(establish(&open.pool, counted)).await;
    open.connected();
    let pool = &open.pool;
    match established {
        Err(error) => {
            tracing::debug!(cluster = %pool.cluster.handle.name(), %error, "connecting failed");
            pool.attempt_failed(&error);
        }
        Ok((facts, Established::Http1(sender, connection))) => {
            pool.cluster.stats().cx_http1_total.inc();
            pool.learned.set(Some(Kind::Http1));
            pool.welcome(Http1Connection { sender, facts });
            pool.top_up();
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(cluster = %pool.cluster.handle.name(), %error, "connection ended");
            }
        }
        Ok((facts, Established::Http2(sender, connection))) => {
            pool.cluster.stats().cx_http2_total.inc();
            pool.learned.set(Some(Kind::Http2));
            let shared = Rc::new(Http2Connection::new(sender, facts));
            let watched = watch_limit(connection, Rc::downgrade(&shared));
            pool.share(shared);
            pool.top_up();
            if let Err(error) = watched.await {
                tracing::debug!(cluster = %pool.cluster.handle.name(), %error, "connection ended");
            }
        }
    }
}

/// Drives an HTTP/2 connection and keeps an eye on how many streams the upstream allows.
async fn watch_limit(
    mut connection: http2::Connection<Io, RequestBody, LocalExecutor>,
    shared: Weak<Http2Connection>,
) -> hyper::Result<()> {
    poll_fn(|cx| {
        let result = Pin::new(&mut connection).poll(cx);
        if let Some(shared) = shared.upgrade() {
            shared.set_peer_limit(connection.current_max_send_streams());
        }
        result
    })
    .await
}

async fn establish(
    pool: &Pool,
    counted: CountedConnection,
) -> Result<(Rc<ConnectionFacts>, Established), UpstreamError> {
    let config = Arc::clone(&pool.cluster.handle.config());
    let mut target = Cow::Borrowed(&pool.target);
    if target.alpn.is_none()
        && let Some(protocols) = alpn::offered(pool.kind, config.istio_alpn)
    {
        target.to_mut().alpn = Some(Arc::clone(protocols));
    }
    let stream = dial(&pool.cluster.handle, &target, counted).await?;
    let kind = alpn::decided(pool.kind, stream.alpn());
    let facts = Rc::new(ConnectionFacts {
        local: stream.local_address(),
        remote: stream.remote_address(),
        tls: stream.is_tls(),
        born: pool.cluster.worker.now(),
        served: std::cell::Cell::new(0),
    });
    let shaken = match kind {
        Kind::Http1 | Kind::Auto => {
            let handshake = http1_options(&config).handshake(TokioIo::new(stream)).await;
            handshake.map(|(sender, connection)| Established::Http1(sender, connection))
        }
        Kind::Http2 => {
            let handshake = http2_options(&config).handshake(TokioIo::new(stream)).await;
            handshake.map(|(sender, connection)| Established::Http2(sender, connection))
        }
    };
    let established = shaken.map_err(|error| UpstreamError::ConnectFailed {
        address: pool.target.address.clone(),
        reason: error.to_string().into(),
    })?;
    Ok((facts, established))
}

fn http1_options(config: &Cluster) -> http1::Builder {
    let mut options = http1::Builder::new();
    options
        .allow_obsolete_multiline_headers_in_responses(true)
        .preserve_header_case(config.http1.preserve_case)
        .title_case_headers(config.http1.title_case);
    options
}

fn http2_options(config: &Cluster) -> http2::Builder<LocalExecutor> {
    let mut options = http2::Builder::new(LocalExecutor);
    options
        .timer(TokioTimer::new())
        .initial_stream_window_size(config.http2.initial_stream_window)
        .initial_connection_window_size(config.http2.initial_connection_window);
    if let Some(pings) = &config.http2.keepalive {
        options
            .keep_alive_interval(pings.interval)
            .keep_alive_timeout(pings.timeout)
            .keep_alive_while_idle(true);
    }
    options
}

/// Counts a connection of a pool while it lives.
struct Open {
    pool: Rc<Pool>,
    connecting: bool,
}

impl Open {
    fn connected(&mut self) {
        if std::mem::take(&mut self.connecting) {
            sub(&self.pool.connecting);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connected();
        sub(&self.pool.open);
    }
}

/// Runs hyper's HTTP/2 tasks on the worker that owns the connection.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F> Executor<F> for LocalExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what a function of two arguments returns.
    fn size_of_result<A, B, R>(_: fn(A, B) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn a_connection_does_not_carry_its_handshake_for_life() {
        let size = size_of_result(drive);
        assert!(size <= 2048, "a connection's task has {size} bytes");
    }
}
