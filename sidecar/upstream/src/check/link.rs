//! The connection over which a host is checked. It counts for nothing else, and has nothing of a
//! worker's: hyper serves where nothing has to be quick.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use weft_model::ClusterHandle;

use crate::dial::{Target, open};
use crate::stream::Channel;
use crate::task::Task;

/// A connection that speaks HTTP, or none.
#[derive(Debug)]
pub(super) enum Link {
    Http1(http1::SendRequest<Full<Bytes>>, #[expect(dead_code, reason = "drives it")] Task),
    Http2(http2::SendRequest<Full<Bytes>>, #[expect(dead_code, reason = "drives it")] Task),
    Plain(Channel),
}

impl Link {
    /// Connects, without a word of HTTP yet.
    pub(super) async fn plain(cluster: &ClusterHandle, target: &Target) -> Option<Channel> {
        open(cluster, target).await.ok()
    }

    /// Connects and speaks HTTP.
    pub(super) async fn http(cluster: &ClusterHandle, target: &Target, two: bool) -> Option<Self> {
        let io = TokioIo::new(Self::plain(cluster, target).await?);
        if two {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.ok()?;
            return Some(Self::Http2(sender, Task::spawn(async move { drop(connection.await) })));
        }
        let (sender, connection) = http1::handshake(io).await.ok()?;
        Some(Self::Http1(sender, Task::spawn(async move { drop(connection.await) })))
    }

    /// Whether it takes another request.
    pub(super) async fn is_ready(&mut self) -> bool {
        match self {
            Self::Http1(sender, _) => sender.ready().await.is_ok(),
            Self::Http2(sender, _) => sender.ready().await.is_ok(),
            Self::Plain(_) => false,
        }
    }

    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Option<Response<Incoming>> {
        match self {
            Self::Http1(sender, _) => sender.send_request(request).await.ok(),
            Self::Http2(sender, _) => sender.send_request(request).await.ok(),
            Self::Plain(_) => None,
        }
    }
}
