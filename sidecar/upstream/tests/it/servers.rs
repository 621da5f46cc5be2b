//! HTTP servers whose answers say which of their connections a request came over.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use weft_tls::ServerTls;

/// A server on the test's own thread.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Connections accepted.
    pub(crate) accepted: Rc<Cell<usize>>,
    /// The status of its answers.
    pub(crate) status: Rc<Cell<StatusCode>>,
    /// The head of the last request.
    pub(crate) seen: Rc<RefCell<Option<Parts>>>,
    /// Requests that have arrived.
    pub(crate) arrived: Rc<Cell<usize>>,
    /// Lets one request for `/wait` go on.
    pub(crate) gate: Rc<Notify>,
    /// Makes the HTTP/2 connections say GOAWAY.
    pub(crate) goaway: Rc<Notify>,
}

#[derive(Clone)]
struct Service {
    connection: usize,
    status: Rc<Cell<StatusCode>>,
    seen: Rc<RefCell<Option<Parts>>>,
    arrived: Rc<Cell<usize>>,
    gate: Rc<Notify>,
}

impl Server {
    /// Speaks HTTP/1.1.
    pub(crate) async fn http1() -> Self {
        Self::serve(async |stream, service, _| serve_http1(stream, service).await).await
    }

    /// Speaks HTTP/2 in the clear; each connection takes this many streams at once.
    pub(crate) async fn http2(streams: u32) -> Self {
        Self::serve(async move |stream, service, goaway| {
            serve_http2(stream, service, streams, goaway).await;
        })
        .await
    }

    /// Speaks what ALPN says over TLS.
    pub(crate) async fn tls(tls: Rc<ServerTls>) -> Self {
        Self::serve(async move |stream, service, goaway| {
            let Ok(stream) = tls.accept(stream).await else { return };
            match stream.handshake().alpn.as_deref() {
                Some(b"h2" | b"istio-h2") => serve_http2(stream, service, 100, goaway).await,
                _ => serve_http1(stream, service).await,
            }
        })
        .await
    }

    async fn serve(protocol: impl AsyncFn(TcpStream, Service, Rc<Notify>) + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            accepted: Rc::default(),
            status: Rc::new(Cell::new(StatusCode::OK)),
            seen: Rc::default(),
            arrived: Rc::default(),
            gate: Rc::default(),
            goaway: Rc::default(),
        };
        let (accepted, goaway) = (Rc::clone(&server.accepted), Rc::clone(&server.goaway));
        let (arrived, gate) = (Rc::clone(&server.arrived), Rc::clone(&server.gate));
        let (status, seen) = (Rc::clone(&server.status), Rc::clone(&server.seen));
        let protocol = Rc::new(protocol);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = accepted.replace(accepted.get() + 1);
                let (arrived, gate) = (Rc::clone(&arrived), Rc::clone(&gate));
                let (status, seen) = (Rc::clone(&status), Rc::clone(&seen));
                let service = Service { connection, status, seen, arrived, gate };
                let (protocol, goaway) = (Rc::clone(&protocol), Rc::clone(&goaway));
                tokio::task::spawn_local(async move { protocol(stream, service, goaway).await });
            }
        });
        server
    }
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address")
}

async fn serve_http1(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: Service) {
    let service = service_fn(move |request| service.clone().answer(request));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(io), service);
    let _ = connection.with_upgrades().await;
}

async fn serve_http2(
    io: impl AsyncRead + AsyncWrite + Unpin + 'static,
    service: Service,
    streams: u32,
    goaway: Rc<Notify>,
) {
    let service = service_fn(move |request| service.clone().answer(request));
    let mut options = http2::Builder::new(Local);
    options.max_concurrent_streams(streams);
    let connection = options.serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        () = goaway.notified() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

impl Service {
    async fn answer(
        self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        self.arrived.set(self.arrived.get() + 1);
        let (head, body) = request.into_parts();
        self.seen.replace(Some(head.clone()));
        request = Request::from_parts(head, body);
        let path = request.uri().path().to_owned();
        let mut response = Response::new(Full::from(self.connection.to_string()));
        *response.status_mut() = self.status.get();
        match path.as_str() {
            "/close" => {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert("connection", close);
            }
            "/fail" => {
                let fail = HeaderValue::from_static("true");
                response.headers_mut().insert("x-envoy-immediate-health-check-fail", fail);
            }
            "/wait" => self.gate.notified().await,
            "/echo" => {
                let body = request.into_body().collect().await.expect("the body").to_bytes();
                *response.body_mut() = Full::from(body);
            }
            "/upgrade" => {
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::task::spawn_local(async move {
                    let mut stream = TokioIo::new(upgraded.await.expect("an upgrade"));
                    let mut byte = [0];
                    stream.read_exact(&mut byte).await.expect("a byte");
                    stream.write_all(&byte).await.expect("room");
                });
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
                response.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
                *response.body_mut() = Full::default();
            }
            _ => {}
        }
        Ok(response)
    }
}

#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
