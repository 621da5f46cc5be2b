//! What filters can do with bodies, other clusters, and the ends of streams.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio_stream::wrappers::ReceiverStream;
use weft_filter_api::{
    BodyError, BoxedBody, CalloutOptions, Flow, HttpFilter, LocalReply, RouteFilterConfig,
    StreamCx, Trailers,
};
use weft_model::{HttpFilterEntry, ProtocolChoice, RetryOn};
use weft_telemetry::LogRecord;

use crate::client::{self, Client};
use crate::retries::policy;
use crate::server;
use crate::world::{Setup, local};

/// What a test's filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Reads the request's body of up to eight bytes, and says how long it was.
    Read,
    /// Puts `other` in the place of the request's body.
    Replace,
    /// Makes the request's body louder; a `!` in it ends the request.
    Shout,
    /// Asks the cluster that `x-ask` names, and tells the upstream what it said.
    Ask,
    /// Echoes the request's header `x-ask` over a stream to the cluster of this name.
    Converse,
    /// Reads the response and puts it into angle brackets.
    Bracket,
    /// Makes the response's body louder.
    ShoutBack,
    /// Puts a reply in the place of the response.
    Overrule,
    /// Marks responses.
    Mark,
}

#[derive(Debug)]
struct Probe {
    act: Act,
    ended: Arc<AtomicU32>,
    status: Arc<AtomicU32>,
}

/// Upper case, frame by frame; trailers pass, and `!` refuses.
struct Louder(BoxedBody);

impl Body for Louder {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.0.as_mut().poll_frame(cx));
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        if frame.data_ref().is_some_and(|data| data.contains(&b'!')) {
            let reply = LocalReply::text(StatusCode::CONFLICT, "not so loud", "loud");
            return Poll::Ready(Some(Err(BodyError::Refused(Box::new(reply)))));
        }
        let louder = frame.map_data(|data| Bytes::from(data.to_ascii_uppercase()));
        Poll::Ready(Some(Ok(louder)))
    }
}

fn said(head: &http::request::Parts) -> String {
    head.headers["x-ask"].to_str().unwrap().to_owned()
}

impl HttpFilter for Probe {
    fn sees_responses(&self) -> bool {
        true
    }

    fn uses_io(&self) -> bool {
        self.act != Act::Mark
    }

    fn sees_ends(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut http::request::Parts,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        match self.act {
            Act::Read => Flow::Await(Box::pin(async move {
                match cx.io().request.read(8).await {
                    Ok(body) => {
                        head.headers.insert("x-length", HeaderValue::from(body.len()));
                        None
                    }
                    Err(error) => Some(error.into_reply()),
                }
            })),
            Act::Replace => {
                cx.io().request.replace(Bytes::from_static(b"other"));
                Flow::Continue
            }
            Act::Shout => {
                cx.io().request.transform(|body| Box::pin(Louder(body)));
                Flow::Continue
            }
            Act::Ask => Flow::Await(Box::pin(async move {
                let request = Request::get("http://side/question").body(Bytes::new()).unwrap();
                let options = CalloutOptions { timeout: Duration::from_secs(5), limit: 100 };
                let answer = cx.io().callouts().send(&said(head), request, options).await;
                let text = match answer {
                    Ok(answer) => {
                        let trailers = answer.extensions().get::<Trailers>().is_some();
                        let body = String::from_utf8_lossy(answer.body());
                        format!("{} {body} {trailers}", answer.status().as_u16())
                    }
                    Err(error) => error.to_string(),
                };
                Some(LocalReply::text(StatusCode::OK, text, "asked"))
            })),
            Act::Converse => Flow::Await(Box::pin(async move {
                let (sender, frames) = tokio::sync::mpsc::channel(1);
                let body = StreamBody::new(ReceiverStream::new(frames));
                let name = said(head);
                let request = Request::post("http://side/talk").body(Box::pin(body) as BoxedBody);
                let patience = Duration::from_secs(5);
                let opening = cx.io().callouts().open(&name, request.unwrap(), patience);
                let feed = async {
                    sender.send(Ok(Frame::data(Bytes::from_static(b"one ")))).await.unwrap();
                    sender.send(Ok(Frame::data(Bytes::from_static(b"two")))).await.unwrap();
                    drop(sender);
                };
                let (answer, ()) = tokio::join!(opening, feed);
                let body = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
                Some(LocalReply::text(StatusCode::OK, body, "conversed"))
            })),
            _ => Flow::Continue,
        }
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut http::response::Parts,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        match self.act {
            Act::Bracket => Flow::Await(Box::pin(async move {
                let body = cx.io().response.read(1000).await.ok()?;
                let text = format!("<{}>", String::from_utf8_lossy(&body));
                cx.io().response.replace(text.into());
                head.status = StatusCode::ACCEPTED;
                None
            })),
            Act::ShoutBack => {
                cx.io().response.transform(|body| Box::pin(Louder(body)));
                Flow::Continue
            }
            Act::Overrule => {
                Flow::Reply(LocalReply::text(StatusCode::IM_A_TEAPOT, "overruled", "overruled"))
            }
            Act::Mark => {
                head.headers.insert("x-marked", HeaderValue::from_static("yes"));
                Flow::Continue
            }
            _ => Flow::Continue,
        }
    }

