use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::set_metadata::v3::Config;

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, stream};

#[test]
fn what_is_there_stays_unless_it_may_be_overwritten() {
    let config: Config = weft_xds_proto::from_yaml(
        "metadata:
         - { metadata_namespace: sm, value: { a: 1, l: [1], o: { x: 1 } } }
         - { metadata_namespace: sm, value: { a: 2, b: 3 } }
         - { metadata_namespace: sm, allow_overwrite: true, value: { a: s, l: [3], o: { z: 3 } } }",
    )
    .expect("it is a filter");
    let Ok(HttpFilterKind::Filter(filter)) =
        config::compile(&pack(&config), &mut Fixture::default().cx())
    else {
        panic!("it is a filter")
    };
    let mut cx = stream(Protocol::Http11);
    let mut head = http::Request::new(()).into_parts().0;
    drop(filter.request(&mut cx, &mut head, None));
    let said = cx.annotations.as_ref().and_then(|all| all.namespace("sm"));
    let said = serde_json::to_string(said.expect("it said something")).expect("JSON");
    assert_eq!(said, r#"{"a":"s","l":[1,3],"o":{"x":1,"z":3}}"#);
}
