use http::{Request, Response};
use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::header_mutation::v3::{
    HeaderMutation as PbFilter, HeaderMutationPerRoute,
};

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, stream};

#[test]
fn requests_and_responses_are_changed_in_order() {
    let filter: PbFilter = weft_xds_proto::from_yaml(
        "
        mutations:
          request_mutations:
          - remove: x-gone
          - append: { header: { key: x-a, value: own }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }
          response_mutations:
          - remove_on_match: { key_matcher: { prefix: x-internal- } }
        most_specific_header_mutations_wins: true
        ",
    )
    .expect("it is right");
    let route: HeaderMutationPerRoute = weft_xds_proto::from_yaml(
        "mutations: { request_mutations: [{ append: { header: { key: x-a, value: route } } }] }",
    )
    .expect("it is right");
    let Ok(HttpFilterKind::Filter(filter)) =
        config::compile(&pack(&filter), &mut Fixture::default().cx())
    else {
        panic!("it is a filter")
    };
    let route =
        config::per_route(&pack(&route), &mut Fixture::default().cx()).expect("it is right");
    let request = Request::builder().header("x-gone", "1").header("x-a", "client").body(());
    let mut head = request.expect("it is a request").into_parts().0;
    let mut cx = stream(Protocol::Http11);
    assert!(matches!(filter.request(&mut cx, &mut head, Some(&route)), Flow::Continue));
    let values: Vec<_> = head.headers.get_all("x-a").iter().collect();
    assert_eq!(values, ["own", "route"]);
    assert!(!head.headers.contains_key("x-gone"));
    let response = Response::builder().header("x-internal-id", "1").header("x-b", "2").body(());
    let mut response = response.expect("it is a response").into_parts().0;
    filter.response(&mut cx, &mut response, Some(&route));
    assert_eq!(response.headers.len(), 1);
}

#[test]
fn values_are_made_of_both_heads() {
    let filter: PbFilter = weft_xds_proto::from_yaml(
        "
        mutations:
          request_mutations:
          - append: { header: { key: x-path, value: '%REQ(:METHOD)% %REQ(:PATH)%' } }
          response_mutations:
          - append: { header: { key: x-what, value: '%RESPONSE_CODE% %RESP(x-b)% %REQ(x-a)%' } }
        ",
    )
    .expect("it is right");
    let Ok(HttpFilterKind::Filter(filter)) =
        config::compile(&pack(&filter), &mut Fixture::default().cx())
    else {
        panic!("it is a filter")
    };
    let request = Request::builder().uri("/x?y").header("x-a", "client").body(());
    let mut head = request.expect("it is a request").into_parts().0;
    let mut cx = stream(Protocol::Http11);
    assert!(matches!(filter.request(&mut cx, &mut head, None), Flow::Continue));
    assert_eq!(head.headers["x-path"], "GET /x?y");
    let response = Response::builder().status(418).header("x-b", "2").body(());
    let mut response = response.expect("it is a response").into_parts().0;
    filter.response(&mut cx, &mut response, None);
    assert_eq!(response.headers["x-what"], "418 2 client");
}