    fn finished(&self, _: &StreamCx, record: &LogRecord<'_>, _: Option<&RouteFilterConfig>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.status.store(record.status.into(), Ordering::Relaxed);
    }
}

struct Ends {
    count: Arc<AtomicU32>,
    status: Arc<AtomicU32>,
}

impl Ends {
    fn seen(&self) -> (u32, u32) {
        (self.count.load(Ordering::Relaxed), self.status.load(Ordering::Relaxed))
    }
}

/// Puts filters into the chain.
fn filters(setup: &mut Setup, acts: &[Act]) -> Ends {
    let ends = Ends { count: Arc::default(), status: Arc::default() };
    let entry = |act: &Act| {
        let (ended, status) = (Arc::clone(&ends.count), Arc::clone(&ends.status));
        HttpFilterEntry::new("probe", Arc::new(Probe { act: *act, ended, status }), false)
    };
    setup.manager.filters = acts.iter().map(entry).collect::<Vec<_>>().into();
    ends
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn a_body_that_was_read_reaches_the_upstream() {
    local(async {
        let mut setup = Setup::to(server::http2_echo().await);
        setup.clusters.get_mut("upstream").unwrap().0.protocol = ProtocolChoice::Http2;
        filters(&mut setup, &[Act::Read, Act::Read]);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
        assert_eq!(client.answer().await.text(), "hello");
        client.send(CHUNKED).await;
        client.send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await;
        assert_eq!(client.answer().await.text(), "abcde");
        assert_eq!(client.get("/").await.status(), 200);
    });
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    local(async {
        let mut setup = Setup::to(server::echo_body().await);
        filters(&mut setup, &[Act::Read]);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n123456789").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (413, "Payload Too Large"));
        let mut client = Client::connect(world.address).await;
        client.send(CHUNKED).await;
        client.send("9\r\n123456789\r\n0\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 413);
    });
}

#[test]
fn a_replaced_body_has_a_length_of_its_own() {
    local(async {
        let mut setup = Setup::to(server::echo_body().await);
        filters(&mut setup, &[Act::Replace]);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n123456789").await;
        assert_eq!(client.answer().await.text(), "other");
        let mut client = Client::connect(world.address).await;
        client.send(CHUNKED).await;
        client.send("9\r\n123456789\r\n0\r\n\r\n").await;
        assert_eq!(client.answer().await.text(), "other");
    });
}

#[test]
fn a_transformed_body_is_sent_as_it_comes() {
    local(async {
        let mut setup = Setup::to(server::http2_echo().await);
        setup.clusters.get_mut("upstream").unwrap().0.protocol = ProtocolChoice::Http2;
        filters(&mut setup, &[Act::Shout]);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
        assert_eq!(client.answer().await.text(), "HELLO");
        client.send(CHUNKED).await;
        client.send("2\r\nno\r\n1\r\n!\r\n0\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (409, "not so loud"));
    });
}

#[test]
fn a_retry_sends_the_body_that_was_read() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            let head = server::read_head(&mut stream).await.unwrap();
            let body = server::read_body(&mut stream, &head).await;
            let body = String::from_utf8(body).unwrap();
            let first = server::header(&head, "x-envoy-attempt-count") == Some("1");
            let status = if first { "503 Service Unavailable" } else { "200 OK" };
            server::respond(&mut stream, status, &body).await;
        })
        .await;
        let mut setup = Setup::to(upstream);
        setup.host.attempt_count_upstream = true;
        setup.action().retry = Some(Arc::new(policy(RetryOn::SERVER_ERROR, 1)));
        filters(&mut setup, &[Act::Read]);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (200, "hello"));
    });
}

#[test]
fn a_filter_asks_another_cluster() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.cluster("side", &[server::echo_head().await]);
        filters(&mut setup, &[Act::Ask]);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\nx-ask: side\r\n\r\n").await;
        let answer = client.answer().await;
        assert!(answer.text().starts_with("200 GET /question HTTP/1.1\r\n"), "{}", answer.text());
        assert!(answer.text().contains("host: side\r\n"));
        client.send("GET / HTTP/1.1\r\nhost: a\r\nx-ask: nobody\r\n\r\n").await;
        assert_eq!(client.answer().await.text(), "there is no cluster \"nobody\"");
    });
}

