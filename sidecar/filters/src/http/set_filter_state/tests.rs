use http::Request;
use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::set_filter_state::v3::Config;

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, stream};

#[test]
fn text_of_the_request_becomes_filter_state() {
    let config: Config = weft_xds_proto::from_yaml(
        "on_request_headers:
         - { object_key: user, factory_key: envoy.string,
             format_string: { text_format_source: { inline_string: 'u-%REQ(x-user)%' } } }
         - { object_key: none, factory_key: envoy.string, skip_if_empty: true,
             format_string: { text_format_source: { inline_string: '%REQ(x-no)%' } } }",
    )
    .expect("it is a filter");
    let Ok(HttpFilterKind::Filter(filter)) =
        config::compile(&pack(&config), &mut Fixture::default().cx())
    else {
        panic!("it is a filter")
    };
    let request = Request::builder().header("x-user", "ann").body(());
    let (mut cx, mut head) = (stream(Protocol::Http11), request.expect("a request").into_parts().0);
    drop(filter.request(&mut cx, &mut head, None));
    let said = cx.annotations.as_ref().expect("it said something");
    assert_eq!(said.state("user"), Some(&serde_json::json!("u-ann")));
    assert_eq!(said.state("none"), None);
}
