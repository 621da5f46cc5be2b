//! Answers that the proxy makes itself.

use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};
use weft_model::{
    AppendAction, DirectResponse, HeaderMutations, HeaderSet, HeaderTemplate, HttpFilterEntry,
    PathRewrite, Redirect, RouteAction,
};

use crate::client::{self, Client};
use crate::server;
use crate::world::{Setup, local};

#[test]
fn no_route_is_404_without_a_body() {
    local(async {
        let mut setup = Setup::new();
        let action = setup.forward("nowhere");
        setup.rule("/known", action);
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/unknown").await;
        assert_eq!((answer.status(), answer.text()), (404, ""));
        assert_eq!(answer.header("content-length"), Some("0"));
        assert_eq!(world.stats.no_route.value(), 1);
    });
}

#[test]
fn an_unknown_cluster_is_503() {
    local(async {
        let mut setup = Setup::new();
        let action = setup.forward("nowhere");
        setup.rule("/", action);
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!((answer.status(), answer.text()), (503, ""));
        assert_eq!(world.stats.no_cluster.value(), 1);
    });
}

#[test]
fn a_cluster_without_endpoints_is_no_healthy_upstream() {
    local(async {
        let mut setup = Setup::new();
        setup.cluster("empty", &[]);
        let action = setup.forward("empty");
        setup.rule("/", action);
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!((answer.status(), answer.text()), (503, "no healthy upstream"));
        assert_eq!(answer.header("content-type"), Some("text/plain"));
    });
}

/// An address at which nobody listens.
async fn closed_port() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn a_refused_connection_is_told_in_envoys_words() {
    local(async {
        let world = Setup::to(closed_port().await).start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!(answer.status(), 503);
        let expected = "upstream connect error or disconnect/reset before headers. \
                        reset reason: remote connection failure";
        assert!(answer.text().starts_with(expected), "{}", answer.text());
    });
}

#[test]
fn an_upstream_that_closes_without_an_answer_is_503() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            server::read_head(&mut stream).await;
        });
        let world = Setup::to(upstream.await).start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!(answer.status(), 503);
        assert!(answer.text().ends_with("reset reason: connection termination"));
    });
}

#[test]
fn an_upstream_that_breaks_the_protocol_is_502() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            use tokio::io::AsyncWriteExt;
            server::read_head(&mut stream).await;
            stream.write_all(b"nonsense\r\n\r\n").await.unwrap();
        });
        let world = Setup::to(upstream.await).start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!(answer.status(), 502);
        assert!(answer.text().contains("reset reason: protocol error"), "{}", answer.text());
    });
}

#[test]
fn grpc_clients_get_a_grpc_status() {
    local(async {
        let mut setup = Setup::new();
        setup.cluster("empty", &[]);
        let action = setup.forward("empty");
        setup.rule("/", action);
        let world = setup.start().await;
        let mut sender = client::http2(world.address).await;
        let request = Request::post("http://a/pkg.Service/Method")
            .header("content-type", "application/grpc")
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        let response = client::send(&mut sender, request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "no healthy upstream");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    });
}

