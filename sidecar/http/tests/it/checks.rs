//! Requests that are refused or changed before a route is chosen.

use http::StatusCode;
use tokio::io::AsyncReadExt;
use weft_model::{DirectResponse, EscapedSlashes, RouteAction, Underscores, XffSettings};

use crate::client::Client;
use crate::server::{self, header};
use crate::world::{Setup, local};

async fn status_of(setup: Setup, request: &str) -> u16 {
    let world = setup.start().await;
    let mut client = Client::connect(world.address).await;
    client.send(request).await;
    client.answer().await.status()
}

fn ok() -> Setup {
    let mut setup = Setup::new();
    let direct = DirectResponse { status: StatusCode::OK, body: "ok".into() };
    setup.route("/", RouteAction::Direct(direct));
    setup
}

#[test]
fn a_request_without_a_host_is_refused() {
    local(async {
        assert_eq!(status_of(ok(), "GET / HTTP/1.1\r\n\r\n").await, 400);
        assert_eq!(status_of(ok(), "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await, 400);
    });
}

#[test]
fn http_10_needs_leave() {
    local(async {
        let request = "GET / HTTP/1.0\r\nhost: a\r\n\r\n";
        assert_eq!(status_of(ok(), request).await, 426);
        let mut setup = ok();
        setup.manager.http1.accept_http_10 = true;
        assert_eq!(status_of(setup, request).await, 200);
        let mut setup = ok();
        setup.manager.http1.accept_http_10 = true;
        setup.manager.http1.default_host = Some("default".into());
        assert_eq!(status_of(setup, "GET / HTTP/1.0\r\n\r\n").await, 200);
    });
}

#[test]
fn headers_with_underscores_are_refused_or_dropped() {
    local(async {
        let request = "GET / HTTP/1.1\r\nhost: a\r\nx_y: 1\r\n\r\n";
        let mut setup = ok();
        setup.manager.underscores = Underscores::Reject;
        assert_eq!(status_of(setup, request).await, 400);
        let mut setup = Setup::to(server::echo_head().await);
        setup.manager.underscores = Underscores::Drop;
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send(request).await;
        assert_eq!(header(client.answer().await.text(), "x_y"), None);
    });
}

#[test]
fn too_large_heads_are_refused() {
    local(async {
        let mut setup = ok();
        setup.manager.max_header_bytes = 8 << 10;
        let long = "x".repeat(9 << 10);
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\nlong: {long}\r\n\r\n");
        assert_eq!(status_of(setup, &request).await, 431);
        let mut setup = ok();
        setup.manager.max_headers = 5;
        let many: String = (0..10).map(|i| format!("h{i}: 1\r\n")).collect();
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n");
        assert_eq!(status_of(setup, &request).await, 431);
    });
}

#[test]
fn broken_requests_are_refused_and_counted() {
    local(async {
        let world = ok().start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/9.9\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 426);
        client.rest().await;
        assert_eq!(world.stats.cx_protocol_error.value(), 1);
    });
}

#[test]
fn paths_are_normalised_before_they_are_matched() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.manager.merge_slashes = true;
        setup.manager.escaped_slashes = EscapedSlashes::UnescapeAndForward;
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        let answer = client.get("/a/../b//%41%2Fc?d=../e").await;
        assert!(answer.text().starts_with("GET /b/A/c?d=../e HTTP"), "{}", answer.text());
    });
}

#[test]
fn escaped_slashes_can_be_refused_or_redirected() {
    local(async {
        let mut setup = ok();
        setup.manager.escaped_slashes = EscapedSlashes::Reject;
        assert_eq!(status_of(setup, "GET /a%2fb HTTP/1.1\r\nhost: a\r\n\r\n").await, 400);
        let mut setup = ok();
        setup.manager.escaped_slashes = EscapedSlashes::UnescapeAndRedirect;
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/a%2fb?c").await;
        assert_eq!((answer.status(), answer.header("location")), (307, Some("/a/b?c")));
    });
}

#[test]
fn the_targets_host_wins_over_the_header() {
    local(async {
        let world = Setup::to(server::echo_head().await).start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET http://target.com/x HTTP/1.1\r\nhost: header.com\r\n\r\n").await;
        let answer = client.answer().await;
        assert!(answer.text().starts_with("GET /x HTTP/1.1"));
        assert_eq!(header(answer.text(), "host"), Some("target.com"));
    });
}

#[test]
fn hop_by_hop_headers_stay_behind() {
    local(async {
        let world = Setup::to(server::echo_head().await).start().await;
        let mut client = Client::connect(world.address).await;
        let headers = "connection: keep-alive, x-secret\r\nx-secret: 1\r\nkeep-alive: 5\r\n\
                       te: gzip, trailers\r\nproxy-connection: x\r\nupgrade: h2c\r\n";
        client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n")).await;
        let answer = client.answer().await;
        for name in ["connection", "x-secret", "keep-alive", "proxy-connection", "upgrade"] {
            assert_eq!(header(answer.text(), name), None, "{name}");
        }
        assert_eq!(header(answer.text(), "te"), Some("trailers"));
    });
}