#[test]
fn an_answer_that_is_too_long_is_an_error() {
    local(async {
        let side = server::raw(|mut stream| async move {
            server::read_head(&mut stream).await.unwrap();
            server::respond(&mut stream, "200 OK", &"x".repeat(101)).await;
        })
        .await;
        let mut setup = Setup::to(server::echo_head().await);
        setup.cluster("side", &[side]);
        filters(&mut setup, &[Act::Ask]);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\nx-ask: side\r\n\r\n").await;
        assert_eq!(client.answer().await.text(), "the answer is longer than 100 bytes");
    });
}

#[test]
fn a_filter_talks_over_a_stream() {
    local(async {
        let side = server::http2(|request| async move {
            // Answers with the head at once, and with what it is told as it comes.
            http::Response::new(request.into_body())
        })
        .await;
        let mut setup = Setup::to(server::echo_head().await);
        setup.cluster("side", &[side]).protocol = ProtocolChoice::Http2;
        filters(&mut setup, &[Act::Converse]);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\nx-ask: side\r\n\r\n").await;
        assert_eq!(client.answer().await.text(), "one two");
    });
}

#[test]
fn a_response_is_read_and_replaced() {
    local(async {
        let mut setup = Setup::to(server::echo_body().await);
        filters(&mut setup, &[Act::Mark, Act::Bracket]);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (202, "<hello>"));
        assert_eq!(answer.header("content-length"), Some("7"));
        assert_eq!(answer.header("x-marked"), Some("yes"));
        client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.answer_to(true).await.status(), 202);
        assert_eq!(client.get("/").await.text(), "<>");
        assert_eq!(world.clusters["upstream"].stats().rq_active.value(), 0);
    });
}

#[test]
fn a_transformed_response_keeps_its_trailers() {
    local(async {
        let upstream = server::http2(|_| async move {
            let trailers: HeaderMap =
                [(http::HeaderName::from_static("x-end"), HeaderValue::from_static("1"))]
                    .into_iter()
                    .collect();
            let frames = [
                Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"quiet"))),
                Ok(Frame::trailers(trailers)),
            ];
            http::Response::new(StreamBody::new(tokio_stream::iter(frames)))
        })
        .await;
        let mut setup = Setup::to(upstream);
        setup.clusters.get_mut("upstream").unwrap().0.protocol = ProtocolChoice::Http2;
        filters(&mut setup, &[Act::ShoutBack]);
        let world = setup.start().await;
        let mut sender = client::http2(world.address).await;
        let request = Request::get("http://a/").body(Full::new(Bytes::new())).unwrap();
        let response = client::send(&mut sender, request).await;
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["x-end"], "1");
        assert_eq!(body.to_bytes(), "QUIET");
    });
}

#[test]
fn a_response_without_a_body_is_not_transformed() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            use tokio::io::AsyncWriteExt;
            server::read_head(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        })
        .await;
        let mut setup = Setup::to(upstream);
        filters(&mut setup, &[Act::ShoutBack]);
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.header("transfer-encoding"), None);
    });
}

#[test]
fn a_reply_in_the_place_of_a_response_passes_no_other_filter() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        filters(&mut setup, &[Act::Mark, Act::Overrule]);
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!((answer.status(), answer.text()), (418, "overruled"));
        assert_eq!(answer.header("x-marked"), None);
    });
}

#[test]
fn filters_see_how_streams_end() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            while let Some(head) = server::read_head(&mut stream).await {
                if head.starts_with("GET /never") {
                    std::future::pending::<()>().await;
                }
                server::respond(&mut stream, "200 OK", "yes").await;
            }
        })
        .await;
        let mut setup = Setup::to(upstream);
        let ends = filters(&mut setup, &[Act::Mark]);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        assert_eq!(client.get("/").await.status(), 200);
        assert_eq!(ends.seen(), (1, 200));
        client.send("GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await;
        while world.stats.rq_active.value() == 0 {
            tokio::task::yield_now().await;
        }
        drop(client);
        while world.stats.rq_active.value() != 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ends.seen(), (2, 0));
    });
}

#[test]
fn a_connection_changes_its_protocol_behind_filters_that_change_bodies() {
    local(async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let upstream = server::raw(|mut stream| async move {
            server::read_head(&mut stream).await.unwrap();
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                        upgrade: websocket\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut said = [0; 4];
            stream.read_exact(&mut said).await.unwrap();
            stream.write_all(&said).await.unwrap();
        })
        .await;
        let mut setup = Setup::to(upstream);
        filters(&mut setup, &[Act::ShoutBack, Act::Read]);
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        let ask = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        client.send(ask).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        client.send("ping").await;
        let mut said = [0; 4];
        client.stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"ping");
    });
}
