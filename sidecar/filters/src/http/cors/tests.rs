use std::sync::Arc;

use http::{Request, Response};
use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;

use super::*;
use crate::testing::{Fixture, stream};

fn policy() -> RouteFilterConfig {
    let policy: CorsPolicy = weft_xds_proto::from_yaml(
        "
        allow_origin_string_match: [{ exact: 'https://a.test' }]
        allow_methods: 'GET,PUT'
        allow_headers: '*'
        expose_headers: x-seen
        max_age: '600'
        allow_credentials: true
        forward_not_matching_preflights: false
        ",
    )
    .expect("the policy is right");
    config::per_route(&pack(&policy), &mut Fixture::default().cx()).expect("the policy compiles")
}

fn preflight(origin: &str) -> RequestHead {
    let request = Request::builder()
        .method("OPTIONS")
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "x-a");
    request.body(()).expect("it is a request").into_parts().0
}

#[test]
fn a_preflight_of_an_allowed_origin_is_answered() {
    let (mut cx, policy) = (stream(Protocol::Http11), policy());
    let mut head = preflight("https://a.test");
    let Flow::Reply(reply) = Cors.request(&mut cx, &mut head, Some(&policy)) else {
        panic!("it is answered")
    };
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["access-control-allow-origin"], "https://a.test");
    assert_eq!(reply.headers["access-control-allow-methods"], "GET,PUT");
    assert_eq!(reply.headers["access-control-allow-headers"], "x-a");
    assert_eq!(reply.headers["access-control-max-age"], "600");
    assert_eq!(reply.headers["access-control-allow-credentials"], "true");
}

#[test]
fn a_preflight_of_a_foreign_origin_gets_no_permission() {
    let (mut cx, policy) = (stream(Protocol::Http11), policy());
    let mut head = preflight("https://b.test");
    let Flow::Reply(reply) = Cors.request(&mut cx, &mut head, Some(&policy)) else {
        panic!("it is answered")
    };
    assert!(reply.headers.is_empty());
}

#[test]
fn a_response_is_marked_for_the_origin_that_asked() {
    let (mut cx, policy) = (stream(Protocol::Http2), policy());
    let request = Request::builder().header("origin", "https://a.test").body(());
    let mut head = request.expect("it is a request").into_parts().0;
    assert!(matches!(Cors.request(&mut cx, &mut head, Some(&policy)), Flow::Continue));
    let mut response = Response::new(()).into_parts().0;
    Cors.response(&mut cx, &mut response, Some(&policy));
    assert_eq!(response.headers["access-control-allow-origin"], "https://a.test");
    assert_eq!(response.headers["access-control-expose-headers"], "x-seen");
}

#[test]
fn a_route_without_policy_is_left_alone() {
    let mut cx = stream(Protocol::Http11);
    let mut head = preflight("https://a.test");
    assert!(matches!(Cors.request(&mut cx, &mut head, None), Flow::Continue));
    let other: RouteFilterConfig = Arc::new(());
    assert!(matches!(Cors.request(&mut cx, &mut head, Some(&other)), Flow::Continue));
}
