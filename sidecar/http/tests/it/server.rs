//! Upstreams: raw ones that a test scripts byte by byte, and hyper's.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

/// Serves each connection with `script`.
pub(crate) async fn raw<F>(script: impl Fn(TcpStream) -> F + 'static) -> SocketAddr
where
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            spawn_local(script(stream));
        }
    });
    address
}

/// Reads one request head; `None`: the connection ended before.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Reads as many bytes as the head announces.
pub(crate) async fn read_body(stream: &mut TcpStream, head: &str) -> Vec<u8> {
    let length = header(head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    body
}

/// A header of a head that was read as text.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// Answers every request with its own head as the body.
pub(crate) async fn echo_head() -> SocketAddr {
    raw(|mut stream| async move {
        while let Some(head) = read_head(&mut stream).await {
            read_body(&mut stream, &head).await;
            respond(&mut stream, "200 OK", &head).await;
        }
    })
    .await
}

/// Answers every request with its own body.
pub(crate) async fn echo_body() -> SocketAddr {
    raw(|mut stream| async move {
        while let Some(head) = read_head(&mut stream).await {
            let body = read_body(&mut stream, &head).await;
            respond(&mut stream, "200 OK", &String::from_utf8(body).unwrap()).await;
        }
    })
    .await
}

/// Writes a response with a known length.
pub(crate) async fn respond(stream: &mut TcpStream, status: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    // The proxy may have gone; then the test looks at something else.
    let _ = stream.write_all(text.as_bytes()).await;
}

/// An HTTP/2 server.
pub(crate) async fn http2<F, B>(
    handler: impl Fn(Request<Incoming>) -> F + Clone + 'static,
) -> SocketAddr
where
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    raw(move |stream| {
        let handler = handler.clone();
        async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let server = hyper::server::conn::http2::Builder::new(Local);
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

/// An HTTP/2 server that answers with the request's body and some of its head.
pub(crate) async fn http2_echo() -> SocketAddr {
    http2(|request: Request<Incoming>| async move {
        let uri = request.uri().to_string();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::builder().header("x-uri", uri).body(Full::new(body)).unwrap()
    })
    .await
}

#[derive(Clone, Copy)]
pub(crate) struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}
