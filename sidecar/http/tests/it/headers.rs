//! What routes change, and where they send copies.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Empty};
use weft_model::{
    AppendAction, ClusterChoice, HeaderMutations, HeaderSet, HeaderTemplate, HostRewrite, Mirror,
    PathRewrite, WeightedCluster, WeightedClusters,
};
use weft_telemetry::TextFormat;

use crate::client::{self, Client};
use crate::server::{self, header};
use crate::world::{Setup, forward, local};

fn set(name: &'static str, format: &str, action: AppendAction) -> HeaderSet {
    HeaderSet {
        name: HeaderName::from_static(name),
        value: HeaderTemplate::Format(Arc::new(TextFormat::parse(format).unwrap())),
        action,
        keep_empty: false,
    }
}

fn overwrite(name: &'static str, value: &'static str) -> HeaderMutations {
    let set = HeaderSet {
        name: HeaderName::from_static(name),
        value: HeaderTemplate::Fixed(HeaderValue::from_static(value)),
        action: AppendAction::OverwriteIfExistsOrAdd,
        keep_empty: false,
    };
    HeaderMutations { remove: Vec::new(), set: vec![set] }
}

#[test]
fn the_least_specific_change_comes_last_unless_configured() {
    local(async {
        for (most_specific_wins, expected) in [(false, "table"), (true, "route")] {
            let mut setup = Setup::to(server::echo_head().await);
            setup.first_route().request_headers = overwrite("x-level", "route");
            setup.first_route().response_headers = overwrite("x-level", "route");
            setup.host.request_headers = overwrite("x-level", "host");
            setup.host.response_headers = overwrite("x-level", "host");
            setup.routes.request_headers = overwrite("x-level", "table");
            setup.routes.response_headers = overwrite("x-level", "table");
            setup.routes.most_specific_wins = most_specific_wins;
            let world = setup.start().await;
            let answer = Client::connect(world.address).await.get("/").await;
            assert_eq!(header(answer.text(), "x-level"), Some(expected));
            assert_eq!(answer.header("x-level"), Some(expected));
        }
    });
}

#[test]
fn values_are_filled_in_and_headers_removed() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.first_route().request_headers = HeaderMutations {
            remove: vec![HeaderName::from_static("x-old")],
            set: vec![
                set(
                    "x-new",
                    "from %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% asking %REQ(x-what)%",
                    AppendAction::AppendIfExistsOrAdd,
                ),
                set("x-absent", "x", AppendAction::OverwriteIfExists),
                set("host", "other.com", AppendAction::OverwriteIfExistsOrAdd),
            ],
        };
        setup.first_route().response_headers = HeaderMutations {
            remove: Vec::new(),
            set: vec![set(
                "x-answer",
                "%RESPONSE_CODE% to %REQ(x-what)%",
                AppendAction::AddIfAbsent,
            )],
        };
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\nx-old: 1\r\nx-what: tea\r\n\r\n").await;
        let answer = client.answer().await;
        let sent = |name| header(answer.text(), name);
        assert_eq!(sent("x-new"), Some("from 127.0.0.1 asking tea"));
        assert_eq!((sent("x-old"), sent("x-absent")), (None, None));
        assert_eq!(sent("host"), Some("other.com"));
        assert_eq!(answer.header("x-answer"), Some("200 to tea"));
    });
}

#[test]
fn paths_and_hosts_are_rewritten() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.action().path = PathRewrite::Prefix { matched: Some(4), with: "/new".into() };
        setup.action().host = HostRewrite::Literal("inside.local".into());
        setup.action().append_x_forwarded_host = true;
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/old/x?q").await;
        assert!(answer.text().starts_with("GET /new/x?q "), "{}", answer.text());
        let sent = |name| header(answer.text(), name);
        assert_eq!(sent("x-envoy-original-path"), Some("/old/x?q"));
        assert_eq!(sent("host"), Some("inside.local"));
        assert_eq!(sent("x-forwarded-host"), Some("example.com"));
    });
}

#[test]
fn regular_expressions_rewrite_paths() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.action().path = PathRewrite::Regex {
            pattern: regex::Regex::new("^/service/([^/]+)(/.*)$").unwrap(),
            substitution: "${2}/instance/${1}".into(),
        };
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/service/foo/v1/api").await;
        assert!(answer.text().starts_with("GET /v1/api/instance/foo "), "{}", answer.text());
    });
}