#[test]
fn direct_responses_and_redirects_are_answered_here() {
    local(async {
        let mut setup = Setup::new();
        let direct = DirectResponse { status: StatusCode::IM_A_TEAPOT, body: "short".into() };
        setup.route("/direct", RouteAction::Direct(direct));
        let redirect = Redirect {
            scheme: Some("https".into()),
            host: None,
            port: None,
            path: PathRewrite::Keep,
            status: StatusCode::PERMANENT_REDIRECT,
            strip_query: false,
        };
        setup.route("/away", RouteAction::Redirect(Box::new(redirect)));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        let answer = client.get("/direct").await;
        assert_eq!((answer.status(), answer.text()), (418, "short"));
        let answer = client.get("/away?x").await;
        assert_eq!(answer.status(), 308);
        assert_eq!(answer.header("location"), Some("https://example.com/away?x"));
        client.send("HEAD /direct HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.answer_to(true).await.header("content-length"), Some("5"));
        assert_eq!(client.get("/direct").await.status(), 418);
        assert_eq!(world.stats.rq_rx_reset.value(), 0);
    });
}

#[test]
fn a_host_that_wants_https_redirects_to_it() {
    local(async {
        let mut setup = Setup::new();
        let direct = DirectResponse { status: StatusCode::OK, body: "in the clear".into() };
        setup.route("/", RouteAction::Direct(direct));
        setup.host.require_tls = Some(true);
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/x").await;
        assert_eq!(answer.status(), 301);
        assert_eq!(answer.header("location"), Some("https://example.com/x"));
    });
}

/// Refuses, now or later, what says so in `x-refuse`; marks responses.
#[derive(Debug)]
struct Gate(&'static str);

impl HttpFilter for Gate {
    fn sees_responses(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        _cx: &'a mut StreamCx,
        head: &'a mut http::request::Parts,
        _route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let refuse = head.headers.get("x-refuse").is_some_and(|value| value == self.0);
        let reply = refuse.then(|| LocalReply {
            status: StatusCode::FORBIDDEN,
            headers: HeaderMap::new(),
            body: self.0.into(),
            details: "gate".into(),
        });
        match (self.0, reply) {
            ("late", reply) => Flow::Await(Box::pin(async move {
                tokio::task::yield_now().await;
                reply
            })),
            (_, Some(reply)) => Flow::Reply(reply),
            (_, None) => Flow::Continue,
        }
    }

    fn response<'a>(
        &'a self,
        _cx: &'a mut StreamCx,
        head: &'a mut http::response::Parts,
        _route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        head.headers.append("x-passed", http::HeaderValue::from_static(self.0));
        Flow::Continue
    }
}

fn gate(name: &'static str) -> HttpFilterEntry {
    HttpFilterEntry::new(name, std::sync::Arc::new(Gate(name)), false)
}

#[test]
fn filters_see_requests_in_order_and_responses_in_reverse() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.manager.filters = vec![gate("first"), gate("late"), gate("off"), gate("last")].into();
        setup.first_route().disabled_filters = vec!["off".into()];
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        let mut ask = async |refuse: &str| {
            client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\nx-refuse: {refuse}\r\n\r\n")).await;
            let answer = client.answer().await;
            let passed: Vec<_> = answer
                .head
                .lines()
                .filter_map(|line| line.strip_prefix("x-passed: "))
                .map(str::to_owned)
                .collect();
            (answer.status(), passed.join(" "))
        };
        assert_eq!(ask("nobody").await, (200, "last late first".into()));
        // A reply passes the filters that have not seen the request too, as in Envoy.
        assert_eq!(ask("late").await, (403, "last late first".into()));
        assert_eq!(ask("first").await, (403, "last late first".into()));
        assert_eq!(ask("off").await, (200, "last late first".into()));
    });
}

fn adding(name: &'static str, value: &'static str) -> HeaderMutations {
    let set = HeaderSet {
        name: http::HeaderName::from_static(name),
        value: HeaderTemplate::Fixed(http::HeaderValue::from_static(value)),
        action: AppendAction::AppendIfExistsOrAdd,
        keep_empty: false,
    };
    HeaderMutations { remove: Vec::new(), set: vec![set] }
}

#[test]
fn a_routes_content_type_is_the_only_one_of_a_direct_response() {
    local(async {
        let mut setup = Setup::new();
        let direct = DirectResponse { status: StatusCode::OK, body: "{}".into() };
        setup.route("/", RouteAction::Direct(direct));
        setup.first_route().response_headers = adding("content-type", "application/json");
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        let types = answer.head.lines().filter(|line| line.starts_with("content-type:"));
        assert_eq!(types.collect::<Vec<_>>(), ["content-type: application/json"]);
    });
}

#[test]
fn a_routes_headers_are_on_replies_for_a_failed_upstream() {
    local(async {
        let mut setup = Setup::to(closed_port().await);
        setup.first_route().response_headers = adding("x-route", "yes");
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!((answer.status(), answer.header("x-route")), (503, Some("yes")));
    });
}
