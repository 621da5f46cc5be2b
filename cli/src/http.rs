//! The small HTTP/1.1 client of this command: one connection, requests one after the other.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Speaks HTTP/1.1 on a byte stream.
    ///
    /// # Errors
    ///
    /// When the handshake fails.
    pub async fn open<S>(stream: S) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, driver) = handshake(TokioIo::new(stream)).await?;
        // The driver ends with the connection, which ends with `sender`; what
        // it fails with, the request fails with too.
        tokio::spawn(async move {
            let _ = driver.await;
        });
        Ok(Self { sender })
    }

    /// Whether another request can be sent on it; waits until that is known.
    pub async fn is_ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// When the connection breaks before the answer is complete.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
        let response = self.sender.send_request(request).await.context("no answer")?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("the answer broke off")?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

/// A request without a body, for a path on a host.
///
/// # Errors
///
/// When host or path can't stand in a request.
pub fn get(host: &str, path: &str) -> Result<Request<Full<Bytes>>> {
    Request::get(path)
        .header("host", host)
        .body(Full::default())
        .with_context(|| format!("http://{host}{path} is no address"))
}
