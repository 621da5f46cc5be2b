//! A plain HTTP/1.1 client for tests: one request, one connection.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value; empty if it is absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// GETs a path; the `host` header is the address.
///
/// # Errors
///
/// When there is no connection or no whole answer.
pub async fn get(address: SocketAddr, path: &str) -> Result<Reply> {
    let request = Request::get(path).header("host", address.to_string()).body(Full::default())?;
    send(address, request).await
}

/// Sends a request on a connection of its own.
///
/// # Errors
///
/// When there is no connection or no whole answer.
pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Reply> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    send_on(stream, request).await
}

/// Sends a request as the only one on a connection made elsewhere.
///
/// # Errors
///
/// When there is no whole answer.
pub async fn send_on<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, driver) = handshake(TokioIo::new(stream)).await?;
    // What the connection fails with, the request fails with too.
    let driver = tokio::spawn(driver);
    let response = sender.send_request(request).await.context("no answer")?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("the answer broke off")?.to_bytes();
    driver.abort();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
}
