use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tonic::Status;
use weft_filter_api::{MessageBody, Protocol};
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::ext_authz::v3::{
    ExtAuthz as PbFilter, ExtAuthzPerRoute,
};
use weft_xds_proto::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use weft_xds_proto::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, Scripted, Server, answer_of, run, stream};

fn compile(fixture: &Fixture, yaml: &str) -> Result<Arc<dyn HttpFilter>, String> {
    let config: PbFilter = weft_xds_proto::from_yaml(yaml).expect("it is a filter");
    match config::compile(&pack(&config), &mut fixture.cx()) {
        Ok(HttpFilterKind::Filter(filter)) => Ok(filter),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn per_route(yaml: &str) -> RouteFilterConfig {
    let config: ExtAuthzPerRoute = weft_xds_proto::from_yaml(yaml).expect("it is right");
    config::per_route(&pack(&config), &mut Fixture::default().cx()).expect("it is right")
}

fn head() -> RequestHead {
    Request::post("/buy?what=tea&secret=1")
        .header("host", "shop.example")
        .header("x-user", "ann")
        .header("x-internal", "1")
        .header("authorization", "Bearer t")
        .body(())
        .expect("a request")
        .into_parts()
        .0
}

/// Answers every check alike and keeps what it was asked.
struct Judge {
    answer: CheckResponse,
    asked: Arc<Mutex<Option<CheckRequest>>>,
}

#[tonic::async_trait]
impl Authorization for Judge {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, Status> {
        *self.asked.lock().expect("it is whole") = Some(request.into_inner());
        if self.answer.status.as_ref().is_some_and(|status| status.code == 13) {
            return Err(Status::internal("broken"));
        }
        Ok(tonic::Response::new(self.answer.clone()))
    }
}

async fn judge(yaml: &str) -> (Server, Arc<Mutex<Option<CheckRequest>>>) {
    let answer: CheckResponse = weft_xds_proto::from_yaml(yaml).expect("it is an answer");
    let asked = Arc::default();
    let service = AuthorizationServer::new(Judge { answer, asked: Arc::clone(&asked) });
    (Server::start(tonic::service::Routes::new(service)).await, asked)
}

const GRPC: &str = "grpc_service: { envoy_grpc: { cluster_name: judge }, timeout: 5s }";

#[test]
fn a_grpc_service_sees_the_request_and_changes_it() {
    run(async {
        let (server, asked) = judge(
            "{ status: { code: 0 }, ok_response: {
                 headers: [{ header: { key: x-user, value: bob }, append: true },
                           { header: { key: x-new, value: '50%' } },
                           { header: { key: x-internal, value: '2' }, append: false }],
                 headers_to_remove: [authorization],
                 query_parameters_to_set: [{ key: what, value: coffee }],
                 query_parameters_to_remove: [secret],
                 response_headers_to_add: [{ header: { key: x-judged, value: 'yes' } }] },
               dynamic_metadata: { tier: gold } }",
        )
        .await;
        let fixture = Fixture::default();
        let filter = compile(
            &fixture,
            &format!(
                "{{ {GRPC}, with_request_body: {{ max_request_bytes: 4, allow_partial_message: true }},
                    clear_route_cache: true }}"
            ),
        )
        .expect("it is right");
        let route = per_route("{ check_settings: { context_extensions: { shop: 'a' } } }");
        let (mut cx, mut head) = (stream(Protocol::Http11), head());
        cx.opened = Some(server.io(MessageBody::full(Bytes::from_static(b"abcdef"))));
        let reply = answer_of(filter.request(&mut cx, &mut head, Some(&route))).await;
        assert!(reply.is_none(), "{reply:?}");
        let asked = asked.lock().expect("it is whole").take().expect("it was asked");
        let attributes = asked.attributes.expect("they are there");
        assert_eq!(attributes.context_extensions["shop"], "a");
        let http = attributes.request.and_then(|request| request.http).expect("it is HTTP");
        assert_eq!((http.method.as_str(), http.host.as_str()), ("POST", "shop.example"));
        assert_eq!((http.path.as_str(), http.body.as_str()), ("/buy?what=tea&secret=1", "abcd"));
        assert_eq!(http.headers[":authority"], "shop.example");
        assert_eq!(http.headers["x-envoy-auth-partial-body"], "true");
        assert_eq!(http.headers["x-user"], "ann");
        assert_eq!(head.headers["x-user"], "ann,bob");
        assert_eq!(
            (&head.headers["x-new"], &head.headers["x-internal"]),
            (&HeaderValue::from_static("50%"), &HeaderValue::from_static("2"),)
        );
        assert!(!head.headers.contains_key("authorization"));
        assert_eq!(head.uri.query(), Some("what=coffee"));
        assert!(cx.route_changed);
        let said = cx.annotations.as_ref().and_then(|all| all.find(NAMESPACE, &["tier"]));
        assert_eq!(said, Some(&serde_json::json!("gold")));
        let whole = cx.io().request.whole().expect("it was not touched");
        assert_eq!(whole, "abcdef");
        let mut response = Response::new(()).into_parts().0;
        answer_of(filter.response(&mut cx, &mut response, Some(&route))).await;
        assert_eq!(response.headers["x-judged"], "yes");
        assert_eq!(counter(&fixture, "ok"), 1);
    });
}

