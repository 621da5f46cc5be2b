//! One task for each attempt: connects, shakes hands, and drives HTTP/2 until it ends.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::time::{Instant, Sleep, sleep_until};
use weft_codec::CodecError;
use weft_codec::http1::{self, Spelling};
use weft_codec::http2::{Client, ClientConnection, Pings};
use weft_model::Cluster;

use super::lease::{Http1Connection, Http2Connection};
use super::{ConnectionFacts, Kind, Pool, alpn};
use crate::dial::dial;
use crate::limits::{add, sub};
use crate::stream::{CountedConnection, UpstreamStream};
use crate::{RequestBody, UpstreamError};

type Http1Client = http1::ClientConnection<UpstreamStream, RequestBody>;
type Http2Driver = ClientConnection<UpstreamStream, Pin<Box<Sleep>>>;

enum Established {
    Http1(Box<Http1Client>),
    Http2(Client, Box<Http2Driver>),
}

/// Starts an attempt. The task ends when the connection is there, or with it if it is shared.
pub(super) fn start(pool: &Rc<Pool>) {
    add(&pool.open);
    add(&pool.connecting);
    let level = pool.level();
    let counted = CountedConnection::new(&pool.cluster.handle, &level.connections, &pool.host);
    let open = Open { pool: Rc::downgrade(pool), connecting: true };
    tokio::task::spawn_local(run(Rc::clone(pool), open, counted));
}

async fn run(pool: Rc<Pool>, mut open: Open, counted: CountedConnection) {
    // Boxed, so that a connection does not carry the room of its handshake for life.
    let established = Box::pin(establish(&pool, counted)).await;
    open.connected();
    match established {
        Err(error) => {
            tracing::debug!(cluster = %pool.cluster.handle.name(), %error, "connecting failed");
            pool.attempt_failed(&error);
        }
        Ok((facts, Established::Http1(client))) => {
            pool.cluster.stats().cx_http1_total.inc();
            pool.learned.set(Some(Kind::Http1));
            pool.offer(Http1Connection { client, facts, _open: open });
            pool.top_up();
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
    mut connection: Box<Http2Driver>,
    shared: Weak<Http2Connection>,
) -> Result<(), CodecError> {
    poll_fn(|cx| {
        let result = connection.poll(cx);
        if let Some(shared) = shared.upgrade() {
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
    let established = match kind {
        Kind::Http1 | Kind::Auto => {
            Established::Http1(Box::new(Http1Client::new(stream, spelling(&config))))
        }
        Kind::Http2 => {
            let options = &config.http2;
            let windows = (options.initial_stream_window, options.initial_connection_window);
            let (client, connection) = Client::new(stream, windows.0, windows.1, pings(&config));
            Established::Http2(client, Box::new(connection))
        }
    };
    Ok((facts, established))
}

fn spelling(config: &Cluster) -> Spelling {
    if config.http1.preserve_case {
        Spelling::Preserved
    } else if config.http1.title_case {
        Spelling::Title
    } else {
        Spelling::Lower
    }
}

fn pings(config: &Cluster) -> Option<Pings<Pin<Box<Sleep>>>> {
    config.http2.keepalive.as_ref().map(|pings| Pings {
        alarm: Box::pin(sleep_until(Instant::now())),
        interval: pings.interval,
        timeout: pings.timeout,
    })
}

/// Counts a connection of a pool, or the attempt at one, while it lives.
#[derive(Debug)]
pub(super) struct Open {
    pool: Weak<Pool>,
    connecting: bool,
}

impl Open {
    fn connected(&mut self) {
        if std::mem::take(&mut self.connecting)
            && let Some(pool) = self.pool.upgrade()
        {
            sub(&pool.connecting);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let given_up = self.connecting;
        self.connected();
        if let Some(pool) = self.pool.upgrade() {
            sub(&pool.open);
            // Those who still wait need another one; where attempts are given up, the worker ends.
            if !given_up && !pool.waiters.borrow().is_empty() {
                pool.top_up();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what a function of three arguments returns.
    fn size_of_result<A, B, C, R>(_: fn(A, B, C) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn a_connection_does_not_carry_its_handshake_for_life() {
        let size = size_of_result(run);
        assert!(size <= 2048, "a connection's task has {size} bytes");
    }
}
