use http::{Request, Response};
use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::header_to_metadata::v3::Config;

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, stream};

fn compile(yaml: &str) -> Result<std::sync::Arc<dyn HttpFilter>, String> {
    let config: Config = weft_xds_proto::from_yaml(yaml).expect("it is a filter");
    match config::compile(&pack(&config), &mut Fixture::default().cx()) {
        Ok(HttpFilterKind::Filter(filter)) => Ok(filter),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn headers_and_cookies_become_metadata() {
    let filter = compile(
        r"
        request_rules:
        - header: x-v
          on_header_present: { metadata_namespace: hm, key: v, type: NUMBER }
          on_header_missing: { metadata_namespace: hm, key: v, value: none }
          remove: true
        - { header: x-no, on_header_missing: { metadata_namespace: hm, key: no, value: none } }
        - { cookie: c, on_header_present: { metadata_namespace: hm, key: c, encode: BASE64 } }
        - header: x-path
          on_header_present:
            metadata_namespace: hm
            key: first
            regex_value_rewrite: { pattern: { regex: '^/([^/]+)/.*$' }, substitution: '\1' }
        response_rules:
        - { header: x-a, on_header_present: { key: a } }
        ",
    )
    .expect("it is right");
    let request = Request::builder().header("x-v", "5.5").header("cookie", "a=b; c=aGk=");
    let request = request.header("x-path", "/shop/cart").body(());
    let (mut cx, mut head) = (stream(Protocol::Http11), request.expect("a request").into_parts().0);
    drop(filter.request(&mut cx, &mut head, None));
    let response = Response::builder().header("x-a", "1").header("x-a", "2").body(());
    let mut response = response.expect("a response").into_parts().0;
    filter.response(&mut cx, &mut response, None);
    let said = cx.annotations.as_ref().expect("it said something");
    let json = |name: &str| serde_json::to_string(&said.namespace(name)).expect("JSON");
    assert_eq!(json("hm"), r#"{"c":"hi","first":"shop","no":"none","v":5.5}"#);
    assert_eq!(json("envoy.filters.http.header_to_metadata"), r#"{"a":"1,2"}"#);
    assert!(!head.headers.contains_key("x-v"));
}

#[test]
fn a_wrong_rule_is_named() {
    let table = [
        (
            "request_rules: [{ header: a }]",
            "request_rules[0]: has neither on_header_present nor on_header_missing",
        ),
        (
            "request_rules: [{ on_header_present: { key: k } }]",
            "request_rules[0]: names neither header nor cookie",
        ),
        (
            "response_rules: [{ header: a, on_header_missing: { key: k } }]",
            "response_rules[0].on_header_missing.value: is required",
        ),
    ];
    for (yaml, wanted) in table {
        assert_eq!(compile(yaml).err().as_deref(), Some(wanted));
    }
}
