//! The server's end, asked by another implementation.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;

use ::bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use tokio::time::{Duration, Instant, sleep_until};
use weft_codec::CodecError;
use weft_codec::http2::{Pings, ServerOptions};

use crate::support::{OPTIONS, body, connect_h2, echo, frames, local, read, read_h2, serve};

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.example{path}")).body(()).unwrap()
}

#[test]
fn a_body_and_trailers_go_both_ways() {
    local(async {
        let (io, _) = serve(OPTIONS, None, echo);
        let mut client = connect_h2(io).await;
        let request = Request::post("http://a.example/").body(()).unwrap();
        let (response, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"hello "), false).unwrap();
        stream.send_data(Bytes::from_static(b"world"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        stream.send_trailers(trailers.clone()).unwrap();
        let (data, came) = read_h2(response.await.unwrap().into_body()).await.unwrap();
        assert_eq!((&data[..], came), (&b"hello world"[..], Some(trailers)));
    });
}

#[test]
fn large_bodies_keep_to_both_windows() {
    local(async {
        let (io, _) = serve(OPTIONS, None, echo);
        let mut client = connect_h2(io).await;
        let request = Request::post("http://a.example/").body(()).unwrap();
        let (response, mut stream) = client.send_request(request, false).unwrap();
        let sent: Vec<u8> = (0..1_500_000u32).map(|at| (at % 251) as u8).collect();
        stream.send_data(Bytes::from(sent.clone()), true).unwrap();
        let (data, _) = read_h2(response.await.unwrap().into_body()).await.unwrap();
        assert!(data == sent, "{} bytes came back", data.len());
    });
}

#[test]
fn the_first_piece_and_the_end_come_as_they_are_made() {
    local(async {
        let (io, _) = serve(OPTIONS, None, |_| async {
            let mut trailers = HeaderMap::new();
            trailers.insert("x", HeaderValue::from_static("y"));
            Response::new(frames(vec![
                Frame::data(Bytes::from_static(b"a")),
                Frame::data(Bytes::new()),
                Frame::data(Bytes::from_static(b"b")),
                Frame::trailers(trailers),
            ]))
        });
        let mut client = connect_h2(io).await;
        let (response, _) = client.send_request(get("/"), true).unwrap();
        let (data, trailers) = read_h2(response.await.unwrap().into_body()).await.unwrap();
        assert_eq!((&data[..], trailers.unwrap()["x"].to_str().unwrap()), (&b"ab"[..], "y"));
    });
}

#[test]
fn many_streams_use_the_same_places() {
    local(async {
        let (io, _) = serve(OPTIONS, None, |request| async move {
            tokio::task::yield_now().await;
            Response::new(body(request.uri().path().to_owned()))
        });
        let mut client = connect_h2(io).await;
        for round in 0..20 {
            let sent: Vec<_> = (0..90)
                .map(|at| client.send_request(get(&format!("/{round}/{at}")), true).unwrap().0)
                .collect();
            for (at, response) in sent.into_iter().enumerate() {
                let (data, _) = read_h2(response.await.unwrap().into_body()).await.unwrap();
                assert_eq!(data, format!("/{round}/{at}").as_bytes());
            }
        }
    });
}

struct Told(Rc<Cell<u32>>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_reset_stream_ends_its_future() {
    local(async {
        let dropped = Rc::new(Cell::new(0));
        let seen = Rc::clone(&dropped);
        let (io, _) = serve(OPTIONS, None, move |_| {
            let told = Told(Rc::clone(&seen));
            async move {
                pending::<()>().await;
                drop(told);
                Response::new(body(""))
            }
        });
        let mut client = connect_h2(io).await;
        let (response, mut stream) = client.send_request(get("/"), false).unwrap();
        tokio::task::yield_now().await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        while dropped.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn an_answer_before_the_end_of_the_request_asks_for_no_more() {
    local(async {
        let (io, _) = serve(OPTIONS, None, |_| async { Response::new(body("enough")) });
        let mut client = connect_h2(io).await;
        let (response, mut stream) = client.send_request(get("/"), false).unwrap();
        stream.send_data(Bytes::from_static(b"x"), false).unwrap();
        let (data, _) = read_h2(response.await.unwrap().into_body()).await.unwrap();
        assert_eq!(data, b"enough");
        let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, h2::Reason::NO_ERROR);
    });
}

#[test]
fn a_body_that_breaks_off_resets_the_stream() {
    local(async {
        let (io, _) = serve(OPTIONS, None, |_| async {
            let broken = http_body_util::StreamBody::new(tokio_stream::iter([
                Ok(Frame::data(Bytes::from_static(b"x"))),
                Err(CodecError::Closed),
            ]));
            Response::new(crate::support::Reply::new(broken))
        });
        let mut client = connect_h2(io).await;
        let (response, _) = client.send_request(get("/"), true).unwrap();
        let error = read_h2(response.await.unwrap().into_body()).await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    });
}

#[test]
fn a_header_list_that_is_too_long_is_answered_with_431() {
    local(async {
        let (io, _) = serve(ServerOptions { header_list: 2000, ..OPTIONS }, None, echo);
        let mut client = connect_h2(io).await;
        let long = Request::get("http://a.example/").header("x", "y".repeat(1990));
        let (response, _) = client.send_request(long.body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 431);
        let (response, _) = client.send_request(get("/"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn a_connection_that_is_shut_down_ends_with_its_last_stream() {
    local(async {
        let (here, there) = tokio::io::duplex(1 << 14);
        let gate = Rc::new(tokio::sync::Notify::new());
        let (opened, close) = (Rc::clone(&gate), Rc::new(Cell::new(false)));
        let closing = Rc::clone(&close);
        let task = tokio::task::spawn_local(async move {
            let start = move |_, reply: weft_codec::http2::Reply| {
                let opened = Rc::clone(&opened);
                reply.with(async move {
                    opened.notified().await;
                    Response::new(body("late"))
                })
            };
            let pings = None::<crate::support::TestPings>;
            let mut server = weft_codec::http2::Server::new(here, &OPTIONS, pings, start);
            std::future::poll_fn(|cx| {
                if closing.get() {
                    server.shut_down();
                }
                server.poll(cx)
            })
            .await
        });
        let mut client = connect_h2(there).await;
        let (response, _) = client.send_request(get("/"), true).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        close.set(true);
        let (second, _) = client.send_request(get("/"), true).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(std::future::poll_fn(|cx| client.poll_ready(cx)).await.is_err());
        gate.notify_waiters();
        for response in [response, second] {
            let (data, _) = read_h2(response.await.unwrap().into_body()).await.unwrap();
            assert_eq!(data, b"late");
        }
        task.await.unwrap().unwrap();
    });
}

#[test]
fn a_client_that_does_not_answer_pings_is_given_up() {
    local(async {
        let pings = Pings {
            alarm: Box::pin(sleep_until(Instant::now())),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
        };
        let (_silent, task) = serve(OPTIONS, Some(pings), echo);
        let begun = Instant::now();
        assert!(matches!(task.await.unwrap(), Err(CodecError::Io(_))));
        assert_eq!(begun.elapsed().as_secs(), 12);
    });
}

#[test]
fn a_client_that_answers_pings_is_kept() {
    local(async {
        let pings = Pings {
            alarm: Box::pin(sleep_until(Instant::now())),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
        };
        let (io, task) = serve(OPTIONS, Some(pings), echo);
        let mut client = connect_h2(io).await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!task.is_finished());
        let (response, _) = client.send_request(get("/"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn both_ends_are_ours() {
    local(async {
        let (io, server) = serve(OPTIONS, None, echo);
        let (client, connection) = crate::support::connect(io);
        let sent: Vec<u8> = (0..800_000u32).map(|at| (at % 13) as u8).collect();
        let request = Request::post("http://a.example/").body(body(sent.clone())).unwrap();
        let response = client.send(request).unwrap().await.unwrap();
        assert_eq!(read(response.into_body()).await.unwrap().0, sent);
        drop(client);
        connection.await.unwrap().unwrap();
        server.await.unwrap().unwrap();
    });
}
