//! The control plane's Admin API, called from inside its namespace.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use weft_netns::Host;

use crate::http::Connection;

const ADMIN_PORT: u16 = 9180;

/// A client of the Admin API.
#[derive(Debug, Clone)]
pub(crate) struct AdminApi {
    host: Host,
    key: String,
}

impl AdminApi {
    pub(crate) fn new(host: &Host, key: &str) -> Self {
        Self { host: host.clone(), key: key.to_owned() }
    }

    /// Creates or replaces a resource.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// Changes a part of a resource.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// Reads a resource or a list.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let stream = connect(&self.host, (Ipv4Addr::LOCALHOST, ADMIN_PORT).into()).await?;
        let content = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header("host", "weft")
            .header("x-api-key", &self.key)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(content)))?;
        let answer = Connection::open(stream).await?.send(request).await?;
        let text = String::from_utf8_lossy(answer.body());
        if !answer.status().is_success() {
            bail!("{method} {path}: {} {}", answer.status(), text.trim());
        }
        serde_json::from_str(&text).with_context(|| format!("{method} {path} answered: {text}"))
    }
}

/// Connects from inside a namespace.
pub(crate) async fn connect(host: &Host, address: SocketAddr) -> Result<TcpStream> {
    let socket = host.enter(|| match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    })??;
    socket.connect(address).await.with_context(|| format!("cannot connect to {address}"))
}

/// The status of a GET from inside a namespace, and the body.
pub(crate) async fn get(host: &Host, address: SocketAddr, path: &str) -> Result<(u16, Bytes)> {
    let stream = connect(host, address).await?;
    let request = crate::http::get(&address.to_string(), path)?;
    let answer = Connection::open(stream).await?.send(request).await?;
    Ok((answer.status().as_u16(), answer.into_body()))
}
