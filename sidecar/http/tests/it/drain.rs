//! Connections that end without breaking what they carry.

use std::cell::RefCell;
use std::rc::Rc;

use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::sync::oneshot;
use weft_net::Phase;

use crate::client::{self, Client};
use crate::server;
use crate::world::{Setup, World, local};

/// An upstream that answers when it is told to.
async fn waiting() -> (World, Rc<RefCell<Vec<oneshot::Sender<()>>>>) {
    let waiting: Rc<RefCell<Vec<oneshot::Sender<()>>>> = Rc::default();
    let asked = Rc::clone(&waiting);
    let upstream = server::raw(move |mut stream| {
        let asked = Rc::clone(&asked);
        async move {
            while server::read_head(&mut stream).await.is_some() {
                let (go, told) = oneshot::channel();
                asked.borrow_mut().push(go);
                if told.await.is_err() {
                    return;
                }
                server::respond(&mut stream, "200 OK", "done").await;
            }
        }
    });
    (Setup::to(upstream.await).start().await, waiting)
}

async fn asked(waiting: &Rc<RefCell<Vec<oneshot::Sender<()>>>>) -> oneshot::Sender<()> {
    loop {
        if let Some(go) = waiting.borrow_mut().pop() {
            return go;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_request_in_flight_is_answered_and_the_connection_closed() {
    local(async {
        let (world, waiting) = waiting().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let go = asked(&waiting).await;
        world.drain.advance(Phase::Announcing);
        world.drain.advance(Phase::Closing);
        go.send(()).unwrap();
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (200, "done"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.rest().await.is_empty());
        world.drain.empty().await;
    });
}

#[test]
fn an_idle_connection_may_send_one_more_request_before_it_is_closed() {
    local(async {
        let world = Setup::to(server::echo_head().await).start().await;
        let mut announced = Client::connect(world.address).await;
        let mut idle = Client::connect(world.address).await;
        assert_eq!(announced.get("/").await.status(), 200);
        assert_eq!(idle.get("/").await.status(), 200);
        world.drain.advance(Phase::Announcing);
        let answer = announced.get("/").await;
        assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
        world.drain.advance(Phase::Closing);
        assert!(idle.rest().await.is_empty());
        world.drain.empty().await;
    });
}

#[test]
fn http2_clients_are_told_to_go_away_and_finish_their_streams() {
    local(async {
        let (world, waiting) = waiting().await;
        let mut sender = client::http2(world.address).await;
        let request = Request::get("http://a/").body(Empty::<bytes::Bytes>::new()).unwrap();
        let mut second = sender.clone();
        let answering = tokio::task::spawn_local(async move {
            let response = client::send(&mut second, request).await;
            response.into_body().collect().await.unwrap().to_bytes()
        });
        let go = asked(&waiting).await;
        world.drain.advance(Phase::Announcing);
        // GOAWAY arrives: no new stream can be opened.
        while sender.ready().await.is_ok() && !sender.is_closed() {
            tokio::task::yield_now().await;
            if waiting.borrow().is_empty() && world.drain.phase() >= Phase::Announcing {
                break;
            }
        }
        go.send(()).unwrap();
        assert_eq!(answering.await.unwrap(), "done");
        world.drain.empty().await;
    });
}

#[test]
fn a_forced_drain_ends_everything() {
    local(async {
        let (world, waiting) = waiting().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let _go = asked(&waiting).await;
        world.drain.advance(Phase::Forced);
        assert!(client.rest().await.is_empty());
        world.drain.empty().await;
        assert_eq!(world.clusters["upstream"].stats().rq_active.value(), 0);
    });
}
