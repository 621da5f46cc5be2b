use std::sync::Arc;

use http::{Request, Response};
use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::health_check::v3::HealthCheck as PbFilter;

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, answer_of, run, stream};

fn compile(more: &str) -> Result<Arc<dyn HttpFilter>, String> {
    let yaml =
        format!("{{ {more} headers: [{{ name: ':path', string_match: {{ exact: /health }} }}] }}");
    let config: PbFilter = weft_xds_proto::from_yaml(&yaml).expect("it is a filter");
    match config::compile(&pack(&config), &mut Fixture::default().cx()) {
        Ok(HttpFilterKind::Filter(filter)) => Ok(filter),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

async fn ask(filter: &dyn HttpFilter, path: &str, upstream: u16) -> Option<u16> {
    let mut cx = stream(Protocol::Http11);
    let mut head = Request::get(path).body(()).expect("a request").into_parts().0;
    if let Some(reply) = answer_of(filter.request(&mut cx, &mut head, None)).await {
        return Some(reply.status.as_u16());
    }
    let response = Response::builder().status(upstream).body(()).expect("a response");
    filter.response(&mut cx, &mut response.into_parts().0, None);
    None
}

#[test]
fn checks_are_answered_here() {
    run(async {
        let filter = compile("pass_through_mode: false,").expect("it is right");
        assert_eq!(ask(&*filter, "/health", 500).await, Some(200));
        assert_eq!(ask(&*filter, "/other", 500).await, None);
    });
}

#[test]
fn the_upstreams_answer_holds_for_a_while() {
    run(async {
        let filter = compile("pass_through_mode: true, cache_time: 3600s,").expect("it is right");
        assert_eq!(ask(&*filter, "/other", 200).await, None);
        assert_eq!(ask(&*filter, "/health", 503).await, None);
        assert_eq!(ask(&*filter, "/health", 200).await, Some(503));
        let filter = compile("pass_through_mode: true,").expect("it is right");
        assert_eq!(ask(&*filter, "/health", 503).await, None);
        assert_eq!(ask(&*filter, "/health", 503).await, None);
    });
}

#[test]
fn a_wrong_field_is_named() {
    for (more, wanted) in [
        ("", "pass_through_mode: is required"),
        (
            "pass_through_mode: false, cache_time: 1s,",
            "cache_time: goes only with pass_through_mode",
        ),
    ] {
        assert_eq!(compile(more).err().as_deref(), Some(wanted));
    }
}
