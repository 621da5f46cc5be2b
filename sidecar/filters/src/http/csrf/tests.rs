use http::Request;
use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::csrf::v3::CsrfPolicy;

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, stream};

#[test]
fn requests_that_change_something_have_to_come_from_their_own_site() {
    let fixture = Fixture::default();
    let config: CsrfPolicy = weft_xds_proto::from_yaml(
        "{ filter_enabled: { default_value: { numerator: 100 } },
           additional_origins: [{ exact: good.example }] }",
    )
    .expect("it is a policy");
    let Ok(HttpFilterKind::Filter(filter)) = config::compile(&pack(&config), &mut fixture.cx())
    else {
        panic!("it is a filter")
    };
    let table = [
        ("POST", None, None, false),
        ("POST", Some("http://shop:80"), None, true),
        ("PATCH", Some("http://evil"), None, false),
        ("POST", Some("https://good.example"), None, true),
        ("POST", Some("null"), Some("http://shop:80/x"), false),
        ("DELETE", None, Some("http://shop:80/x?y"), true),
        ("GET", Some("http://evil"), None, true),
    ];
    for (method, origin, referer, passes) in table {
        let mut request = Request::builder().method(method).uri("/").header("host", "shop:80");
        for (name, value) in [("origin", origin), ("referer", referer)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let mut head = request.body(()).expect("a request").into_parts().0;
        let mut cx = stream(Protocol::Http11);
        let flow = filter.request(&mut cx, &mut head, None);
        assert_eq!(matches!(flow, Flow::Continue), passes, "{method} {origin:?} {referer:?}");
    }
    let wanted = [("missing_source_origin", 2), ("request_invalid", 1), ("request_valid", 3)];
    let wanted = wanted.map(|(name, count)| (format!("http.in.csrf.{name}"), count));
    assert_eq!(fixture.counters(), wanted);
}
