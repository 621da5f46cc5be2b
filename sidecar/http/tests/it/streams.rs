//! gRPC and other streams of HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;
use weft_model::ProtocolChoice;

use crate::client;
use crate::server;
use crate::world::{Setup, World, local};

type Frames = mpsc::Sender<Result<Frame<Bytes>, std::convert::Infallible>>;

/// A body whose frames come through a channel.
fn body() -> (
    Frames,
    StreamBody<
        impl futures_util::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Unpin,
    >,
) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver)))
}

async fn echo_world() -> World {
    let upstream = server::http2(|request: Request<Incoming>| async move {
        let (sender, answer) = body();
        tokio::task::spawn_local(async move {
            let mut incoming = request.into_body();
            while let Some(Ok(frame)) = incoming.frame().await {
                sender.send(Ok(frame)).await.unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
        });
        Response::builder().header("content-type", "application/grpc").body(answer).unwrap()
    });
    let mut setup = Setup::to(upstream.await);
    setup.clusters.get_mut("upstream").unwrap().0.protocol = ProtocolChoice::Http2;
    setup.start().await
}

#[test]
fn messages_go_both_ways_while_both_sides_are_open() {
    local(async {
        let world = echo_world().await;
        let mut sender = client::http2(world.address).await;
        let (frames, request) = body();
        let request = Request::post("http://a/s/m")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(request)
            .unwrap();
        let response = client::send(&mut sender, request).await;
        assert_eq!(response.status(), 200);
        let mut incoming = response.into_body();
        for message in ["one", "two", "three"] {
            frames.send(Ok(Frame::data(message.into()))).await.unwrap();
            let frame = incoming.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), message);
        }
        drop(frames);
        let trailers = incoming.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert!(incoming.frame().await.is_none());
        assert_eq!(world.stats.rq_2xx.value(), 1);
    });
}

#[test]
fn a_client_that_resets_its_stream_resets_the_upstreams() {
    local(async {
        let world = echo_world().await;
        let mut sender = client::http2(world.address).await;
        let (frames, request) = body();
        let request = Request::post("http://a/s/m").body(request).unwrap();
        let response = client::send(&mut sender, request).await;
        drop((response, frames));
        let stats = world.clusters["upstream"].stats();
        while stats.rq_active.value() + world.stats.rq_active.value() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(stats.cx_active.value(), 1, "the connection lives on");
    });
}

#[test]
fn many_streams_share_one_upstream_connection() {
    local(async {
        let mut setup = Setup::to(server::http2_echo().await);
        setup.clusters.get_mut("upstream").unwrap().0.protocol = ProtocolChoice::Downstream;
        let world = setup.start().await;
        let sender = client::http2(world.address).await;
        let tasks: Vec<_> = (0..50)
            .map(|i| {
                let mut sender = sender.clone();
                tokio::task::spawn_local(async move {
                    let body = http_body_util::Full::new(Bytes::from(format!("body {i}")));
                    let request = Request::post(format!("http://a/{i}")).body(body).unwrap();
                    let response = client::send(&mut sender, request).await;
                    assert_eq!(response.headers()["x-uri"], format!("http://a/{i}"));
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(body, format!("body {i}"));
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(world.clusters["upstream"].stats().cx_total.value() <= 2);
    });
}

#[test]
fn a_stream_that_sends_now_and_then_is_not_idle() {
    local(async {
        let upstream = server::http2(|request: Request<Incoming>| async move {
            Response::new(request.into_body())
        });
        let mut setup = Setup::to(upstream.await);
        setup.clusters.get_mut("upstream").unwrap().0.protocol = ProtocolChoice::Http2;
        setup.manager.stream_idle_timeout = Some(Duration::from_millis(150));
        setup.action().timeout = None;
        let world = setup.start().await;
        let mut sender = client::http2(world.address).await;
        let (frames, request) = body();
        let request = Request::post("http://a/s/m").body(request).unwrap();
        let response = client::send(&mut sender, request).await;
        let mut incoming = response.into_body();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            frames.send(Ok(Frame::data("x".into()))).await.unwrap();
            incoming.frame().await.unwrap().unwrap();
        }
        assert!(incoming.frame().await.unwrap().is_err(), "then it is");
    });
}
