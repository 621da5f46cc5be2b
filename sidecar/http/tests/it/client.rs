//! Clients: a raw one for HTTP/1, hyper's for HTTP/2.

use std::net::SocketAddr;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::server::{Local, header};

/// A client that sees every byte.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

/// A response as text.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// A GET without a body.
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: example.com\r\n\r\n")).await;
        self.answer().await
    }

    /// Reads one response whose body has a length, is chunked or absent.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to(false).await
    }

    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
            }
        }
        String::from_utf8(head).unwrap()
    }

    pub(crate) async fn answer_to(&mut self, was_head: bool) -> Answer {
        let head = self.head().await;
        let mut body = Vec::new();
        if was_head {
            return Answer { head, body };
        }
        if header(&head, "transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                body.extend(chunk);
            }
        } else if let Some(length) = header(&head, "content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body).await.unwrap();
        }
        Answer { head, body }
    }

    /// One chunk; `None`: the last one.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line().await, 16).unwrap();
        let mut chunk = vec![0; length];
        self.stream.read_exact(&mut chunk).await.unwrap();
        assert_eq!(self.line().await, "");
        (length > 0).then_some(chunk)
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.stream.read_u8().await.unwrap());
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).unwrap()
    }

    /// Waits until the proxy closes; gives what it sent before.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset ends the connection as well.
        let _ = self.stream.read_to_end(&mut rest).await;
        rest
    }
}

/// An HTTP/2 connection with prior knowledge.
pub(crate) async fn http2<B>(address: SocketAddr) -> SendRequest<B>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(Local);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

/// Sends one request over HTTP/2.
pub(crate) async fn send<B>(sender: &mut SendRequest<B>, request: Request<B>) -> Response<Incoming>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    sender.ready().await.unwrap();
    sender.send_request(request).await.unwrap()
}
