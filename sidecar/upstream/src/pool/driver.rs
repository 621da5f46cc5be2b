//! One task for each connection: connects, shakes hands, and drives the protocol until it ends.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};
use weft_codec::CodecError;
use weft_codec::http2::{Client, ClientConnection, Pings};
use weft_model::Cluster;

use super::lease::{Http1Connection, Http2Connection};
use super::{ConnectionFacts, Kind, Pool, alpn};
use crate::dial::dial;
use crate::limits::{add, sub};
use crate::stream::{CountedConnection, UpstreamStream};
use crate::{RequestBody, UpstreamError};

type Io = TokioIo<UpstreamStream>;
type Http2Driver = ClientConnection<UpstreamStream, Pin<Box<Sleep>>>;

#[expect(clippy::large_enum_variant, reason = "it is taken apart as soon as it is there")]
enum Established {
    Http1(http1::SendRequest<RequestBody>, http1::Connection<Io, RequestBody>),
    Http2(Client, Http2Driver),
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
        Ok((facts, Established::Http2(client, connection))) => {
            pool.cluster.stats().cx_http2_total.inc();
            pool.learned.set(Some(Kind::Http2));
            let shared = Rc::new(Http2Connection::new(client, facts));
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
    mut connection: Http2Driver,
    shared: Weak<Http2Connection>,
) -> Result<(), CodecError> {
    poll_fn(|cx| {
        let result = connection.poll(cx);
        if let Some(shared) = shared.upgrade() {
            shared.set_peer_limit(connection.max_streams());
            shared.notice_the_end(result.is_ready());
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
            handshake
                .map(|(sender, connection)| Established::Http1(sender, connection))
                .map_err(CodecError::from)
        }
        Kind::Http2 => {
            let options = &config.http2;
            let windows = (options.initial_stream_window, options.initial_connection_window);
            let handshake = Client::connect(stream, windows.0, windows.1, pings(&config)).await;
            handshake.map(|(client, connection)| Established::Http2(client, connection))
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

fn pings(config: &Cluster) -> Option<Pings<Pin<Box<Sleep>>>> {
    config.http2.keepalive.as_ref().map(|pings| Pings {
        alarm: Box::pin(sleep_until(Instant::now())),
        interval: pings.interval,
        timeout: pings.timeout,
    })
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
