//! An HTTP/1.1 server to stand behind a proxy, which says what it was asked.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A running server, ended when dropped. It answers every request with 200,
/// its name in the header `x-upstream`, and the request's body.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Upstream {
    /// Starts on a free loopback port.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn start(name: &'static str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Ok(Self::serve(name, listener)?)
    }

    /// Starts on a listener made elsewhere, in a network namespace for example.
    ///
    /// # Errors
    ///
    /// When the listener has no address.
    pub fn serve(name: &'static str, listener: TcpListener) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = tokio::spawn(accept(name, listener, seen.clone()));
        Ok(Self { address, seen, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests that came so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(name: &'static str, listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let seen = seen.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(name, request, seen.clone()));
            // The proxy is told of a broken connection by its breaking.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    name: &'static str,
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen {
        method: head.method.to_string(),
        path: path.to_owned(),
        headers: head.headers,
        body: body.clone(),
    });
    let mut response = Response::new(Full::new(body));
    let name = hyper::header::HeaderValue::from_static(name);
    response.headers_mut().insert("x-upstream", name);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Process, get, send};

    #[tokio::test]
    async fn an_upstream_echoes_and_remembers() {
        let upstream = Upstream::start("one").await.unwrap();
        let request = Request::post("/a?b=c")
            .header("host", "x")
            .body(Full::new(Bytes::from("text")))
            .unwrap();
        let reply = send(upstream.address(), request).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "text"));
        assert_eq!(reply.header("x-upstream"), "one");
        get(upstream.address(), "/second").await.unwrap();
        let seen = upstream.seen();
        assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/a?b=c"));
        assert_eq!(seen[1].path, "/second");
    }

    #[tokio::test]
    async fn a_process_is_ready_when_it_answers_and_heard_when_it_speaks() {
        let upstream = Upstream::start("one").await.unwrap();
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "echo hello; echo there >&2; read forever < /dev/zero"]);
        let mut process = Process::start(command).unwrap();
        assert_eq!(process.line_with("the").await.unwrap(), "there");
        assert_eq!(process.line_with("hell").await.unwrap(), "hello");
        process.ready(upstream.address(), "/ready").await.unwrap();
        assert!(!process.stop().await.unwrap().success());
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_reported_with_its_words() {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "echo no bootstrap; exit 3"]);
        let mut process = Process::start(command).unwrap();
        assert_eq!(process.end().await.unwrap().code(), Some(3));
        let error = process.line_with("ready").await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
    }
}
