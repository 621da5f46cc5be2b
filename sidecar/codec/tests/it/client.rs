//! The client's end, served by another implementation.

use ::bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use tokio::io::DuplexStream;
use tokio::task::spawn_local;
use tokio_stream::StreamExt;
use weft_codec::{CodecError, Reason};

use crate::support::{Reply, body, connect, frames, local, read, read_h2};

async fn accept(io: DuplexStream) -> h2::server::Connection<DuplexStream, Bytes> {
    h2::server::Builder::new().max_concurrent_streams(2).handshake(io).await.unwrap()
}

fn get(path: &str) -> Request<Reply> {
    Request::get(format!("http://a.example{path}")).body(frames(Vec::new())).unwrap()
}

fn post(body: Reply) -> Request<Reply> {
    Request::post("https://a.example/p?q").body(body).unwrap()
}

#[test]
fn a_request_arrives_as_it_was_sent() {
    local(async {
        let (here, there) = tokio::io::duplex(1 << 14);
        let (client, _) = connect(here);
        spawn_local(async move {
            let mut server = accept(there).await;
            let (request, mut reply) = server.accept().await.unwrap().unwrap();
            spawn_local(async move { while server.accept().await.is_some() {} });
            assert_eq!(
                (request.method().as_str(), request.uri().to_string()),
                ("POST", "https://a.example/p?q".to_owned())
            );
            assert_eq!(request.headers()["x"], "y");
            let (data, trailers) = read_h2(request.into_body()).await.unwrap();
            assert_eq!((&data[..], trailers.unwrap()["t"].to_str().unwrap()), (&b"body"[..], "u"));
            let response = Response::builder().status(202).body(()).unwrap();
            reply.send_response(response, true).unwrap();
        });
        let mut trailers = HeaderMap::new();
        trailers.insert("t", HeaderValue::from_static("u"));
        let parts = vec![Frame::data(Bytes::from_static(b"body")), Frame::trailers(trailers)];
        let mut request = post(frames(parts));
        request.headers_mut().insert("x", HeaderValue::from_static("y"));
        let response = client.send(request).unwrap().await.unwrap();
        assert_eq!(response.status(), 202);
        assert_eq!(read(response.into_body()).await.unwrap().0, b"");
    });
}

#[test]
fn a_request_goes_on_while_its_response_comes() {
    local(async {
        let (here, there) = tokio::io::duplex(1 << 14);
        let (client, _) = connect(here);
        spawn_local(async move {
            let mut server = accept(there).await;
            let (request, mut reply) = server.accept().await.unwrap().unwrap();
            spawn_local(async move { while server.accept().await.is_some() {} });
            let mut back = reply.send_response(Response::new(()), false).unwrap();
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                back.send_data(data, false).unwrap();
            }
            back.send_data(Bytes::new(), true).unwrap();
        });
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let stream = stream.map(|data: Bytes| Ok(Frame::data(data)));
        let upload: Reply = Reply::new(http_body_util::StreamBody::new(stream));
        let response = client.send(post(upload)).unwrap().await.unwrap();
        let mut body = response.into_body();
        for message in ["one", "two", "three"] {
            sender.send(Bytes::from(message)).await.unwrap();
            let frame = http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), message);
        }
        drop(sender);
        assert_eq!(read(body).await.unwrap().0, b"");
    });
}

#[test]
fn a_body_that_breaks_off_is_an_error_of_the_request() {
    local(async {
        let (here, there) = tokio::io::duplex(1 << 14);
        let (client, _) = connect(here);
        let server = spawn_local(async move {
            let mut server = accept(there).await;
            let (request, _reply) = server.accept().await.unwrap().unwrap();
            spawn_local(async move { while server.accept().await.is_some() {} });
            read_h2(request.into_body()).await.unwrap_err().reason()
        });
        let broken = tokio_stream::iter([Err(CodecError::Closed)]);
        let broken: Reply = Reply::new(http_body_util::StreamBody::new(broken));
        let result = client.send(post(broken)).unwrap().await;
        assert!(matches!(result, Err(CodecError::Body)));
        assert_eq!(server.await.unwrap(), Some(h2::Reason::INTERNAL_ERROR));
    });
}