fn counter(fixture: &Fixture, name: &str) -> u64 {
    let name = format!("http.in.ext_authz.{name}");
    let all = fixture.counters();
    all.iter().find(|(known, _)| *known == name).expect("it is registered").1
}

#[test]
fn a_denial_has_the_services_words() {
    run(async {
        let (server, _) = judge(
            "{ status: { code: 7 }, denied_response: { status: { code: 402 }, body: pay,
                 headers: [{ header: { key: x-why, value: poor } }] } }",
        )
        .await;
        let fixture = Fixture::default();
        let filter = compile(&fixture, &format!("{{ {GRPC} }}")).expect("it is right");
        let mut cx = stream(Protocol::Http11);
        cx.opened = Some(server.io(MessageBody::default()));
        let reply = answer_of(filter.request(&mut cx, &mut head(), None)).await;
        let reply = reply.expect("it is refused");
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (402, &b"pay"[..]));
        assert_eq!(
            (&*reply.details, &reply.headers["x-why"]),
            ("ext_authz_denied", &HeaderValue::from_static("poor"),)
        );
        assert!(cx.flags.has(ResponseFlag::UnauthorizedExternalService));
        assert_eq!(counter(&fixture, "denied"), 1);
        let mut cx = stream(Protocol::Http11);
        let disabled = per_route("{ disabled: true }");
        let reply = answer_of(filter.request(&mut cx, &mut head(), Some(&disabled))).await;
        assert!(reply.is_none());
    });
}

#[test]
fn a_service_that_fails_lets_pass_or_not_as_configured() {
    run(async {
        let (server, _) = judge("{ status: { code: 13 } }").await;
        let fixture = Fixture::default();
        let ask = async |more: &str| {
            let yaml = format!("{{ {GRPC}{more} }}");
            let filter = compile(&fixture, &yaml).expect("it is right");
            let (mut cx, mut head) = (stream(Protocol::Http11), head());
            cx.opened = Some(server.io(MessageBody::default()));
            let reply = answer_of(filter.request(&mut cx, &mut head, None)).await;
            (reply.map(|reply| reply.status.as_u16()), head.headers.contains_key(&FAILED_OPEN))
        };
        assert_eq!(ask("").await, (Some(403), false));
        assert_eq!(ask(", status_on_error: { code: 503 }").await, (Some(503), false));
        let open = ", failure_mode_allow: true, failure_mode_allow_header_add: true";
        assert_eq!(ask(open).await, (None, true));
        assert_eq!((counter(&fixture, "error"), counter(&fixture, "failure_mode_allowed")), (3, 1));
    });
}

fn http_filter(more: &str) -> Arc<dyn HttpFilter> {
    let yaml = format!(
        "{{ http_service: {{ path_prefix: /check, {more}
             server_uri: {{ uri: 'http://judge.example', cluster: judge, timeout: 1s }} }},
           allowed_headers: {{ patterns: [{{ exact: x-user }}] }} }}"
    );
    compile(&Fixture::default(), &yaml).expect("it is right")
}