#[test]
fn an_edge_says_where_requests_came_from_and_believes_no_client() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.manager.xff = XffSettings { use_remote_address: true, ..XffSettings::default() };
        setup.manager.append_x_forwarded_port = true;
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        let headers = "x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\n\
                       x-envoy-upstream-rq-timeout-ms: 1\r\nx-request-id: mine\r\n\
                       x-forwarded-client-cert: By=me\r\n";
        client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n")).await;
        let answer = client.answer().await;
        let sent = |name| header(answer.text(), name);
        assert_eq!(sent("x-forwarded-for"), Some("1.2.3.4,127.0.0.1"));
        assert_eq!(sent("x-forwarded-proto"), Some("http"));
        assert_eq!(sent("x-forwarded-port"), Some(&*world.address.port().to_string()));
        assert_eq!(sent("x-envoy-external-address"), Some("127.0.0.1"));
        assert_eq!(sent("x-envoy-expected-rq-timeout-ms"), Some("15000"));
        assert_ne!(sent("x-request-id"), Some("mine"));
        assert_eq!(sent("x-forwarded-client-cert"), None);
    });
}

#[test]
fn a_sidecar_keeps_what_its_application_says() {
    local(async {
        let world = Setup::to(server::echo_head().await).start().await;
        let mut client = Client::connect(world.address).await;
        let headers = "x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\n\
                       x-envoy-upstream-rq-timeout-ms: 7000\r\nx-request-id: mine\r\n";
        client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n")).await;
        let answer = client.answer().await;
        let sent = |name| header(answer.text(), name);
        assert_eq!(sent("x-forwarded-for"), Some("1.2.3.4"));
        assert_eq!(sent("x-forwarded-proto"), Some("https"));
        // Only who is inside may steer the proxy.
        assert_eq!(sent("x-envoy-expected-rq-timeout-ms"), Some("15000"));
        assert_eq!(sent("x-request-id"), Some("mine"));
    });
}

#[test]
fn who_is_inside_may_steer_the_proxy() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.manager.xff.internal = vec!["10.0.0.0/8".parse().unwrap()];
        let world = setup.start().await;
        for (from, timeout) in [
            ("10.1.2.3", "7000"),
            ("11.1.2.3", "15000"),
            // Somebody else passed it on.
            ("10.1.2.3, 10.1.2.4", "15000"),
        ] {
            let mut client = Client::connect(world.address).await;
            let headers =
                format!("x-forwarded-for: {from}\r\nx-envoy-upstream-rq-timeout-ms: 7000\r\n");
            client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n")).await;
            let answer = client.answer().await;
            let sent = |name| header(answer.text(), name);
            assert_eq!(sent("x-envoy-expected-rq-timeout-ms"), Some(timeout), "{from}");
            assert_eq!(sent("x-envoy-internal"), (timeout == "7000").then_some("true"), "{from}");
        }
    });
}

#[test]
fn a_target_or_host_that_names_no_host_is_refused() {
    local(async {
        for (request, status) in [
            ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: \r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", 200),
            ("GET a HTTP/1.1\r\nhost: b\r\n\r\n", 400),
            ("GET ftp://a/ HTTP/1.1\r\nhost: b\r\n\r\n", 400),
            ("GET https://a/ HTTP/1.1\r\nhost: b\r\n\r\n", 200),
        ] {
            assert_eq!(status_of(ok(), request).await, status, "{request:?}");
        }
    });
}

#[test]
fn an_absolute_target_replaces_the_host_without_its_user() {
    local(async {
        let world = Setup::to(server::echo_head().await).start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET http://u:p@b.example/x HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(header(client.answer().await.text(), "host"), Some("b.example"));
    });
}

#[test]
fn a_coding_that_would_be_lost_is_refused() {
    local(async {
        for codings in ["gzip, chunked", "chunked, chunked"] {
            let request = format!(
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {codings}\r\n\r\n0\r\n\r\n"
            );
            assert_eq!(status_of(ok(), &request).await, 501, "{codings}");
        }
        let request = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(status_of(ok(), request).await, 200);
    });
}

#[test]
fn a_broken_chunk_is_the_clients_fault() {
    local(async {
        let upstream = server::raw(|mut stream| async move {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
        });
        let setup = Setup::to(upstream.await);
        let request =
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nabc\r\n";
        assert_eq!(status_of(setup, request).await, 400);
    });
}

#[test]
fn a_request_that_could_have_a_body_says_that_it_has_none() {
    local(async {
        let world = Setup::to(server::echo_head().await).start().await;
        let mut client = Client::connect(world.address).await;
        for (method, length) in [("POST", Some("0")), ("GET", None)] {
            client.send(&format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            assert_eq!(header(client.answer().await.text(), "content-length"), length);
        }
    });
}