#[test]
fn resets_and_dropped_requests_concern_one_stream() {
    local(async {
        let (here, there) = tokio::io::duplex(1 << 14);
        let (client, _) = connect(here);
        spawn_local(async move {
            let mut server = accept(there).await;
            while let Some(request) = server.accept().await {
                let (request, mut reply) = request.unwrap();
                match request.uri().path() {
                    "/refused" => reply.send_reset(h2::Reason::REFUSED_STREAM),
                    "/dropped" => {
                        spawn_local(async move {
                            let reset = std::future::poll_fn(|cx| reply.poll_reset(cx)).await;
                            assert_eq!(reset.unwrap(), h2::Reason::CANCEL);
                        });
                    }
                    _ => drop(reply.send_response(Response::new(()), true)),
                }
            }
        });
        let refused = client.send(get("/refused")).unwrap().await;
        assert!(matches!(refused, Err(CodecError::Reset(Reason::REFUSED_STREAM))));
        let dropped = client.send(get("/dropped")).unwrap();
        tokio::task::yield_now().await;
        drop(dropped);
        assert_eq!(client.send(get("/")).unwrap().await.unwrap().status(), 200);
    });
}

#[test]
fn no_more_is_sent_than_the_server_takes_at_a_time() {
    local(async {
        let (here, there) = tokio::io::duplex(1 << 14);
        let (client, _) = connect(here);
        let mut server = accept(there).await;
        let held: Vec<_> = (0..2).map(|_| client.send(get("/")).unwrap()).collect();
        let first = server.accept().await.unwrap().unwrap();
        assert_eq!(client.max_streams(), 2);
        let unsent = client.send(get("/third")).unwrap_err().unsent.unwrap();
        assert_eq!(unsent.uri().path(), "/third");
        drop((first, held));
    });
}

#[test]
fn after_goaway_streams_that_were_seen_end_and_others_are_given_back() {
    local(async {
        let (here, there) = tokio::io::duplex(1 << 14);
        let (client, connection) = connect(here);
        let mut server = accept(there).await;
        let waiting = client.send(get("/")).unwrap();
        let (_, mut reply) = server.accept().await.unwrap().unwrap();
        server.graceful_shutdown();
        spawn_local(async move { while server.accept().await.is_some() {} });
        while client.is_open() {
            tokio::task::yield_now().await;
        }
        let failed = client.send(get("/")).unwrap_err();
        assert!(matches!(failed.error, CodecError::GoAway(Reason::NO_ERROR)));
        assert!(failed.unsent.is_some());
        reply.send_response(Response::new(()), true).unwrap();
        assert_eq!(waiting.await.unwrap().status(), 200);
        connection.await.unwrap().unwrap();
    });
}

#[test]
fn a_connection_that_ends_fails_its_requests() {
    local(async {
        let (here, there) = tokio::io::duplex(1 << 14);
        let (client, _) = connect(here);
        let waiting = client.send(get("/")).unwrap();
        spawn_local(async move {
            let mut server = accept(there).await;
            drop(server.accept().await);
        });
        assert!(matches!(waiting.await, Err(CodecError::Closed | CodecError::Reset(_))));
    });
}

#[test]
fn the_response_to_head_has_a_length_and_no_body() {
    local(async {
        let (here, there) = tokio::io::duplex(1 << 14);
        let (client, _) = connect(here);
        spawn_local(async move {
            let mut server = accept(there).await;
            let (_, mut reply) = server.accept().await.unwrap().unwrap();
            let response = Response::builder().header("content-length", "5").body(()).unwrap();
            reply.send_response(response, true).unwrap();
            while server.accept().await.is_some() {}
        });
        let request = Request::head("http://a.example/").body(frames(Vec::new())).unwrap();
        let response = client.send(request).unwrap().await.unwrap();
        assert_eq!(response.headers()["content-length"], "5");
        assert_eq!(read(response.into_body()).await.unwrap().0, b"");
    });
}

#[test]
fn bodies_of_many_requests_share_the_connection() {
    local(async {
        let (here, there) = tokio::io::duplex(1 << 14);
        let (client, _) = connect(here);
        spawn_local(async move {
            let mut server = h2::server::handshake(there).await.unwrap();
            while let Some(request) = server.accept().await {
                let (request, mut reply) = request.unwrap();
                spawn_local(async move {
                    let (data, _) = read_h2(request.into_body()).await.unwrap();
                    let mut back = reply.send_response(Response::new(()), false).unwrap();
                    back.send_data(Bytes::from(data), true).unwrap();
                });
            }
        });
        let sent: Vec<_> = (0..20u8)
            .map(|at| (at, client.send(post(body(vec![at; 150_000]))).unwrap()))
            .map(|(at, exchange)| {
                spawn_local(async move {
                    let (data, _) = read(exchange.await.unwrap().into_body()).await.unwrap();
                    assert!(data == vec![at; 150_000], "{} bytes", data.len());
                })
            })
            .collect();
        for task in sent {
            task.await.unwrap();
        }
    });
}