#[test]
fn an_http_service_sees_what_it_may_and_changes_what_it_may() {
    run(async {
        let service = Scripted::new(|cluster, request| {
            assert_eq!((cluster, request.method().as_str()), ("judge", "POST"));
            assert_eq!(request.uri(), "/check/buy?what=tea&secret=1");
            let headers = request.headers();
            assert_eq!(headers["host"], "shop.example");
            assert_eq!(
                (&headers["x-user"], &headers["x-key"]),
                (&HeaderValue::from_static("ann"), &HeaderValue::from_static("k"),)
            );
            assert_eq!(headers["authorization"], "Bearer t");
            assert!(!headers.contains_key("x-internal"));
            let answer = Response::builder()
                .header("x-tier", "gold")
                .header("x-user", "bob")
                .header("x-other", "1")
                .header("x-envoy-auth-headers-to-remove", "authorization, x-internal")
                .header("set-cookie", "a=b");
            Ok(answer.body(Bytes::new()).expect("an answer"))
        });
        let filter = http_filter(
            "authorization_request: { headers_to_add: [{ key: x-key, value: k }] },
             authorization_response: {
               allowed_upstream_headers: { patterns: [{ exact: x-tier }] },
               allowed_upstream_headers_to_append: { patterns: [{ exact: x-user }] },
               allowed_client_headers_on_success: { patterns: [{ exact: set-cookie }] },
               dynamic_metadata_from_headers: { patterns: [{ exact: x-tier }] } },",
        );
        let (mut cx, mut head) = (stream(Protocol::Http11), head());
        cx.opened = Some(service.io(MessageBody::default()));
        assert!(answer_of(filter.request(&mut cx, &mut head, None)).await.is_none());
        assert_eq!(
            (&head.headers["x-tier"], &head.headers["x-user"]),
            (&HeaderValue::from_static("gold"), &HeaderValue::from_static("ann,bob"),)
        );
        assert!(!head.headers.contains_key("x-other"));
        assert!(!head.headers.contains_key("authorization"));
        let mut response = Response::new(()).into_parts().0;
        answer_of(filter.response(&mut cx, &mut response, None)).await;
        assert_eq!(response.headers["set-cookie"], "a=b");
    });
}

#[test]
fn an_http_denial_is_passed_on_and_a_broken_service_is_an_error() {
    run(async {
        let ask = async |status: u16, more: &str| {
            let service = Scripted::new(move |_, _| {
                let answer = Response::builder().status(status).header("x-secret", "s");
                let answer = answer.header("www-authenticate", "Basic");
                Ok(answer.body(Bytes::from_static(b"no")).expect("an answer"))
            });
            let filter = http_filter(more);
            let mut cx = stream(Protocol::Http11);
            cx.opened = Some(service.io(MessageBody::default()));
            let reply = answer_of(filter.request(&mut cx, &mut head(), None)).await;
            let reply = reply.expect("it is refused");
            let names = |headers: &HeaderMap| headers.len();
            (reply.status.as_u16(), names(&reply.headers), reply.details.into_owned())
        };
        assert_eq!(ask(401, "").await, (401, 2, "ext_authz_denied".into()));
        let shown =
            "authorization_response: { allowed_client_headers: { patterns: [{ exact: x }] } },";
        assert_eq!(ask(401, shown).await, (401, 1, "ext_authz_denied".into()));
        assert_eq!(ask(500, "").await, (403, 0, "ext_authz_error".into()));
    });
}

#[test]
fn a_body_beyond_the_limit_is_not_asked_about() {
    run(async {
        let filter = compile(
            &Fixture::default(),
            &format!("{{ {GRPC}, with_request_body: {{ max_request_bytes: 2 }} }}"),
        )
        .expect("it is right");
        let mut cx = stream(Protocol::Http11);
        let service = Scripted::new(|_, _| panic!("it is asked"));
        cx.opened = Some(service.io(MessageBody::full(Bytes::from_static(b"abc"))));
        let reply = answer_of(filter.request(&mut cx, &mut head(), None)).await;
        assert_eq!(reply.expect("it is refused").status.as_u16(), 413);
    });
}

#[test]
fn a_wrong_field_is_named() {
    let table = [
        ("{}", "grpc_service: is required"),
        (
            "{ grpc_service: { google_grpc: { target_uri: a, stat_prefix: a } } }",
            "grpc_service.google_grpc: is not supported yet; leave it out",
        ),
        (
            "{ http_service: { server_uri: { uri: /a, cluster: b, timeout: 1s } } }",
            "http_service.server_uri.uri: \"/a\" is not a URI with a host",
        ),
    ];
    for (yaml, wanted) in table {
        assert_eq!(compile(&Fixture::default(), yaml).err().as_deref(), Some(wanted));
    }
}
