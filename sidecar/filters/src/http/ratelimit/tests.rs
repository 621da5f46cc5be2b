use std::sync::Mutex;

use http::{Request, Response};
use tonic::Status;
use weft_filter_api::{MessageBody, Protocol, RouteRateLimits};
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::config::route::v3::RateLimit as PbLimit;
use weft_xds_proto::pb::envoy::extensions::filters::http::ratelimit::v3::RateLimit as PbFilter;
use weft_xds_proto::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};

use super::*;
use crate::HttpFilterKind;
use crate::rate_limits::config::compile_rate_limits;
use crate::testing::{Fixture, Scripted, Server, answer_of, run, stream};

fn compile(fixture: &Fixture, more: &str) -> Arc<dyn HttpFilter> {
    let yaml = format!(
        "{{ domain: shop, timeout: 5s, enable_x_ratelimit_headers: DRAFT_VERSION_03, {more}
           rate_limit_service: {{ grpc_service: {{ envoy_grpc: {{ cluster_name: limits }} }} }} }}"
    );
    let config: PbFilter = weft_xds_proto::from_yaml(&yaml).expect("it is a filter");
    match config::compile(&pack(&config), &mut fixture.cx()) {
        Ok(HttpFilterKind::Filter(filter)) => filter,
        other => panic!("{other:?}"),
    }
}

/// Answers every question alike and keeps it.
struct Counting {
    answer: RateLimitResponse,
    asked: Arc<Mutex<Option<RateLimitRequest>>>,
}

#[tonic::async_trait]
impl RateLimitService for Counting {
    async fn should_rate_limit(
        &self,
        request: tonic::Request<RateLimitRequest>,
    ) -> Result<tonic::Response<RateLimitResponse>, Status> {
        *self.asked.lock().expect("it is whole") = Some(request.into_inner());
        Ok(tonic::Response::new(self.answer.clone()))
    }
}

async fn service(yaml: &str) -> (Server, Arc<Mutex<Option<RateLimitRequest>>>) {
    let answer = weft_xds_proto::from_yaml(yaml).expect("it is an answer");
    let asked = Arc::default();
    let service = RateLimitServiceServer::new(Counting { answer, asked: Arc::clone(&asked) });
    (Server::start(tonic::service::Routes::new(service)).await, asked)
}

fn limits(yaml: &str) -> Vec<PbLimit> {
    weft_xds_proto::from_yaml(yaml).map(|one: PbLimit| vec![one]).expect("it is a limit")
}

/// A stream whose route has a limit by user and one of another stage.
fn limited() -> StreamCx {
    let mut cx = stream(Protocol::Http11);
    let mut route = limits(
        "actions: [{ request_headers: { header_name: x-user, descriptor_key: user } },
                   { destination_cluster: {} }, { remote_address: {} }]",
    );
    route.extend(limits("{ stage: 1, actions: [{ generic_key: { descriptor_value: late } }] }"));
    let host = limits("actions: [{ generic_key: { descriptor_value: host } }]");
    let limits = compile_rate_limits(&route, &host, false, "me").expect("it is right");
    cx.state.insert(RouteRateLimits(limits));
    cx.cluster = Some("tea".into());
    cx
}

fn head() -> RequestHead {
    Request::get("/").header("x-user", "ann").body(()).expect("a request").into_parts().0
}

#[test]
fn a_service_that_agrees_is_told_who_asks_and_adds_its_headers() {
    run(async {
        let (server, asked) = service(
            "{ overall_code: OK, request_headers_to_add: [{ key: x-seen, value: 'yes' }],
               statuses: [
                 { code: OK, limit_remaining: 7, duration_until_reset: 30s,
                   current_limit: { requests_per_unit: 10, unit: MINUTE, name: users } },
                 { code: OK, limit_remaining: 90, current_limit: { requests_per_unit: 100, unit: HOUR } }] }",
        )
        .await;
        let fixture = Fixture::default();
        let filter = compile(&fixture, "");
        let (mut cx, mut head) = (limited(), head());
        cx.opened = Some(server.io(MessageBody::default()));
        assert!(answer_of(filter.request(&mut cx, &mut head, None)).await.is_none());
        let asked = asked.lock().expect("it is whole").take().expect("it was asked");
        assert_eq!((asked.domain.as_str(), asked.descriptors.len()), ("shop", 1));
        let entries: Vec<_> = asked.descriptors[0]
            .entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry.value.as_str()))
            .collect();
        let client = ("remote_address", "192.0.2.1");
        assert_eq!(entries, [("user", "ann"), ("destination_cluster", "tea"), client]);
        assert_eq!(head.headers["x-seen"], "yes");
        let mut response = Response::new(()).into_parts().0;
        answer_of(filter.response(&mut cx, &mut response, None)).await;
        assert_eq!(response.headers[&LIMIT], "10, 10;w=60;name=\"users\", 100;w=3600");
        assert_eq!(response.headers[&REMAINING], "7");
        assert_eq!(response.headers[&RESET], "30");
        assert_eq!(fixture.counters(), [("cluster.tea.ratelimit.ok".to_owned(), 1)]);
    });
}

#[test]
fn a_request_over_the_limit_is_refused() {
    run(async {
        let (server, _) = service("{ overall_code: OVER_LIMIT }").await;
        let fixture = Fixture::default();
        let filter = compile(&fixture, "");
        let mut cx = limited();
        cx.opened = Some(server.io(MessageBody::default()));
        let reply = answer_of(filter.request(&mut cx, &mut head(), None)).await;
        let reply = reply.expect("it is refused");
        assert_eq!((reply.status.as_u16(), &*reply.details), (429, "request_rate_limited"));
        assert_eq!(reply.headers["x-envoy-ratelimited"], "true");
        assert!(cx.flags.has(ResponseFlag::RateLimited));
        assert_eq!(fixture.counters(), [("cluster.tea.ratelimit.over_limit".to_owned(), 1)]);
        // Not enforced, it is only counted.
        let filter = compile(&fixture, "filter_enforced: { default_value: { numerator: 0 } },");
        let mut cx = limited();
        cx.opened = Some(server.io(MessageBody::default()));
        assert!(answer_of(filter.request(&mut cx, &mut head(), None)).await.is_none());
    });
}

#[test]
fn a_service_that_fails_lets_pass_or_not_as_configured() {
    run(async {
        let gone = Scripted::new(|name, _| {
            assert_eq!(name, "limits");
            Err(weft_filter_api::CalloutError::NoCluster(name.into()))
        });
        for (more, wanted) in [("", None), ("failure_mode_deny: true,", Some(500))] {
            let filter = compile(&Fixture::default(), more);
            let mut cx = limited();
            cx.opened = Some(gone.io(MessageBody::default()));
            let reply = answer_of(filter.request(&mut cx, &mut head(), None)).await;
            assert_eq!(reply.map(|reply| reply.status.as_u16()), wanted);
        }
    });
}

#[test]
fn a_request_without_descriptors_is_not_asked_about() {
    let filter = compile(&Fixture::default(), "stage: 2,");
    let (mut cx, mut head) = (limited(), head());
    assert!(matches!(filter.request(&mut cx, &mut head, None), Flow::Continue));
}