#[test]
fn weights_decide_between_clusters() {
    local(async {
        let mut setup = Setup::new();
        let mut clusters = Vec::new();
        for (name, weight) in [("a", 90u32), ("b", 10)] {
            let upstream = server::raw(move |mut stream| async move {
                while server::read_head(&mut stream).await.is_some() {
                    server::respond(&mut stream, "200 OK", name).await;
                }
            });
            setup.cluster(name, &[upstream.await]);
            clusters.push(WeightedCluster {
                cluster: setup.slot(name),
                weight,
                request_headers: HeaderMutations::default(),
                response_headers: overwrite("x-cluster", name),
                host_rewrite: None,
                labels: None,
            });
        }
        setup
            .rule("/", forward(ClusterChoice::Weighted(WeightedClusters { clusters, total: 100 })));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        let mut b = 0;
        for _ in 0..500 {
            let answer = client.get("/").await;
            assert_eq!(answer.header("x-cluster"), Some(answer.text()));
            b += usize::from(answer.text() == "b");
        }
        assert!((20..90).contains(&b), "{b} of 500 to the cluster of weight 10");
    });
}

#[test]
fn a_header_can_name_the_cluster() {
    local(async {
        let mut setup = Setup::new();
        setup.cluster("named", &[server::echo_head().await]);
        let choice = ClusterChoice::Header(HeaderName::from_static("x-cluster"));
        setup.rule("/", forward(choice));
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\nx-cluster: named\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 200);
        client.send("GET / HTTP/1.1\r\nhost: a\r\nx-cluster: other\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 503);
    });
}

#[test]
fn mirrors_get_a_copy_with_its_body() {
    local(async {
        let copies: Rc<RefCell<Vec<String>>> = Rc::default();
        let seen = Rc::clone(&copies);
        let shadow = server::raw(move |mut stream| {
            let seen = Rc::clone(&seen);
            async move {
                while let Some(head) = server::read_head(&mut stream).await {
                    let body = server::read_body(&mut stream, &head).await;
                    seen.borrow_mut().push(head + &String::from_utf8(body).unwrap());
                    server::respond(&mut stream, "500 Ignored", "").await;
                }
            }
        });
        let mut setup = Setup::to(server::echo_body().await);
        setup.cluster("shadow", &[shadow.await]);
        let cluster = setup.slot("shadow");
        setup.action().mirrors = vec![Mirror { cluster, fraction: None, keep_host: false }];
        let world = setup.start().await;
        let mut client = Client::connect(world.address).await;
        client.send("POST /m HTTP/1.1\r\nhost: a:81\r\ncontent-length: 4\r\n\r\nbody").await;
        assert_eq!(client.answer().await.text(), "body");
        assert_eq!(client.get("/g").await.status(), 200);
        while copies.borrow().len() < 2 {
            tokio::task::yield_now().await;
        }
        let copies = copies.borrow();
        assert!(copies[0].starts_with("POST /m ") && copies[0].ends_with("\r\n\r\nbody"));
        assert_eq!(header(&copies[0], "host"), Some("a-shadow:81"));
        assert!(copies[1].starts_with("GET /g "));
    });
}

#[test]
fn a_rewritten_host_is_kept_in_a_header() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.action().host = HostRewrite::Literal("new.example".into());
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!(header(answer.text(), "host"), Some("new.example"));
        assert_eq!(header(answer.text(), "x-envoy-original-host"), Some("example.com"));
    });
}

#[test]
fn a_header_that_is_missing_leaves_nothing() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.first_route().request_headers.set = vec![
            set("x-nothing", "%REQ(x-missing)%", AppendAction::OverwriteIfExistsOrAdd),
            set("x-some", "a%REQ(x-missing)%b", AppendAction::AddIfAbsent),
        ];
        let world = setup.start().await;
        let answer = Client::connect(world.address).await.get("/").await;
        assert_eq!(header(answer.text(), "x-nothing"), None);
        assert_eq!(header(answer.text(), "x-some"), Some("ab"));
    });
}

#[test]
fn cookies_of_http_2_are_one_header_for_http_1() {
    local(async {
        let world = Setup::to(server::echo_head().await).start().await;
        let mut sender = client::http2(world.address).await;
        let request = Request::get("http://a/").header("cookie", "a=1").header("cookie", "b=2");
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = client::send(&mut sender, request).await;
        let head = answer.into_body().collect().await.unwrap().to_bytes();
        let head = std::str::from_utf8(&head).unwrap();
        let cookies = head.lines().filter(|line| line.starts_with("cookie: "));
        assert_eq!(cookies.collect::<Vec<_>>(), ["cookie: a=1; b=2"]);
    });
}
