use http::{Request, Response};
use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit as PbFilter;

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, stream};

fn compile(fixture: &Fixture, yaml: &str) -> Result<Arc<dyn HttpFilter>, String> {
    let all = "filter_enabled: { default_value: { numerator: 100 } }";
    let yaml = format!("{{ stat_prefix: rl, {all}, {yaml} }}");
    let config: PbFilter = weft_xds_proto::from_yaml(&yaml).expect("it is a filter");
    match config::compile(&pack(&config), &mut fixture.cx()) {
        Ok(HttpFilterKind::Filter(filter)) => Ok(filter),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn head(user: &str) -> RequestHead {
    Request::builder().uri("/").header("x-user", user).body(()).expect("a request").into_parts().0
}

const ENFORCED: &str = "filter_enforced: { default_value: { numerator: 100 } }";

#[test]
fn requests_beyond_the_bucket_are_refused_and_counted() {
    let fixture = Fixture::default();
    let filter = compile(
        &fixture,
        &format!(
            "token_bucket: {{ max_tokens: 1, fill_interval: 3600s }}, {ENFORCED},
             enable_x_ratelimit_headers: DRAFT_VERSION_03,
             response_headers_to_add: [{{ header: {{ key: x-local, value: 'yes' }} }}]"
        ),
    )
    .expect("it is right");
    let mut cx = stream(Protocol::Http11);
    assert!(matches!(filter.request(&mut cx, &mut head("a"), None), Flow::Continue));
    let mut response = Response::new(()).into_parts().0;
    filter.response(&mut cx, &mut response, None);
    assert_eq!(response.headers["x-ratelimit-limit"], "1");
    assert_eq!(response.headers["x-ratelimit-remaining"], "0");
    let mut cx = stream(Protocol::Http11);
    let Flow::Reply(reply) = filter.request(&mut cx, &mut head("a"), None) else {
        panic!("it is refused")
    };
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (429, &b"local_rate_limited"[..]));
    assert_eq!(
        (reply.details.as_ref(), &reply.headers["x-local"]),
        ("local_rate_limited", &HeaderValue::from_static("yes"))
    );
    assert!(cx.flags.has(ResponseFlag::RateLimited));
    let wanted =
        [("enabled", 2), ("enforced", 1), ("ok", 1), ("rate_limited", 1), ("shadow_mode", 0)];
    let wanted = wanted.map(|(name, n)| (format!("rl.http_local_rate_limit.{name}"), n));
    assert_eq!(fixture.counters(), wanted);
}

#[test]
fn what_is_not_enforced_is_only_marked() {
    let filter = compile(
        &Fixture::default(),
        "token_bucket: { max_tokens: 0, fill_interval: 3600s },
         request_headers_to_add_when_not_enforced: [{ header: { key: x-over, value: '1' } }]",
    )
    .expect("it is right");
    let (mut cx, mut head) = (stream(Protocol::Http11), head("a"));
    assert!(matches!(filter.request(&mut cx, &mut head, None), Flow::Continue));
    assert_eq!(head.headers["x-over"], "1");
}

#[test]
fn descriptors_have_buckets_of_their_own() {
    let filter = compile(
        &Fixture::default(),
        &format!(
            "token_bucket: {{ max_tokens: 100, fill_interval: 3600s }}, {ENFORCED},
             rate_limits: [{{ actions: [{{ request_headers: {{ header_name: x-user, descriptor_key: user }} }}] }}],
             descriptors: [{{ entries: [{{ key: user, value: ann }}],
                              token_bucket: {{ max_tokens: 1, fill_interval: 3600s }} }}]"
        ),
    )
    .expect("it is right");
    let passes = |user: &str| {
        let (mut cx, mut head) = (stream(Protocol::Http11), head(user));
        matches!(filter.request(&mut cx, &mut head, None), Flow::Continue)
    };
    assert!(passes("ann") && !passes("ann"));
    assert!(passes("bob") && passes("bob"));
}

#[test]
fn limits_of_routes_choose_descriptors() {
    let filter = compile(
        &Fixture::default(),
        &format!(
            "token_bucket: {{ max_tokens: 100, fill_interval: 3600s }}, {ENFORCED},
             descriptors: [{{ entries: [{{ key: user, value: ann }}],
                              token_bucket: {{ max_tokens: 1, fill_interval: 3600s }} }}]"
        ),
    )
    .expect("it is right");
    let limit = "actions: [{ request_headers: { header_name: x-user, descriptor_key: user } }]";
    let limit = weft_xds_proto::from_yaml(limit).expect("it is a limit");
    let limits = crate::compile_rate_limits(&[limit], &[], false, "").expect("it is right");
    let passes = |user: &str| {
        let (mut cx, mut head) = (stream(Protocol::Http11), head(user));
        cx.state.insert(weft_filter_api::RouteRateLimits(limits.clone()));
        matches!(filter.request(&mut cx, &mut head, None), Flow::Continue)
    };
    assert!(passes("ann") && !passes("ann"));
    assert!(passes("bob") && passes("bob"));
}

#[test]
fn a_wrong_field_is_named() {
    let table = [
        (
            "token_bucket: { max_tokens: 1, fill_interval: 0.01s }",
            "token_bucket.fill_interval: has to be 50 ms or more",
        ),
        (
            "enable_retry_after_header: true",
            "enable_retry_after_header: is not supported yet; leave it out",
        ),
        (
            "descriptors: [{ entries: [{ key: a, value: b }] }]",
            "descriptors[0].token_bucket: is required",
        ),
    ];
    for (yaml, wanted) in table {
        let error = compile(&Fixture::default(), yaml).err();
        assert_eq!(error.as_deref(), Some(wanted));
    }
}
