use http::Request;
use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::fault::v3::HttpFault;

use super::*;
use crate::testing::{Fixture, stream};

fn fault(yaml: &str) -> Result<RouteFilterConfig, String> {
    let fault: HttpFault = weft_xds_proto::from_yaml(yaml).expect("it is a fault");
    config::per_route(&pack(&fault), &mut Fixture::default().cx())
        .map_err(|error| error.to_string())
}

fn head() -> RequestHead {
    Request::builder().header("x-user", "ann").body(()).expect("it is a request").into_parts().0
}

#[test]
fn an_abort_replies_with_its_status() {
    let route = fault("abort: { http_status: 418, percentage: { numerator: 100 } }");
    let (mut cx, mut head) = (stream(Protocol::Http11), head());
    let (filter, route) = (Fault::default(), route.expect("it is right"));
    let Flow::Reply(reply) = filter.request(&mut cx, &mut head, Some(&route)) else {
        panic!("it is aborted")
    };
    assert_eq!((reply.status.as_u16(), &*reply.details), (418, "fault_filter_abort"));
    assert_eq!(reply.body, "fault filter abort");
}

#[tokio::test(start_paused = true)]
async fn a_delay_waits_and_then_continues() {
    let route = fault("delay: { fixed_delay: 3s, percentage: { numerator: 100 } }");
    let (mut cx, mut head) = (stream(Protocol::Http11), head());
    let (filter, route) = (Fault::default(), route.expect("it is right"));
    let before = tokio::time::Instant::now();
    let Flow::Await(waiting) = filter.request(&mut cx, &mut head, Some(&route)) else {
        panic!("it waits")
    };
    assert!(waiting.await.is_none());
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    assert!(cx.flags.has(ResponseFlag::DelayInjected));
}

#[test]
fn other_requests_pass() {
    let (mut cx, mut head) = (stream(Protocol::Http11), head());
    let filter = Fault::default();
    for yaml in [
        "abort: { http_status: 500, percentage: { numerator: 0 } }",
        "{ abort: { http_status: 500, percentage: { numerator: 100 } },
           headers: [{ name: x-user, string_match: { exact: bob } }] }",
    ] {
        let route = fault(yaml).expect("it is right");
        assert!(matches!(filter.request(&mut cx, &mut head, Some(&route)), Flow::Continue));
    }
}

#[test]
fn a_wrong_field_is_named() {
    let table = [
        ("abort: { http_status: 99 }", "abort.http_status: 99 is not a status from 200 to 599"),
        ("delay: { percentage: { numerator: 1 } }", "delay.fixed_delay: is required"),
        ("max_active_faults: 1", "max_active_faults: is not supported yet; leave it out"),
    ];
    for (yaml, wanted) in table {
        assert_eq!(fault(yaml).err().as_deref(), Some(wanted));
    }
}
